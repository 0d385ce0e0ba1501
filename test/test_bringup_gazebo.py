"""What is given to Gazebo, checked against the robot's own description."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin
import pytest
import yaml

from vla_ros.bringup import gazebo
from vla_ros.resources import resource_path
from vla_ros.robots import load_robot

ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")


@pytest.mark.parametrize("name", ROBOTS)
def test_cameras_look_where_the_robot_says(name: str) -> None:
    robot = load_robot(name)
    model = pin.buildModelFromXML(gazebo.robot_description(robot, Path("controllers.yaml")))
    data = model.createData()
    pin.framesForwardKinematics(model, data, pin.randomConfiguration(model))
    for camera in robot.cameras.values():
        parent = data.oMf[model.getFrameId(camera.parent_frame)]
        rotation = pin.Quaternion(np.array(camera.pose.quaternion)).normalized().matrix()
        optical = parent * pin.SE3(rotation, np.array(camera.pose.position))
        link = data.oMf[model.getFrameId(f"{camera.name}_camera_link")]
        np.testing.assert_allclose(link.translation, optical.translation, atol=1e-8)
        np.testing.assert_allclose(link.rotation[:, 0], optical.rotation[:, 2], atol=1e-6)
        np.testing.assert_allclose(link.rotation[:, 1], -optical.rotation[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_every_joint_starts_at_home_and_is_commanded(name: str) -> None:
    robot = load_robot(name)
    root = ElementTree.fromstring(gazebo.robot_description(robot, Path("/x/controllers.yaml")))
    starts = {
        joint.attrib["name"]: float(joint.findtext("state_interface/param", "nan"))
        for joint in root.findall("ros2_control/joint")
    }
    for joint, value in zip(robot.joint_names, robot.home, strict=True):
        assert starts[joint] == pytest.approx(value, abs=1e-6)
    assert set(robot.gripper.joint_names) <= set(starts)
    assert root.findtext("gazebo/plugin/parameters") == "/x/controllers.yaml"
    parameters = yaml.safe_load(gazebo.controller_parameters(robot, robot.joint_names))
    commanded = parameters[gazebo.CONTROLLER]["ros__parameters"]["joints"]
    assert commanded == list(robot.joint_names)


def test_the_clock_and_every_camera_are_bridged() -> None:
    robot = load_robot("panda")
    bridged = gazebo.bridged_topics(robot)
    assert bridged[0].startswith("/clock@")
    assert [text.split("@")[0] for text in bridged[1:]] == [c.topic for c in robot.cameras.values()]


def test_the_world_is_well_formed_and_has_sensors() -> None:
    root = ElementTree.parse(resource_path("worlds", "table.sdf")).getroot()
    plugins = [plugin.attrib["filename"] for plugin in root.iter("plugin")]
    assert "gz-sim-sensors-system" in plugins and "gz-sim-physics-system" in plugins
    names = {model.attrib["name"] for model in root.iter("model")}
    assert {"table", "red_block", "green_plate"} <= names
