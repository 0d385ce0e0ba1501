"""Asked to end in motion, the robot is left at rest: real processes in the foreground of a real terminal.

`python -m benchmarks.ctrl_c` does the same hundreds of times.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from benchmarks.ctrl_c import HOW, Run, controllers, graphs

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def test_a_controller_alone_brakes_however_it_is_asked_to_end() -> None:
    runs: list[Run] = []
    controllers(len(HOW), random.Random(7), runs.append)
    assert [run.how for run in runs] == list(HOW)
    for run in runs:
        assert run.good and run.speed > 0.2, run


def test_a_whole_graph_brakes_though_every_process_is_asked_to_end_at_once() -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    runs: list[Run] = []
    graphs(1, random.Random(7), runs.append)
    assert runs[0].good and runs[0].speed > 0.2, runs[0]


@pytest.mark.parametrize("after", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_amid_the_imports_ends_a_node_without_a_word(
    after: float, signum: int, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with open(said, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "vla_ros.nodes", "vla_ros.nodes.safety_controller"],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        # importtime says when Python itself is there, from when on the handlers are
        deadline = time.monotonic() + 20.0
        while b"vla_ros.nodes" not in said.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(after)
        process.send_signal(signum)
        assert process.wait(20.0) == 0
    assert b"Traceback" not in said.read_bytes()
