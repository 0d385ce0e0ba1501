"""The launch files against the real launch_ros, where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed here (it is on no package registry)")

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.utilities import perform_substitutions
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vla_ros.bringup.domain import RANGE
from vla_ros.bringup.graph import GraphOptions, TeleopOptions, graph
from vla_ros.bringup.shm import profile_variable
from vla_ros.errors import VlaRosError

pytestmark = pytest.mark.live

FILES = sorted((Path(__file__).parent.parent / "launch").glob("*.launch.py"))
TELEOP = "teleop.launch.py"
ARGUMENTS = {
    "sim", "policy", "policy_options", "instruction", "robot", "robot_ip", "record", "use_sim_time", "rate",
}  # fmt: skip


def description(path: Path) -> LaunchDescription:
    spec = importlib.util.spec_from_file_location("launch_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def actions(path: Path, **given: str) -> list[object]:
    context = LaunchContext()
    found: list[object] = []
    for entity in description(path).entities:
        if isinstance(entity, DeclareLaunchArgument):
            value = given.get(entity.name, entity.default_value[0].perform(context))
            context.launch_configurations[entity.name] = value
        elif isinstance(entity, OpaqueFunction):
            found += entity.execute(context) or []
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_argument_is_described(path: Path) -> None:
    declared = [e for e in description(path).entities if isinstance(e, DeclareLaunchArgument)]
    assert {a.name for a in declared} >= ARGUMENTS
    assert all(len(a.description) > 10 for a in declared)


@pytest.mark.parametrize("path", [p for p in FILES if p.name != TELEOP], ids=lambda p: p.name)
def test_the_launch_starts_what_the_description_of_the_graph_says(path: Path) -> None:
    robot = {"franka": "panda", "ur5": "ur5", "widowx": "widowx", "robot": "panda"}[path.name.split(".")[0]]
    nodes = [a for a in actions(path) if isinstance(a, Node)]
    assert [n.node_executable for n in nodes] == [p.name for p in graph(GraphOptions(robot=robot))]
    assert {n.node_package for n in nodes} == {"vla_ros"}


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"sim": "none"}, "robot_ip"),
        ({"sim": "none", "robot_ip": "192.0.2.1"}, "franka_bringup"),
        ({"sim": "gazebo"}, "ros_gz_sim"),
        ({"policy": "crystal_ball"}, "crystal_ball"),
        ({"rate": "fast"}, "fast"),
        ({"policy": "replay", "policy_options": "{path: /nowhere.npz}"}, "/nowhere.npz"),
        ({"policy_options": "[1"}, "policy_options"),
    ],
)
def test_what_cannot_be_started_is_refused_in_a_sentence(given: dict[str, str], fragment: str) -> None:
    franka = next(path for path in FILES if path.name.startswith("franka"))
    with pytest.raises(VlaRosError, match=fragment):
        actions(franka, **given)


def test_the_launch_of_a_person_who_drives() -> None:
    path = next(path for path in FILES if path.name == TELEOP)
    nodes = [a for a in actions(path, robot="ur5", device="twist") if isinstance(a, Node)]
    person = TeleopOptions(device="twist")
    assert [n.node_executable for n in nodes] == [
        p.name for p in graph(GraphOptions(robot="ur5", teleop=person))
    ]
    nodes = [a for a in actions(path, policy="visual_servo") if isinstance(a, Node)]
    assert {"inference", "teleop"} <= {n.node_executable for n in nodes}
    with pytest.raises(VlaRosError, match="sim must be 'mujoco'"):
        actions(path, device="scripted", sim="gazebo")


def test_show_args() -> None:
    code = "import sys; from ros2cli.cli import main; sys.exit(main())"
    path = str(FILES[0])
    shown = subprocess.run(
        [sys.executable, "-c", code, "launch", path, "--show-args"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named 'ros2cli'" in shown.stderr:
        pytest.skip("ros2cli is not installed here")
    assert shown.returncode == 0, shown.stderr
    assert all(f"'{name}':" in shown.stdout for name in ARGUMENTS)


@pytest.mark.parametrize(
    ("given", "before", "found"),
    [
        ("", None, "LOCALHOST"),
        ("", "SUBNET", "SUBNET"),
        ("subnet", None, "SUBNET"),
        ("localhost", "SUBNET", "LOCALHOST"),
    ],
)
def test_the_nodes_are_found_on_this_machine_alone_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str, before: str | None, found: str
) -> None:
    monkeypatch.delenv(RANGE, raising=False)
    if before is not None:
        monkeypatch.setenv(RANGE, before)
    made = actions(next(p for p in FILES if p.name == "widowx.launch.py"), discovery=given)
    context = LaunchContext()
    first = made[0]
    assert isinstance(first, SetEnvironmentVariable)
    first.execute(context)
    assert context.environment[RANGE] == found
    monkeypatch.setenv(RANGE, "SUBNET")  # so that it is put back at the end


def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv(profile_variable(), "/mine.xml")
    path = next(p for p in FILES if p.name == "widowx.launch.py")
    nodes = [a for a in actions(path) if isinstance(a, Node)]
    context = LaunchContext()
    for node in nodes:
        names = {perform_substitutions(context, name) for name, _ in node.additional_env}
        assert not names & {"OMP_NUM_THREADS", profile_variable()}
        assert "OPENBLAS_NUM_THREADS" in names
