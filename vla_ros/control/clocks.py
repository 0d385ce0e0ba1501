"""What a loop counts its periods on: this machine's clock, or that of a simulation."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Protocol

POLL = 0.0003
"""Seconds between two looks at a simulation's clock."""
_CLOCK_MONOTONIC, _TIMER_ABSTIME = 1, 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)


def sleep_until(deadline: float) -> None:
    """Sleep until `deadline` on the monotonic clock [s]; the GIL is free meanwhile."""
    whole = int(deadline)
    target = _Timespec(whole, int((deadline - whole) * 1e9))
    while _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(target), None) == 4:  # EINTR
        continue


class LoopClock(Protocol):
    """A clock that never goes back."""

    simulated: bool
    """Whether it is a simulation's: its seconds are then those of ROS time."""

    def now(self) -> float:
        """Seconds."""

    def sleep_until(self, deadline: float) -> None:
        """Sleep until `now` is `deadline`, or until `release`."""

    def release(self) -> None:
        """Let go who sleeps; from then on nobody does."""


class MonotonicClock:
    """The clock of the machine: what a robot is controlled on."""

    simulated = False
    now = staticmethod(time.monotonic)
    sleep_until = staticmethod(sleep_until)

    def release(self) -> None:
        """Who sleeps wakes by itself."""


class SimulatedClock:
    """A simulation's, which may be slow, fast or stand still.

    It is looked at again and again by the thread that sleeps on it: no executor, which may itself wait for
    that thread, stands between.
    """

    simulated = True

    def __init__(self, read: Callable[[], float | None], complain: Callable[[str], None]) -> None:
        """`read` gives the newest time [s] that has come since it was last called, None if none has."""
        self._read, self._complain = read, complain
        self._now = 0.0
        self._back = False
        self._lock = threading.Lock()
        self._released = threading.Event()

    def now(self) -> float:
        """The latest time there was [s]; 0 before the first."""
        with self._lock:
            read = self._read()
            if read is not None:
                if read < self._now and not self._back:
                    self._complain(
                        f"the simulation's clock went back from {self._now:.3f} s to {read:.3f} s: "
                        "nothing moves until it is past that again"
                    )
                self._back = read < self._now
                self._now = max(self._now, read)
            return self._now

    def sleep_until(self, deadline: float) -> None:
        """Look until it is time."""
        while self.now() < deadline and not self._released.is_set():
            time.sleep(POLL)

    def release(self) -> None:
        """Let go who sleeps."""
        self._released.set()
