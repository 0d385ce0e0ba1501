"""The URDFs load in MuJoCo, with sane masses, and their cameras see the table and the finger tips."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import CameraSpec

ROBOTS = ["fr3", "panda", "ur5", "ur5e", "widowx"]
ARM_MASS = {"panda": 18.6, "fr3": 18.6, "ur5": 22.0, "ur5e": 22.6, "widowx": 2.3}
"""Arm, base and gripper [kg]: data sheets give 17.8 + 0.7, 18.4 + 0.9, 20.6 + 0.9, and kinematic data 2.3."""


@pytest.mark.parametrize("name", ROBOTS)
def test_every_body_has_mass_and_a_possible_inertia(name: str) -> None:
    root = ElementTree.parse(load_robot(name).urdf_path).getroot()
    total = 0.0
    for link in root.findall("link"):
        shapes = [
            [ElementTree.tostring(item.find(tag)) for tag in ("origin", "geometry")]
            for kind in ("visual", "collision")
            for item in link.findall(kind)
        ]
        assert shapes[: len(shapes) // 2] == shapes[len(shapes) // 2 :]  # what is seen is what collides
        inertial = link.find("inertial")
        assert (inertial is None) == (not shapes)
        if inertial is None:
            continue
        total += float(inertial.find("mass").get("value"))
        i = {key: float(value) for key, value in inertial.find("inertia").items()}
        tensor = np.array(
            [[i["ixx"], i["ixy"], i["ixz"]], [i["ixy"], i["iyy"], i["iyz"]], [i["ixz"], i["iyz"], i["izz"]]]
        )
        moments = np.linalg.eigvalsh(tensor)
        assert moments[0] > 0.0
        assert moments[2] <= (moments[0] + moments[1]) * 1.01  # triangle inequality, rounding apart
    assert total == pytest.approx(ARM_MASS[name], rel=0.05)


@pytest.mark.parametrize("name", ROBOTS)
def test_limits_of_urdf_and_yaml_agree(name: str) -> None:
    robot = load_robot(name)
    root = ElementTree.parse(robot.urdf_path).getroot()
    limits = {joint.get("name"): joint.find("limit") for joint in root.findall("joint")}
    for index, joint in enumerate(robot.joint_names):
        limit = limits[joint]
        assert float(limit.get("lower")) == pytest.approx(robot.published.position_min[index], abs=1e-6)
        assert float(limit.get("upper")) == pytest.approx(robot.published.position_max[index], abs=1e-6)
        assert float(limit.get("velocity")) == pytest.approx(robot.published.velocity[index], abs=1e-6)
        assert float(limit.get("effort")) == pytest.approx(robot.published.torque[index])
    for index, joint in enumerate(robot.gripper.joint_names):
        ends = sorted([robot.gripper.joint_at_min_width[index], robot.gripper.joint_at_max_width[index]])
        assert [float(limits[joint].get(key)) for key in ("lower", "upper")] == pytest.approx(ends)


@pytest.mark.parametrize("name", ROBOTS)
def test_mujoco_loads_it_without_contacts_at_home(name: str) -> None:
    mujoco = pytest.importorskip("mujoco", reason="mujoco is not installed (the sim extra)")
    robot = load_robot(name)
    spec = mujoco.MjSpec.from_string(robot.urdf_path.read_text())
    spec.compiler.fusestatic = 0
    model = spec.compile()
    data = mujoco.MjData(model)
    for joint, position in zip(robot.joint_names, robot.home, strict=True):
        data.joint(joint).qpos[0] = position
    for joint, position in zip(robot.gripper.joint_names, robot.gripper.joint_at_max_width, strict=True):
        data.joint(joint).qpos[0] = position
    mujoco.mj_forward(model, data)
    assert model.njnt == robot.dof + 2
    assert data.ncon == 0
    expected = Kinematics(robot).forward(robot.home)
    np.testing.assert_allclose(data.body(robot.tcp_frame).xpos, expected.position, atol=1e-6)
    mujoco.mj_step(model, data, 100)
    assert np.isfinite(data.qpos).all()


def _pixel(camera: CameraSpec, kinematics: Kinematics, point: np.ndarray) -> np.ndarray:
    parent = kinematics.forward_frame(kinematics.spec.home, camera.parent_frame)
    turn = Rotation.from_quat(parent.quaternion)
    position = parent.position + turn.apply(camera.pose.position)
    local = (turn * Rotation.from_quat(camera.pose.quaternion)).inv().apply(point - position)
    assert local[2] > 0.02, "behind the camera"
    return (camera.intrinsics @ (local / local[2]))[:2] / [camera.width, camera.height]


@pytest.mark.parametrize("name", ROBOTS)
def test_primary_camera_sees_the_work_area_upright(name: str) -> None:
    kinematics = Kinematics(load_robot(name))
    robot = kinematics.spec
    camera = robot.cameras["primary"]
    low, high = robot.workspace.minimum, robot.workspace.maximum
    deep = min(high[0], 0.38) if name == "widowx" else high[0]
    side = 0.2 if name == "widowx" else 0.25
    for x in (low[0] + 0.03, deep):
        for y in (-side, side):
            u, v = _pixel(camera, kinematics, np.array([x, y, 0.0]))
            assert 0.0 < u < 1.0, (x, y, u)
            assert 0.0 < v < 1.0, (x, y, v)
    centre = np.array([(low[0] + deep) / 2, 0.0, 0.0])
    assert _pixel(camera, kinematics, centre + [0, 0, 0.1])[1] < _pixel(camera, kinematics, centre)[1]


@pytest.mark.parametrize("name", ROBOTS)
def test_wrist_camera_sees_both_finger_tips_in_the_lower_half(name: str) -> None:
    kinematics = Kinematics(load_robot(name))
    robot = kinematics.spec
    columns = []
    for frame in robot.gripper.finger_frames:
        tip = kinematics.forward_frame(robot.home, frame).position
        u, v = _pixel(robot.cameras["wrist"], kinematics, tip)
        assert 0.5 < v < 1.0
        columns.append(u)
    assert 0.0 < min(columns) < 0.5 < max(columns) < 1.0
