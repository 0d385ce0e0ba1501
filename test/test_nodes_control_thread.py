"""The control thread's clocks."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from vla_ros.control.clocks import MonotonicClock
from vla_ros.nodes.control_thread import ControlThread
from vla_ros.types import NANOSECONDS

pytestmark = pytest.mark.live


def test_a_thread_held_up_between_two_clocks_reads_them_again() -> None:
    stalls = [0.02, 0.02]

    def now() -> int:
        stamp = time.time_ns()
        if stalls:
            time.sleep(stalls.pop())
        return stamp

    thread = SimpleNamespace(_node=SimpleNamespace(now=now), _time=MonotonicClock())
    moment = time.monotonic() + 0.001
    stamp = ControlThread._ros_time(thread, moment)  # type: ignore[arg-type]
    assert not stalls
    behind = (time.time_ns() - stamp) / NANOSECONDS - (time.monotonic() - moment)
    assert abs(behind) < 0.005
