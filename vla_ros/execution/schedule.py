"""The gripper's schedule: steps in force by their time, never averaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.bounds import MAX_SECONDS
from vla_ros.types import Array

KEPT = 2.0 * MAX_SECONDS
"""Seconds before a step for which the openings are still known: longer than from any observation whose chunk
is still to come, through a chunk that begins at the end of the one before."""


@dataclass(frozen=True)
class Schedule:
    """Widths [m] (k,), each in force from its time [s] (k,) on."""

    times: Array
    widths: Array

    @classmethod
    def constant(cls, width: float) -> Schedule:
        """One width [m] at all times."""
        return cls(np.array([-np.inf]), np.array([width]))

    def at(self, time: float) -> float:
        """The width in force at `time` [s]."""
        index = int(np.searchsorted(self.times, time, side="right")) - 1
        return float(self.widths[max(index, 0)])

    def then(self, begin: float, times: Array, widths: Array) -> Schedule:
        """Keep what comes before `begin` [s]; from then on steps (k,) that come into force at `times`.

        What was in force longer than `KEPT` before is forgotten: a run of days does not grow.
        """
        past = int(np.searchsorted(times, begin, side="right")) - 1
        current = float(widths[past]) if past >= 0 else self.at(begin)
        first = max(int(np.searchsorted(self.times, begin - KEPT, side="right")) - 1, 0)
        kept = slice(first, int(np.searchsorted(self.times, begin)))
        later = times > begin
        return Schedule(
            np.concatenate([self.times[kept], [begin], times[later]]),
            np.concatenate([self.widths[kept], [current], widths[later]]),
        )
