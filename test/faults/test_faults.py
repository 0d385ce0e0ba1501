"""Faults injected into a live graph: motion ends in time, within its limits, and goes on as documented."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("ur_dashboard_msgs", reason="the messages of the UR driver are not installed")
pytest.importorskip("controller_manager_msgs", reason="the messages of ros2_control are not installed")

from benchmarks.faults.__main__ import attempt
from benchmarks.faults.bench import Bench, live_bench
from benchmarks.faults.cases import FAULTS
from benchmarks.faults.fault import Fault
from vla_ros.errors import MachineError

pytestmark = pytest.mark.live


class Benches:
    """One graph at a time, kept for all faults of its kind that follow one another."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._kind = ""

    def of(self, kind: str) -> Bench:
        if kind != self._kind:
            self.close()
            self._bench = self._stack.enter_context(live_bench(kind))
            self._kind = kind
        return self._bench

    def close(self) -> None:
        self._kind = ""
        self._stack.close()


@pytest.fixture(scope="module")
def benches() -> Iterator[Benches]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        made = Benches()
        yield made
        made.close()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_what_follows_a_fault_is_bounded(fault: Fault, benches: Benches) -> None:
    try:
        outcome, complaints, _ = attempt(benches.of(fault.bench), fault)
    except MachineError:
        # the next fault begins with a graph that moves
        benches.close()
        raise
    assert not complaints, "; ".join(complaints)
    assert outcome.violations == 0


def test_what_is_destroyed_while_the_doubles_spin_does_not_end_their_thread(benches: Benches) -> None:
    doubles = benches.of("control").doubles
    for _ in range(300):
        rival = doubles.node.create_publisher(doubles.command_type, "/elsewhere", 1)
        timer = doubles.node.create_timer(0.001, lambda rival=rival: rival.publish(doubles.command_type()))
        time.sleep(0.003)
        doubles.do(partial(doubles.node.destroy_timer, timer))
        doubles.do(partial(doubles.node.destroy_publisher, rival))
    heard = len(doubles.recording.statuses)
    assert benches.of("control").until(lambda: len(doubles.recording.statuses) > heard, 2.0)
