"""The regular grid of action stamps: start + k * period, whenever the caller comes to look."""

from __future__ import annotations

from vla_ros.types import NANOSECONDS

LEAD = 20_000_000
"""Between the start and the first stamp [ns]: whoever has to know who is in charge has heard it by then."""


class Grid:
    """Says when an action is due, and with which stamp."""

    def __init__(self, period: float) -> None:
        """`period` [s]."""
        self._period = period
        self._start: int | None = None
        self._next = 0
        self.count = 0
        """Actions since ever, the sequence number of the last."""
        self.skipped = 0
        """Stamps that passed without an action, because the caller came too late."""

    @property
    def runs(self) -> bool:
        """Whether actions are due."""
        return self._start is not None

    def start(self, now: int) -> None:
        """Begin right after `now` [ns]."""
        self._start, self._next = now + LEAD, 0

    def stop(self) -> None:
        """Nothing is due any more."""
        self._start = None

    def due(self, now: int) -> int | None:
        """The stamp [ns] that is due at `now`, each once; older ones that were missed are left out."""
        if self._start is None or now < self._start:
            return None
        newest = int((now - self._start) / NANOSECONDS / self._period + 1e-9)
        while newest > 0 and self._stamp(newest) > now:
            newest -= 1
        if newest < self._next:
            return None
        self.skipped += newest - self._next
        self._next = newest + 1
        self.count += 1
        return self._stamp(newest)

    def _stamp(self, number: int) -> int:
        return (self._start or 0) + round(number * self._period * NANOSECONDS)
