"""When the steps of a recording are due, with pauses and single steps between: the rules without a clock."""

from __future__ import annotations

import threading

SPEEDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Times real time, slowest and fastest first and last, and those between at which keys stop."""


def next_speed(speed: float, faster: bool) -> float:
    """The next of `SPEEDS` above or below, else the last; 0, as fast as can be, is above all."""
    if speed <= 0.0:
        return speed if faster else SPEEDS[-1]
    if faster:
        return next((one for one in SPEEDS if one > speed), SPEEDS[-1])
    return next((one for one in reversed(SPEEDS) if one < speed), SPEEDS[0])


class Pace:
    """Recorded time on the wall clock, at a speed that may change."""

    def __init__(self, speed: float) -> None:
        """`speed` times real time; 0: as fast as can be."""
        self.speed = speed
        self._from: tuple[float, float] | None = None

    def begin(self, recorded: float, wall: float) -> None:
        """Recorded time [s] is so much at wall time [s]: at the start, after a pause, after a change."""
        self._from = recorded, wall

    def ahead(self, recorded: float, wall: float) -> float:
        """Seconds at `wall` until recorded time is to be `recorded`; 0 or less: it is."""
        if self._from is None:
            self.begin(recorded, wall)
        if self.speed <= 0.0 or self._from is None:
            return 0.0
        return (recorded - self._from[0]) / self.speed - (wall - self._from[1])


class StepClock:
    """Counts steps on a grid that begins anew after every pause; safe to be asked from several threads.

    While it is paused nothing is due but the single steps asked for.  No step is ever left out or given
    twice, whatever is asked in whatever order.
    """

    def __init__(self, period: float, paused: bool = False) -> None:
        """`period` between steps [s], larger than 0."""
        self._period = period
        self._paused = paused
        self._single = 0
        self._next: float | None = None
        self._lock = threading.Lock()
        self.steps = 0
        """Given so far."""

    def begin(self, start: float) -> None:
        """A new recording whose first step is due at `start` [s]."""
        with self._lock:
            self.steps, self._single = 0, 0
            self._next = None if self._paused else start

    def pause(self) -> str:
        """Give no step until told otherwise; what is done, in a sentence."""
        with self._lock:
            self._paused, self._next = True, None
        return "paused"

    def resume(self) -> str:
        """Go on; the next step is due when it is asked for next."""
        with self._lock:
            self._paused, self._single = False, 0
        return "playing"

    def step(self) -> str:
        """One step, then paused (again)."""
        with self._lock:
            self._paused, self._next = True, None
            self._single += 1
        return "one step"

    def due(self, now: float) -> float | None:
        """When the next step is due [s], on the clock of `now`; None: not before it is asked for."""
        with self._lock:
            if self._paused:
                return now if self._single else None
            if self._next is None:
                self._next = now
            return self._next

    def take(self) -> bool:
        """The step that is due is given now; whether it is a single one."""
        with self._lock:
            self.steps += 1
            if self._single:
                self._single -= 1
                return True
            if self._next is not None:
                self._next += self._period
            return False
