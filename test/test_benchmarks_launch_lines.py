"""The benchmark of the launch lines against a `ros2` that only talks; the real one is run by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from benchmarks import launch_lines as lines
from benchmarks import slow_policy
from vla_ros.policies.registry import make_policy
from vla_ros.robots import load_robot

STAND_IN = """
import signal, sys, time
print("[lifecycle_manager-1] Up: ingester.", flush=True)
print("[chunker-2] [ERROR] what should not be", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("ended", flush=True)
    sys.exit(3)
"""


def test_a_launch_is_read_and_ended_by_ctrl_c(tmp_path: Path) -> None:
    launch = lines.Launch([sys.executable, "-c", STAND_IN], tmp_path)
    while launch.first(lines.WRONG) is None and launch.seconds < 20.0:
        pass
    assert launch.first(lines.UP) is not None and not launch.ended
    status, left, seconds = launch.stop()
    assert (status, left) == (3, False) and seconds < lines.STOPPING
    assert launch.lines[-1][1] == "ended" and launch.ended


def test_the_commands_are_those_of_the_readme() -> None:
    command = lines.command_of("ros2", None, "franka", "plain", "pick up the red block")
    assert command == ["ros2", "launch", "vla_ros", "franka.launch.py", "instruction:=pick up the red block"]
    text = (Path(lines.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert all(f"ros2 launch vla_ros {file}" in text for file in lines.LINES.values())
    sourced = lines.command_of("python3 /a/ros2", Path("/b/setup.bash"), "ur", "slow to load", "go")
    assert sourced[:6] == ["bash", "-c", '. "$0" && exec "$@"', "/b/setup.bash", "python3", "/a/ros2"]
    assert sourced[-2] == "policy:=custom" and "slow_policy:make" in sourced[-1]


def test_the_slow_policy_is_visual_servo_after_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(slow_policy.time, "sleep", slept.append)
    options = {"factory": "benchmarks.slow_policy:make", "action_space": "delta_tcp", "rate": 5.0}
    policy = make_policy("custom", load_robot("ur5"), load_seconds=20, **options)
    assert policy.requirements == make_policy("visual_servo", load_robot("ur5")).requirements
    policy.load()
    assert slept == [20.0]


def run(line: str, policy: str, done: bool, **changes: object) -> dict[str, object]:
    found: dict[str, object] = {
        "line": line, "policy": policy, "done": done, "wrong": [], "status": 0, "up": 5.0,
        "first_command": 6.0 if done else None, "stopping": 2.0,
    }  # fmt: skip
    return {**found, **changes}


def test_a_run_that_was_not_carried_out_counts() -> None:
    runs = [
        run("franka", "plain", True), run("franka", "plain", False),
        run("ur", "plain", True, first_command=8.0, wrong=["Traceback"]),
    ]  # fmt: skip
    result = lines.document({"date": "today"}, "go", runs)
    assert (result["all"]["runs"], result["all"]["done"], result["all"]["clean"]) == (3, 2, 1)
    assert (result["all"]["first_command_median"], result["all"]["first_command_most"]) == (7.0, 8.0)
    (table,) = lines.rows(result)
    assert [row[2] for row in table.cells] == ["1 of 2", "1 of 1"]
    never = lines.rows(lines.document({}, "go", [run("franka", "plain", False)]))
    assert never[0].cells[0][4] == "never, never"
