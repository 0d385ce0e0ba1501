"""Faults injected into a live graph: motion ends in time, within its limits, and goes on as documented."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

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
