"""The safety controller in its real-time loop, an empty loop beside it, and what memory does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import MILLI, summary
from benchmarks.safety_subject import Subject
from vla_ros.control.loop import RealTimeLoop, set_priority

PRIORITY = 80


class Watch:
    """What a loop does, tick by tick."""

    def __init__(self, work: Callable[[], Any] | None, ticks: int) -> None:
        self._work, self._count = work, 0
        self.late, self.spent = np.zeros(ticks), np.zeros(ticks)

    def __call__(self, due: float) -> None:
        begun = time.perf_counter_ns()
        late = time.monotonic() - due
        if self._work is not None:
            self._work()
        if self._count < len(self.late):
            self.late[self._count] = late
            self.spent[self._count] = time.perf_counter_ns() - begun
            self._count += 1

    @property
    def count(self) -> int:
        """Ticks recorded."""
        return self._count


def loop(
    rate: float, seconds: float, work: Callable[[], Any] | None, prepare: Callable[[], None] | None
) -> dict[str, Any]:
    """Run a loop; figures of its ticks [ms], and how many ended after the next was due."""
    period, ticks = 1.0 / rate, round(rate * seconds)
    watch, warnings = Watch(work, ticks), list[str]()

    def ready(_: float) -> None:
        if prepare is not None:
            prepare()

    runner = RealTimeLoop(period, watch, PRIORITY, warnings.append, ready if prepare else None, 0.35 * period)
    runner.start()
    limit = time.monotonic() + 3.0 * seconds + 5.0
    while watch.count < ticks and time.monotonic() < limit and runner.error is None:
        time.sleep(0.05)
    misses = runner.statistics().overruns
    runner.stop()
    if runner.error is not None:
        raise runner.error
    count = watch.count
    return {
        "rate": rate,
        "ticks": count,
        "misses": misses,
        "late_ms": summary(1e3 * watch.late[:count], tails=True),
        "work_ms": summary(MILLI * watch.spent[:count], tails=True),
        "warnings": warnings,
    }


def loops(robot: str, rates: tuple[float, ...], seconds: float) -> list[dict[str, Any]]:
    """The controller's loop and an empty one, in turn, at each rate."""
    found = []
    for rate in rates:
        subject = Subject(robot, rate)

        def work(subject: Subject = subject) -> None:
            subject.tick()
            subject.follow()

        found.append({"loop": "empty", **loop(rate, seconds, None, None)})
        found.append({"loop": "controller", **loop(rate, seconds, work, subject.prepare)})
    set_priority(0)
    return found


def memory(robot: str, rate: float, minutes: float) -> dict[str, Any]:
    """Resident memory [MiB] while the controller runs in its loop."""
    subject, sizes, done = Subject(robot, rate), list[float](), threading.Event()

    def watch() -> None:
        while not done.wait(10.0):
            sizes.append(resident())

    watcher = threading.Thread(target=watch, daemon=True)

    def work() -> None:
        subject.tick()
        subject.follow()

    loop(rate, 5.0, work, subject.prepare)
    before = resident()
    watcher.start()
    ran = loop(rate, 60.0 * minutes, work, subject.prepare)
    done.set()
    return {
        "rate": rate, "minutes": minutes, "ticks": ran["ticks"], "misses": ran["misses"],
        "before_mib": before, "after_mib": resident(), "every_10_s_mib": [round(size, 2) for size in sizes],
    }  # fmt: skip


def resident() -> float:
    """Memory of this process in RAM [MiB]."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1]) / 1024.0
    return float("nan")
