"""A loop on a simulation's clock: no tick early, none left out, still when time stands still."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import pytest

from vla_ros.control.clocks import MonotonicClock, SimulatedClock
from vla_ros.control.loop import RealTimeLoop


class Given:
    """Times that a test gives, one after the other."""

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self.said: list[str] = []
        self.clock = SimulatedClock(self._read, self.said.append)

    def _read(self) -> float | None:
        newest = None
        while self.times:
            newest = self.times.popleft()
        return newest


def until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())


@pytest.fixture
def running() -> Iterator[tuple[Given, list[float], RealTimeLoop]]:
    """A loop of 100 Hz at time 0, its clock and its ticks."""
    given, ticks = Given(), []
    loop = RealTimeLoop(0.01, ticks.append, clock=given.clock)
    loop.start()
    # the loop has begun when the first time has been read
    given.times.append(0.0)
    assert until(lambda: not given.times)
    time.sleep(0.05)
    assert ticks == []
    yield given, ticks, loop
    loop.stop()
    assert loop.error is None


def test_ticks_come_with_time_and_not_before(running) -> None:
    given, ticks, loop = running
    now = 0.0
    for count in (1, 2, 3):
        now += 0.01
        given.times.append(now)
        assert until(lambda count=count: len(ticks) == count)
        time.sleep(0.02)
        assert len(ticks) == count
    assert ticks == pytest.approx([0.01, 0.02, 0.03])
    # two periods at once are two ticks, in order
    given.times.append(0.05)
    assert until(lambda: len(ticks) == 5)
    assert ticks[3:] == pytest.approx([0.04, 0.05]) and loop.late == 0


def test_a_leap_of_time_is_no_burst_of_ticks(running) -> None:
    given, ticks, _ = running
    given.times.append(0.01)
    assert until(lambda: len(ticks) == 1)
    given.times.append(1000.0)
    assert until(lambda: len(ticks) == 2)
    given.times.append(1000.011)
    assert until(lambda: len(ticks) == 3)
    time.sleep(0.05)
    # the one that was due, and the next a period after the leap
    assert ticks == pytest.approx([0.01, 0.02, 1000.01])


def test_a_loop_whose_time_stands_still_can_be_stopped() -> None:
    given, ticks = Given(), []
    loop = RealTimeLoop(0.01, ticks.append, clock=given.clock, prepare=lambda due: None, lead=0.003)
    loop.start()
    loop.stop()
    assert not loop._thread.is_alive() and ticks == [] and loop.error is None


def test_time_that_goes_back_is_said_once_and_waited_for() -> None:
    given = Given()
    given.times.append(5.0)
    assert given.clock.now() == 5.0
    for earlier in (1.0, 2.0):
        given.times.append(earlier)
        assert given.clock.now() == 5.0
    assert len(given.said) == 1 and "went back from 5.000 s to 1.000 s" in given.said[0]
    given.times.append(6.0)
    assert given.clock.now() == 6.0


def test_the_machines_clock_wakes_when_it_is_time() -> None:
    clock = MonotonicClock()
    deadline = clock.now() + 0.02
    clock.sleep_until(deadline)
    assert clock.now() >= deadline
