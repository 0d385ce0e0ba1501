"""The whole graph with a model in a process of its own that is killed while the robot moves."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from late_machine import StoppedError, stops_told

from vla_ros.bringup.graph import GraphOptions
from vla_ros.bringup.session import Session, prepared, session
from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.run_data import load_run
from vla_ros.robots import load_robot
from vla_ros.types import NANOSECONDS, SafetyState

pytestmark = pytest.mark.live

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def own_domain_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH", "")])))
    monkeypatch.syspath_prepend(HERE)


def model_of(node: int) -> int:
    """Process id of the model that a node's process has started; 0: none."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == node and b"vla_ros.policies.process.child" in command:
            return int(path.parent.name)
    return 0


def note(said: list[str], name: str, line: str) -> None:
    said.append(line)


class Killer:
    """Ends the model when the robot has moved for a while."""

    def __init__(self, running: Session, node: int) -> None:
        self._running, self._node = running, node
        self.killed, self.moment = 0, 0
        """Process id, and when [ns]."""

    def __call__(self) -> None:
        first = self._running.operator.first_command
        if self.killed or first is None or time.monotonic() - first < 3.0:
            return
        self.killed, self.moment = model_of(self._node), time.time_ns()
        if self.killed:
            os.kill(self.killed, signal.SIGKILL)


def test_a_model_killed_in_motion_is_started_again_and_no_limit_is_violated(tmp_path: Path) -> None:
    said: list[str] = []
    bag = tmp_path / "bag"
    options = GraphOptions(
        robot="widowx",
        policy="custom",
        policy_options={"factory": "scripted_policies:make_swaying", "load_seconds": 1.0},
        record=str(bag),
        record_cameras=False,
        timeout=9.0,
        # the episode outlives the model's absence, which on a busy machine takes its time
        parameters={"supervisor": {"patience": 30.0}, "inference": {"max_inference_time": 5.0}},
    )
    with session(prepared(options, tmp_path), tmp_path, partial(note, said)) as running, stops_told():
        running.wait_up()
        node = running.runner.pids()["inference"]
        killer = Killer(running, node)
        result = running.run_episode("", "pick up the red block", 0, killer)
        again = model_of(node)
    if not killer.killed or result.steps <= 3:
        raise StoppedError(result.reason)
    assert any("there again" in line for line in said), said[-3:]
    assert again not in (0, killer.killed)
    assert not any(Path(f"/proc/{pid}").exists() for pid in (killer.killed, again))
    assert any("ended by SIGKILL" in line for line in said)
    robot = load_robot("widowx")
    run = load_run(bag, robot)
    points, moment = run.setpoints, killer.moment
    speed = np.abs(points.velocities).max(axis=1)
    # it moved, stood still until the model was there again, and moved on
    back = next(int(sent) for sent in run.chunks.sent if sent > moment + 1.0 * NANOSECONDS)
    assert back - moment > 1.5 * NANOSECONDS
    held = (points.sent > back - 0.3 * NANOSECONDS) & (points.sent < back)
    assert held.any() and speed[held].max() < 1e-6
    assert set(points.states[held]) <= {SafetyState.HOLDING, SafetyState.LIMITED, SafetyState.RUNNING}
    assert speed[(points.sent > moment - 2 * NANOSECONDS) & (points.sent < moment)].max() > 0.02
    assert speed[points.sent > back].max() > 0.02
    verdict = judge_run(run, robot)
    assert verdict.violations == (), verdict.sentence()
