"""The embedded runner: children, logs, ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_ros.bringup import runner as module
from vla_ros.bringup.graph import Process
from vla_ros.bringup.runner import Runner, arguments_of

pytestmark = pytest.mark.live

POLITE = "import signal,sys,time\nsignal.signal(signal.SIGINT, lambda *a: sys.exit(0))\n{}\ntime.sleep(60)"
STUBBORN = (
    "import signal,time\n"
    "for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
    "print('ready', flush=True)\ntime.sleep(60)"
)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Runner, list[tuple[str, str]]]]:
    def start(**scripts: str) -> tuple[Runner, list[tuple[str, str]]]:
        monkeypatch.setattr(module, "arguments_of", lambda p: [sys.executable, "-c", scripts[p.name]])
        troubles: list[tuple[str, str]] = []
        runner = Runner(
            [Process(name) for name in scripts],
            tmp_path / "log",
            {},
            lambda n, line: troubles.append((n, line)),
        )
        runner.start()
        return runner, troubles

    return start


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_logs_go_to_files_and_troubles_to_the_caller(run: Callable, tmp_path: Path) -> None:
    code = POLITE.format(
        "print('[INFO] hello', flush=True); print('[ERROR] The cable is loose.', flush=True)"
    )
    runner, troubles = run(talker=code)
    assert until(lambda: bool(troubles))
    runner.stop()
    assert troubles == [("talker", "[ERROR] The cable is loose.")]
    assert (tmp_path / "log" / "talker.log").read_text() == "[INFO] hello\n[ERROR] The cable is loose.\n"


def test_a_child_that_ends_by_itself_is_noticed(run: Callable) -> None:
    runner, _ = run(short="import sys; sys.exit(7)", long=POLITE.format("print('up', flush=True)"))
    assert until(lambda: runner.ended() == {"short": 7})
    runner.stop()


def test_every_child_ends_even_one_that_ignores_signals(run: Callable, tmp_path: Path) -> None:
    runner, _ = run(polite=POLITE.format("print('ready', flush=True)"), stubborn=STUBBORN)
    ready = [tmp_path / "log" / f"{name}.log" for name in ("polite", "stubborn")]
    assert until(lambda: all(log.exists() and "ready" in log.read_text() for log in ready))
    pids = [child.pid for child in runner._children.values()]
    codes = runner.stop()
    assert codes == {"polite": 0, "stubborn": -9}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert runner.stop() == codes


def test_who_brakes_the_robot_is_not_killed_with_the_others(run: Callable, tmp_path: Path) -> None:
    slow = "import signal,sys,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + POLITE.format(
        "print('ready', flush=True)"
    ).replace("sys.exit(0)", "(time.sleep(2.5), sys.exit(0))")
    runner, _ = run(safety_controller=slow, other=slow)
    ready = [tmp_path / "log" / f"{name}.log" for name in ("safety_controller", "other")]
    assert until(lambda: all(log.exists() and "ready" in log.read_text() for log in ready))
    assert runner.stop() == {"safety_controller": 0, "other": -9}


def test_parameters_keep_their_types_on_the_command_line() -> None:
    parameters = {"text": "put it: there", "whole": 2.0, "count": 3, "flag": True, "names": ["a", "b"]}
    command = arguments_of(Process("ingester", parameters))
    assert command[1:4] == ["-m", "vla_ros.nodes", "vla_ros.nodes.ingester"]
    assert command[6::2] == [
        'text:="put it: there"', "whole:=2.0", "count:=3", "flag:=true", 'names:=["a", "b"]',
    ]  # fmt: skip


def test_a_node_whose_runner_was_killed_while_it_was_imported_ends_by_itself() -> None:
    """It was found minutes later, unconfigured, taking requests that were meant for the next graph's node."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    node = [sys.executable, "-m", "vla_ros.nodes", "vla_ros.nodes.lifecycle_manager"]
    ended = subprocess.run(
        [*node, "--ros-args", "-p", "autostart:=false"],
        env={**os.environ, "VLA_ROS_EMBEDDED": str(gone.pid)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
