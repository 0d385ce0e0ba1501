"""What was commanded and measured at any recent instant, for chunks that count from an older observation."""

from __future__ import annotations

import numpy as np

from vla_ros.types import Array


class History:
    """Ring of vectors by time; look-ups take the newest entry not after the time asked for."""

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

    def at(self, time: float) -> Array | None:
        """The value in force at `time` [s]; the oldest kept when `time` is before it; None when empty."""
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
        value: Array = self._values[max(low - 1, oldest) % size].copy()
        return value
