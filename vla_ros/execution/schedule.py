"""The gripper's schedule: steps in force by their time, never averaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.types import Array


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
        """Keep what comes before `begin` [s]; from then on steps (k,) that come into force at `times`."""
        past = int(np.searchsorted(times, begin, side="right")) - 1
        current = float(widths[past]) if past >= 0 else self.at(begin)
        kept, later = self.times < begin, times > begin
        return Schedule(
            np.concatenate([self.times[kept], [begin], times[later]]),
            np.concatenate([self.widths[kept], [current], widths[later]]),
        )
