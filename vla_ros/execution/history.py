"""What was commanded and measured at any recent instant, for chunks that count from an older observation."""

from __future__ import annotations

import numpy as np

from vla_ros.types import Array


class History:
    """Ring of vectors by time; look-ups go straight from entry to entry.

    Taking the entry before instead would make every chunk of deltas late by half a tick on average, each
    counted from the one before: at 100 Hz and ten chunks a second a twentieth of the motion.
    """

    def __init__(self, dimension: int, capacity: int) -> None:
        """Room for `capacity` entries of shape (dimension,), allocated once."""
        self._times = np.full(capacity, -np.inf)
        self._values = np.zeros((capacity, dimension))
        self._count = 0

    def clear(self) -> None:
        """Forget everything."""
        self._times[:] = -np.inf
        self._count = 0

    def append(self, time: float, value: Array) -> None:
        """Add an entry; times must not decrease."""
        index = self._count % len(self._times)
        self._times[index] = time
        self._values[index] = value
        self._count += 1

    @property
    def newest(self) -> Array:
        """The value added last, not to be written to; zeros before the first."""
        value: Array = self._values[(self._count - 1) % len(self._times)]
        return value

    def at(self, time: float) -> Array | None:
        """The value at `time` [s]; the oldest or newest kept beyond them; None when empty."""
        size = len(self._times)
        filled = min(self._count, size)
        if filled == 0:
            return None
        oldest = self._count - filled
        low, high = oldest, self._count
        while low < high:
            middle = (low + high) // 2
            if self._times[middle % size] <= time:
                low = middle + 1
            else:
                high = middle
        before, after = max(low - 1, oldest) % size, min(low, self._count - 1) % size
        gap = self._times[after] - self._times[before]
        share = float(np.clip((time - self._times[before]) / gap, 0.0, 1.0)) if gap > 0.0 else 0.0
        value: Array = self._values[before] + share * (self._values[after] - self._values[before])
        return value
