"""A robot and cameras that are not shipped: docs/own_robot.md is followed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from own_robot import PAGE, commands, edit_urdf, make_files, spoil
from typer.testing import CliRunner

pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from vla_ros.bringup.graph import GraphOptions, graph
from vla_ros.bringup.robot_check import check_family, known_as
from vla_ros.cli import app
from vla_ros.contract import Contract, load_contract
from vla_ros.data.bag import bag_metadata
from vla_ros.data.contract_meaning import contract_difference
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.policies.process.description import describe, described
from vla_ros.policies.visual_servo.tool import tool_of
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.drivers import make_adapter
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.drivers import make_driver
from vla_ros.sim.reports import gripper_report
from vla_ros.sim.world import World

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests")
FIRST_WITHOUT_FILES = "audit"
"""The first command of the page for which neither YAML file nor URDF is there any more."""


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `my_arm` of the page."""
    return make_files(tmp_path_factory.mktemp("own"))


@pytest.fixture()
def mine(arm: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(arm, tmp_path / "my_arm"))


def same(one: object, other: object, where: str = "") -> Iterator[str]:
    """In which fields two specs differ; where they came from does not count."""
    if is_dataclass(one):
        assert type(one) is type(other)
        for field in fields(one):
            if field.name not in ("yaml_path", "urdf_path", "yaml", "shipped"):
                yield from same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        if list(one) != list(other):
            yield f"{where}: {list(one)} is {list(other)}"
        for key in one.keys() & other.keys():
            yield from same(one[key], other[key], f"{where}.{key}")
    elif not np.array_equal(np.asarray(one, dtype=object), np.asarray(other, dtype=object)):
        yield f"{where}: {one} is {other}"


# -- the page --------------------------------------------------------------------------------------------


def test_the_page_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of it but the last, which needs the graph; the later ones without YAML file and URDF."""
    folder = make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    outputs = {}
    for arguments in commands():
        if arguments[0] == "demo":
            continue
        if FIRST_WITHOUT_FILES in arguments:
            shutil.rmtree(folder)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
        outputs[" ".join(arguments[:3])] = result.output
    assert not folder.exists()
    assert "lab_arm" in outputs["robot info my_arm/arm.yaml"]
    assert "usable, 1 episode" in outputs["bag audit demos"]
    told = outputs["data info set_lerobot"]
    assert all(word in told for word in ("lab_arm", "front: 320x240", "hand: 424x240", "left: 160x120"))
    assert "the same as arm.npz" in outputs["replay demos/episode_000000 --golden"]
    assert "1 of 1 succeeded" in outputs["replay demos/episode_000000 --into"]
    # what is in the bag is the robot itself
    named = bag_metadata(tmp_path / "demos" / "episode_000000")
    assert yaml.safe_load(named["contract"])["robot"]["driver"]["joint_state_topic"] == "/lab/joint_states"
    assert "axis_6" in named["urdf"] and set(json.loads(named["calibration"])) == {"front", "hand", "left"}


@pytest.mark.live
def test_the_robot_of_the_page_is_driven_by_the_whole_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from late_machine import StoppedError

    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    (arguments,) = [arguments for arguments in commands() if arguments[0] == "demo"]
    result = CliRunner().invoke(app, [*arguments, "--timeout", "30"])
    (bag,) = (tmp_path / "runs").glob("*/bag")
    if result.exit_code == 2 or "starvation" in result.output:
        raise StoppedError(result.output)
    assert '"pick up the red block": done' in result.output, result.output
    assert "No limit was broken" in result.output
    from vla_ros.evaluation.run_data import load_run

    contract = load_contract(bag.parent / "contract.yaml")
    run = load_run(bag, contract.robot)
    assert {name: len(stamps) > 20 for name, stamps in run.cameras.items()} == {
        "front": True, "hand": True, "left": True,
    }  # fmt: skip
    assert (bag.parent / "video.mp4").stat().st_size > 10_000


# -- contracts that need no file -------------------------------------------------------------------------


def written(contract: Contract, folder: Path) -> Contract:
    """The contract as it comes out of its own text, in a folder where nothing else is."""
    folder.mkdir(exist_ok=True)
    path = folder / "contract.yaml"
    path.write_text(contract.to_yaml(), encoding="utf-8")
    return load_contract(path)


@pytest.mark.parametrize("name", ["arm.yaml", "lab.yaml"])
def test_a_contract_holds_the_robot_and_its_urdf(mine: Path, tmp_path: Path, name: str) -> None:
    contract = load_contract(mine / name)
    text = contract.to_yaml()
    shutil.rmtree(mine)
    again = written(contract, tmp_path / "elsewhere")
    assert list(same(contract.robot, again.robot)) == []
    assert again.to_yaml() == text
    assert not again.robot.shipped


def test_shipped_robots_stay_a_name(tmp_path: Path) -> None:
    """Contracts of shipped robots are what they were before own ones could be in them."""
    for name in robot_names():
        content = yaml.safe_load(load_contract(name).to_yaml())
        assert content["robot"] == name
        assert set(content["cameras"]["primary"]) == {"topic", "compressed", "width", "height", "rate"}
    path = tmp_path / "old.yaml"
    path.write_text("robot: widowx\ncameras: {wrist: {topic: /w, compressed: true, width: 64}}\n")
    assert load_contract(path).cameras["wrist"].fovy == load_robot("widowx").cameras["wrist"].fovy


def test_a_copy_of_a_shipped_robot_that_was_calibrated_is_not_taken_for_the_shipped_one(
    tmp_path: Path,
) -> None:
    """It may have kept its name."""
    content = yaml.safe_load(load_robot("panda").yaml)
    content["cameras"]["primary"]["position"] = [0.5, 0.1, 0.6]
    (tmp_path / "panda.yaml").write_text(yaml.safe_dump(content))
    contract = written(load_contract(tmp_path / "panda.yaml"), tmp_path / "elsewhere")
    assert contract.cameras["primary"].pose.position.tolist() == [0.5, 0.1, 0.6]


def test_relative_paths_are_those_of_the_file_they_stand_in(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine / "contracts").mkdir()
    (mine / "contracts" / "a.yaml").write_text("robot: ../arm.yaml\n")
    monkeypatch.chdir("/")
    assert load_contract(mine / "contracts" / "a.yaml").robot.name == "lab_arm"
    monkeypatch.chdir(mine)
    assert load_contract("lab.yaml").robot.name == load_contract("arm.yaml").robot.name == "lab_arm"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="arm2.yaml does not exist, neither in .*my_arm nor here"):
        (mine / "b.yaml").write_text("robot: arm2.yaml\n")
        load_contract(mine / "b.yaml")


numbers = st.floats(-2.0, 2.0)
quaternions = st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)
mounts = st.fixed_dictionaries(
    {
        "parent_frame": st.sampled_from(["base_link", "gripper_link"]),
        "position": st.lists(numbers, min_size=3, max_size=3),
        "quaternion": quaternions.map(lambda q: (np.array(q) / np.linalg.norm(q)).tolist()),
        "fovy": st.floats(0.1, 3.0),
    }
)
streams = st.fixed_dictionaries(
    {
        "topic": st.from_regex(r"\A(/[a-z][a-z0-9_]{0,5}){1,3}\Z"),
        "width": st.integers(16, 4096),
        "height": st.integers(16, 4096),
        "rate": st.floats(0.5, 240.0),
        "compressed": st.booleans(),
    }
)
cameras = st.dictionaries(
    st.from_regex(r"\A[a-z][a-z0-9_]{0,6}\Z"),
    st.tuples(streams, mounts).map(lambda both: {**both[0], **both[1]}),
    min_size=1,
    max_size=4,
)


@settings(max_examples=20)
@given(cameras)
def test_any_cameras_survive_the_contracts_text(wanted: dict[str, dict[str, object]]) -> None:
    with_own = load_contract("widowx", cameras=wanted)
    content = yaml.safe_load(with_own.to_yaml())
    again = load_contract("widowx", cameras=content["cameras"])
    assert list(same(dict(with_own.cameras), dict(again.cameras))) == []
    assert again.to_yaml() == with_own.to_yaml()
    for name, given_ in wanted.items():
        camera = with_own.cameras[name]
        assert (camera.topic, camera.width, camera.parent_frame) == (
            given_["topic"], given_["width"], given_["parent_frame"],
        )  # fmt: skip
        np.testing.assert_allclose(camera.pose.quaternion, given_["quaternion"], atol=1e-12)


def test_a_policys_process_is_told_of_the_robot_without_its_files(mine: Path) -> None:
    contract = load_contract(mine / "lab.yaml")
    description = describe(contract)
    shutil.rmtree(mine)
    again = described(description)
    assert list(same(contract.robot, again.robot)) == []


# -- cameras ---------------------------------------------------------------------------------------------


def test_a_camera_is_like_another_but_for_what_is_said(arm: Path) -> None:
    contract = load_contract(arm / "lab.yaml")
    front, left = contract.cameras["front"], contract.cameras["left"]
    assert (left.width, left.height, left.rate, left.fovy) == (160, 120, 15.0, front.fovy)
    assert left.topic == "/left/camera/color/image_raw" and left.pose.position[1] == -0.15
    assert (front.width, front.height) == (320, 240)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_simulator_shows_the_cameras_of_the_contract(count: int) -> None:
    sizes = [(64, 48), (96, 48), (48, 64), (128, 96)][:count]
    wanted = {
        f"eye_{k}": {"like": "primary", "topic": f"/eye_{k}/color/image_raw", "width": w, "height": h}
        for k, (w, h) in enumerate(sizes)
    }
    contract = load_contract("widowx", cameras=wanted)
    world = World(contract.robot, cameras=contract.cameras)
    try:
        shown = {name: world.render(name).shape for name in contract.cameras}
    finally:
        world.close()
    assert shown == {f"eye_{k}": (h, w, 3) for k, (w, h) in enumerate(sizes)}
    processes = {p.name: p for p in graph(GraphOptions(robot="panda"))}
    assert processes["simulator"].parameters["robot"] == "panda"


def test_where_things_lie_does_not_depend_on_the_size_of_the_pictures() -> None:
    """A seed is a scene: bags of today are played again in theirs."""
    small = load_contract("ur5", cameras={"primary": {"width": 240, "height": 240}}).robot
    wide = load_contract("ur5", cameras={"primary": {"width": 848, "height": 480}}).robot
    from vla_ros.sim.tasks import make_task

    for seed in range(20):
        tasks = [make_task("place", "", seed, robot) for robot in (load_robot("ur5"), small, wide)]
        places = [[block.position.tolist() for block in task.blocks] for task in tasks]
        assert places[0] == places[1] == places[2]


# -- launch files and drivers ----------------------------------------------------------------------------


def test_a_launch_file_of_a_family_starts_no_other_familys_driver(arm: Path) -> None:
    robot = load_robot(arm / "arm.yaml")
    with pytest.raises(ConfigurationError, match="'lab_arm' has the driver ros2_control, .* for franka_ros2"):
        check_family(robot, ["panda", "fr3"], "lab.yaml")
    with pytest.raises(ConfigurationError, match="'widowx' has the driver interbotix"):
        check_family(load_robot("widowx"), ["ur5", "ur5e"], "lab.yaml")
    check_family(robot, robot_names(), "lab.yaml")
    check_family(load_robot("ur5e"), ["ur5", "ur5e"], "lab.yaml")


def test_what_a_drivers_launch_file_is_told_comes_from_the_description(mine: Path) -> None:
    assert known_as(load_robot("panda"), "robot_type", "fer") == "fer"
    with pytest.raises(ConfigurationError, match="driver.extra does not say ur_type"):
        known_as(load_robot(mine / "arm.yaml"), "ur_type", "lab_arm")
    spoil(mine, "driver.extra", {"ur_type": "ur10e"})
    assert known_as(load_robot(mine / "arm.yaml"), "ur_type", "lab_arm") == "ur10e"


def activity(state: str) -> SimpleNamespace:
    named = SimpleNamespace(name="arm_position_controller", state=SimpleNamespace(label=state))
    return SimpleNamespace(controllers=[named], hardware_components=[])


def test_ros2_control_is_ready_while_its_controller_is_active(arm: Path) -> None:
    adapter = make_adapter(load_robot(arm / "arm.yaml"))
    (topic,) = adapter.topics
    assert not adapter.condition(0.0).ready and not adapter.condition(0.0).known
    assert adapter.recovery(0.0) == ()
    adapter.take(topic.name, activity("active"), 0.0)
    assert adapter.condition(0.0).ready and adapter.recovery(0.0) == ()
    adapter.take(topic.name, activity("inactive"), 1.0)
    condition = adapter.condition(1.0)
    assert not condition.ready and condition.recoverable
    assert condition.sentence == "arm_position_controller is inactive"
    (request,) = adapter.recovery(1.0)
    assert request.kind == "controller_manager_msgs/srv/SwitchController"


def test_the_double_of_a_forward_controller_follows_while_it_is_active(arm: Path) -> None:
    robot = load_robot(arm / "arm.yaml")
    double = make_driver(robot, patience=1.0)
    there = robot.home + 0.1
    double.command(there, 0.0)
    np.testing.assert_allclose(double.tick(1.0), there)
    double.switch(False, robot.home)
    double.command(there, 2.0)
    assert double.ignored == 1
    np.testing.assert_allclose(double.tick(3.0), robot.home)
    double.switch(True, robot.home)
    np.testing.assert_allclose(double.tick(4.0), robot.home)


def test_fingers_that_the_driver_names_otherwise_are_each_reported(mine: Path) -> None:
    spoil(mine, "driver.gripper.joint_names", ["knuckle_left", "knuckle_right"])
    robot = load_robot(mine / "arm.yaml")
    sample = SimpleNamespace(
        fingers=np.array([0.037, -0.037]), gripper_width=0.074, gripper_speed=0.0, gripper_force=0.0
    )
    names, values = gripper_report(robot, sample)
    assert [len(part) for part in values] == [len(names)] * 3 == [2, 2, 2]
    np.testing.assert_allclose(values[0], 0.0, atol=1e-12)


# -- data ------------------------------------------------------------------------------------------------


def test_what_makes_two_arms_one_data_set(mine: Path, tmp_path: Path) -> None:
    before = load_contract(mine / "lab.yaml").to_yaml()
    for key, value in (
        ("tcp.speed", 0.2),
        ("applied.velocity_scale", 0.4),
        ("cameras.front.position", [0.61, 0.15, 0.42]),
        ("driver.command_topic", "/other/commands"),
    ):
        spoil(mine, key, value)
    assert contract_difference(before, load_contract(mine / "lab.yaml").to_yaml()) == ""
    spoil(mine, "state_rotation", [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    told = contract_difference(before, load_contract(mine / "lab.yaml").to_yaml())
    assert told == "the descriptions of robot 'lab_arm' differ in state_rotation"
    edit_urdf(mine, '<axis xyz="0 0 1"/>', '<axis xyz="0 0 -1"/>')
    assert "urdf" in contract_difference(before, load_contract(mine / "lab.yaml").to_yaml())
    told = contract_difference(before, load_contract("widowx").to_yaml())
    assert told == "'robot' is lab_arm and widowx"


def test_bridge_replay_refuses_a_set_of_another_robot(arm: Path, tmp_path: Path) -> None:
    from vla_ros.commands.replay import replay

    (tmp_path / "set" / "1.0.0").mkdir(parents=True)
    (tmp_path / "set" / "1.0.0" / "contract.yaml").write_text(load_contract(arm / "lab.yaml").to_yaml())
    with pytest.raises(DataError, match="holds episodes of robot 'lab_arm', but --rlds plays BridgeData V2"):
        replay(tmp_path / "set", None, tmp_path / "runs", 0)
    assert not (tmp_path / "runs").exists() and os.listdir(tmp_path / "set") == ["1.0.0"]


def test_fingers_that_turn_close_along_the_line_between_their_tips(arm: Path, mine: Path) -> None:
    for name in ("left_finger", "right_finger"):
        edit_urdf(mine, f'<joint name="{name}" type="prismatic">', f'<joint name="{name}" type="revolute">')
    for limit in ('lower="0.015"', 'lower="-0.037"'):
        edit_urdf(mine, f'<axis xyz="0 1 0"/><limit {limit}', f'<axis xyz="0 0 1"/><limit {limit}')
    angles = []
    for folder in (arm, mine):
        robot = load_robot(folder / "arm.yaml")
        angles.append(tool_of(robot, Kinematics(robot).forward_frame).closing_angle)
    assert abs(np.sin(angles[0] - angles[1])) < 0.05
