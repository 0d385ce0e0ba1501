"""Own robots and cameras that cannot be used are refused in one sentence before anything is started."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from own_robot import PAGE, make_files, spoil
from typer.testing import CliRunner

pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from vla_ros.bringup.graph import GraphOptions, TeleopOptions, contract_for
from vla_ros.cli import app
from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.lockstep.demonstrate import Order
from vla_ros.preflight import topic_problems

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests")


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `my_arm` of the page."""
    return make_files(tmp_path_factory.mktemp("own"))


@pytest.fixture()
def mine(arm: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(arm, tmp_path / "my_arm"))


CAMERAS = [
    ("{front: {}}", "'front' is not on robot 'ur5e', which has primary, wrist; so it needs topic, width"),
    ("{front: {topic: /f, width: 64, height: 48, rate: 5}}", "parent_frame, position, quaternion, fovy"),
    ("{front: {}}", "or `like: primary` and a topic"),
    ("{front: {like: top, topic: /f}}", "is like 'top', which is not on robot 'ur5e'; it has primary, wrist"),
    ("{front: {like: primary}}", "is like 'primary', but needs a topic of its own"),
    ("{'a b': {like: primary, topic: /f}}", "names are letters, digits and underscores"),
    ("{primary: {parent_frame: nowhere}}", "parent_frame 'nowhere' is no link of the URDF"),
    ("{primary: {position: [1, 2]}}", "'position' is [1, 2], but must be 3 finite numbers"),
    ("{primary: {position: [1, 2, .nan]}}", "must be 3 finite numbers"),
    ("{primary: {quaternion: [0, 0, 0, 2]}}", "'quaternion' must have unit norm, got 2"),
    ("{primary: {fovy: 60}}", "'fovy' is 60, but must be a number from 0.05 to 3.1"),
    ("{primary: {width: 320.5}}", "'width' is 320.5, but pixels are whole"),
    ("{primary: {width: '640'}}", "'width' is '640', but must be a number from 16 to 4096"),
    ("{primary: {compressed: 'yes'}}", "'compressed' is 'yes', but must be true or false"),
    ("{primary: {colour: red}}", "may have the keys topic, compressed, width, height, rate, parent_frame"),
]  # fmt: skip
TOPICS = [
    ("{primary: {topic: camera/color/image_raw}}", "'camera/color/image_raw', which is no full name"),
    ("{primary: {topic: /cam era}}", "which is no full name"),
    ("{primary: {topic: /a}, wrist: {topic: /a}}", "'primary' and 'wrist' of .* have the same topic /a"),
    ("{primary: {topic: /a}, wrist: {topic: /a/compressed, compressed: true}}", "have the same topic"),
    ("{primary: {topic: /joint_states}}", "on which the robot's driver speaks"),
    (
        "{primary: {topic: /camera/wrist/image_raw}, wrist: {topic: /camera/primary/image_raw}}",
        "are the two swapped?",
    ),
    ("{}", "has no cameras"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), CAMERAS)
def test_cameras_that_cannot_be_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(f"robot: ur5e\ncameras: {text}\n")
    with pytest.raises(VlaRosError) as refused:
        load_contract(path)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "sentence"), TOPICS)
def test_topics_that_cannot_be_are_refused_before_anything_is_started(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(f"robot: ur5e\ncameras: {text}\n")
    with pytest.raises(VlaRosError, match=sentence) as refused:
        contract_for(GraphOptions(robot=str(path)))
    assert "\n" not in str(refused.value)
    if text != "{}":
        with pytest.raises(VlaRosError, match=sentence):
            Order(str(path)).contract()
        # a bag that was recorded so is still read
        assert load_contract(path).robot.name == "ur5e"
        checked = CliRunner().invoke(app, ["policy", "check", "--robot", str(path)])
        assert checked.exit_code == 1 and "Problem: " in checked.output


def test_a_camera_under_another_name_is_not_taken_for_swapped() -> None:
    """RealSense names, or the robot's wrist camera as the only and main one."""
    for cameras_ in (
        {"primary": {"topic": "/camera/camera/color/image_raw", "width": 640, "height": 480, "rate": 30}},
        {"main": {"like": "wrist", "topic": "/camera/wrist/image_raw"}},
        {"primary": {"topic": "/camera/wrist/image_raw"}},
    ):
        assert list(topic_problems(load_contract("ur5e", cameras=cameras_))) == []


def test_a_contract_of_a_contract_is_refused(mine: Path) -> None:
    (mine / "twice.yaml").write_text("robot: lab.yaml\n")
    with pytest.raises(ConfigurationError, match="lab.yaml is a contract, but the YAML file of a robot"):
        load_contract(mine / "twice.yaml")


# -- what cannot be driven -------------------------------------------------------------------------------


DESCRIPTIONS = [
    ("joint_names", ["axis_1", "axis_2", "axis_3", "axis_4", "axis_5"], "names 5 joints, but arms are moved"),
    ("joint_names", [f"axis_{k}" for k in (2, 1, 3, 4, 5, 6)], "must run from base to tool"),
    ("base_frame", "shoulder_link", "is no root of the URDF"),
    ("home", [0.0, 1.5, 0.5, 0.0, 1.6, 0.0], "home puts the tool at .* outside the workspace"),
    ("workspace.floor", 0.3, "at home, '.*' is .* mm below the workspace's floor"),
    ("collision.excluded", [], None),
    ("collision.stop_distance", 0.029, None),
    ("driver.kind", "interbotix", "'std_msgs/Float64MultiArray' is not what interbotix takes"),
    ("driver.kind", "kuka", "'kuka' is not one of franka_ros2, ur_robot_driver, interbotix, ros2_control"),
    ("driver.joint_state_topic", "joint_states", "'joint_states' is no full name: it must begin with /"),
    ("driver.gripper.type", "std_msgs/Float64", "'std_msgs/Float64' is not one of franka_msgs/action/Move"),
    ("driver.gripper.kind", "topic", "'topic' is not what control_msgs/action/GripperCommand is: action"),
    ("driver.extra", {"wrench_topic": "wrench"}, "driver.extra.wrench_topic: 'wrench' is no full name"),
    ("cameras.front.parent_frame", "nowhere", "cameras.front.parent_frame: 'nowhere' is no link"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), DESCRIPTIONS)
def test_descriptions_that_cannot_be_driven_are_refused_before_anything_is_started(
    mine: Path, key: str, value: object, sentence: str | None
) -> None:
    spoil(mine, key, value)
    options = GraphOptions(robot=str(mine / "lab.yaml"))
    if sentence is None:
        # stays possible: the posture of home keeps its distances
        contract_for(options)
        return
    with pytest.raises(VlaRosError, match=sentence) as refused:
        contract_for(options)
    assert "\n" not in str(refused.value)


def test_urdfs_that_cannot_be_used_are_refused(mine: Path, arm: Path) -> None:
    options = GraphOptions(robot=str(mine / "lab.yaml"))
    original = (arm / "arm.urdf").read_text()
    assert original.index("<collision")

    def refusal(text: str) -> str:
        (mine / "arm.urdf").write_text(text)
        with pytest.raises(VlaRosError) as refused:
            contract_for(options)
        return str(refused.value)

    root = ElementTree.fromstring(original)
    link = next(link for link in root.findall("link") if link.find("collision") is not None)
    geometry = link.find("collision/geometry")
    assert geometry is not None
    geometry.clear()
    ElementTree.SubElement(geometry, "mesh", filename="package://arm/base.stl")
    meshed = ElementTree.tostring(root, encoding="unicode")
    assert f"collision shape of link '{link.get('name')}' is the mesh" in refusal(meshed)

    root = ElementTree.fromstring(original)
    for link in root.findall("link"):
        for collision in link.findall("collision"):
            link.remove(collision)
    bare = ElementTree.tostring(root, encoding="unicode")
    assert "nothing that joint 'axis_1' moves has a collision shape" in refusal(bare)

    endless = original.replace('type="revolute"', 'type="continuous"', 1)
    assert "must be revolute or prismatic" in refusal(endless)
    xacro = original.replace("</robot>", '<xacro:arm xmlns:xacro="http://www.ros.org/wiki/xacro"/></robot>')
    assert "is a xacro, not a URDF" in refusal(xacro)
    assert "line" in refusal(original[:-20])
    root = ElementTree.fromstring(original)
    for link in root.findall("link"):
        for inertial in link.findall("inertial"):
            link.remove(inertial)
    assert "nothing that joint 'axis_1' moves has a mass" in refusal(
        ElementTree.tostring(root, encoding="unicode")
    )


def test_visual_meshes_are_left_out(mine: Path) -> None:
    mesh = '<visual><geometry><mesh filename="package://lab/base.dae"/></geometry></visual></link>'
    path = mine / "arm.urdf"
    path.write_text(path.read_text().replace("</link>", mesh))
    contract = contract_for(GraphOptions(robot=str(mine / "arm.yaml")))
    assert "mesh" not in contract.robot.urdf and "mesh" not in contract.to_yaml()


def test_a_home_that_is_not_level_is_only_refused_for_who_grasps_from_above(mine: Path) -> None:
    spoil(mine, "home", [0.0, 0.3, -0.2, 0.0, 0.4, 0.0])
    spoil(mine, "workspace.maximum", [0.6, 0.25, 0.35])
    person = GraphOptions(robot=str(mine / "arm.yaml"), teleop=TeleopOptions(device="twist"))
    assert contract_for(person).robot.name == "lab_arm"
    with pytest.raises(ConfigurationError, match="visual_servo grasps from above, but at home"):
        contract_for(replace(person, teleop=None))
