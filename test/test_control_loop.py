"""The real-time loop: counts, lateness, errors.  No timing is asserted beyond the order of things."""

from __future__ import annotations

import os
import threading
import time

import pytest

from vla_ros.control.clocks import sleep_until
from vla_ros.control.loop import RealTimeLoop, set_priority

pytestmark = pytest.mark.live


def run_for(loop: RealTimeLoop, ticks: threading.Event) -> None:
    loop.start()
    try:
        assert ticks.wait(10.0)
    finally:
        loop.stop()


def test_it_ticks_until_stopped_and_reports_its_rate():
    count, enough = 0, threading.Event()

    def tick(due: float) -> None:
        nonlocal count
        count += 1
        if count == 100:
            enough.set()

    loop = RealTimeLoop(0.005, tick)
    run_for(loop, enough)
    after = count
    time.sleep(0.05)
    assert count == after and loop.error is None
    statistics = loop.statistics()
    assert 0.0 < statistics.rate < 1000.0
    assert statistics.compute_p99 >= 0.0 and statistics.period_error_p99 >= 0.0


def test_a_late_tick_is_counted_and_never_followed_by_a_burst():
    starts, enough = [], threading.Event()

    def tick(due: float) -> None:
        starts.append(time.monotonic())
        if len(starts) == 3:
            time.sleep(0.2)
        if len(starts) == 20:
            enough.set()

    loop = RealTimeLoop(0.01, tick)
    run_for(loop, enough)
    assert loop.statistics().overruns >= 1
    # the twenty periods lost are not made up for: at most the catching up of two periods is allowed
    assert starts[19] - starts[2] >= 0.2 + 13 * 0.01


def test_an_error_ends_the_loop_and_is_kept():
    raised = threading.Event()

    def tick(due: float) -> None:
        raised.set()
        raise ValueError("broken")

    loop = RealTimeLoop(0.001, tick)
    run_for(loop, raised)
    assert isinstance(loop.error, ValueError)


def test_without_permission_it_warns_and_goes_on(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    sentences: list[str] = []
    ticked = threading.Event()
    run_for(RealTimeLoop(0.001, lambda due: ticked.set(), priority=50, on_warning=sentences.append), ticked)
    assert any("No permission for real-time priority 50" in sentence for sentence in sentences)


def test_what_a_real_time_thread_starts_is_not_real_time():
    found: dict[str, int] = {}

    def inner() -> None:
        found["inner"] = os.sched_getscheduler(0)

    def outer() -> None:
        found["refused"] = set_priority(3) is not None
        found["outer"] = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        child = threading.Thread(target=inner)
        child.start()
        child.join()
        set_priority(0)
        found["after"] = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    if found["refused"]:
        pytest.skip("no permission for real-time priority on this machine")
    assert found["outer"] == os.SCHED_FIFO
    assert found["inner"] == found["after"] == os.SCHED_OTHER


def test_sleeping_until_the_past_returns_at_once_and_never_early():
    sleep_until(time.monotonic() - 1.0)
    deadline = time.monotonic() + 0.02
    sleep_until(deadline)
    assert time.monotonic() >= deadline - 1e-4


def test_preparation_comes_before_each_tick_and_for_the_same_time():
    calls, enough = [], threading.Event()

    def prepare(due: float) -> None:
        calls.append(("prepare", due, time.monotonic()))

    def tick(due: float) -> None:
        calls.append(("tick", due, time.monotonic()))
        if len(calls) >= 40:
            enough.set()

    run_for(RealTimeLoop(0.005, tick, prepare=prepare, lead=0.002), enough)
    kinds, dues, times = zip(*calls[:40], strict=True)
    assert kinds == ("prepare", "tick") * 20
    assert dues[::2] == dues[1::2] and list(dues[::2]) == sorted(set(dues[::2]))
    # never early: not before its lead, and no tick before it is due
    assert all(at >= due - 0.002 - 1e-6 for due, at in zip(dues[::2], times[::2], strict=True))
    assert all(at >= due - 1e-6 for due, at in zip(dues[1::2], times[1::2], strict=True))


def test_another_thread_can_wait_for_the_end_of_a_tick():
    ended = 0

    def tick(due: float) -> None:
        nonlocal ended
        time.sleep(0.002)
        ended += 1

    loop = RealTimeLoop(0.3, tick)
    assert not loop.wait_for_tick()
    loop.start()
    try:
        before = ended
        assert loop.wait_for_tick() and ended > before
    finally:
        loop.stop()


def test_late_ticks_in_a_row_are_counted_until_one_is_in_time():
    seen = []
    slow = [True]

    def tick(due: float) -> None:
        seen.append(loop.late)
        if slow[0]:
            time.sleep(0.05)
        if len(seen) == 5:
            slow[0] = False

    loop = RealTimeLoop(0.01, tick)
    loop.start()
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline and not (len(seen) > 6 and seen[-1] == 0):
        time.sleep(0.01)
    loop.stop()
    assert seen[:5] == [0, 1, 2, 3, 4]
    assert seen[-1] == 0
