"""References that take over from one another at set instants."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

from vla_ros.execution.reference import CartesianReference, JointReference

R = TypeVar("R", CartesianReference, JointReference)


class Relay(Generic[R]):
    """The newest reference, and before it those still to be followed until it takes over."""

    def __init__(self, reference: R) -> None:
        """Begin with one that is followed at all times."""
        self._earlier: list[tuple[float, R]] = []
        self.newest: R = reference

    def at(self, time: float) -> R:
        """The reference to follow at `time` [s]."""
        for until, reference in self._earlier:
            if time < until:
                return reference
        return self.newest

    def branch(self, time: float) -> R:
        """A copy of the reference to follow at `time` [s], to be replanned from there."""
        return copy.copy(self.at(time))

    def hand_over(self, now: float, begin: float, reference: R) -> None:
        """From `begin` [s], now or later, follow `reference`; until then everything stays."""
        earlier = [(until, other) for until, other in self._earlier if now < until < begin]
        if begin > now:
            # the one followed up to `begin`, not the one that would take over right there
            last = next((other for until, other in self._earlier if until >= begin), self.newest)
            earlier.append((begin, last))
        self._earlier, self.newest = earlier, reference
