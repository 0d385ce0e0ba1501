"""How late chunks are: seconds from the stamp of the observation to the chunk's arrival at the executor."""

from __future__ import annotations

from collections import deque


class DelayStatistics:
    """Delays over a sliding window.

    The first is kept apart: it holds what happens once (compilation, caches, allocation) and would spoil the
    percentiles, on which the committed prefix of `rtc` rests, for a whole window.
    """

    def __init__(self, window: int = 100) -> None:
        """Percentiles are over the `window` newest delays."""
        self._window: deque[float] = deque(maxlen=window)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._window.clear()
        self.count = 0
        self.first = 0.0
        """The warm-up [s]; 0 before there was any."""
        self.p50 = self.p95 = 0.0
        """Percentiles of the window [s], nearest rank; 0 before the second delay."""

    def add(self, seconds: float) -> None:
        """Count a delay [s]; a stamp of the future counts as no delay."""
        seconds = max(seconds, 0.0)
        self.count += 1
        if self.count == 1:
            self.first = seconds
            return
        self._window.append(seconds)
        ordered = sorted(self._window)
        self.p50, self.p95 = _nearest_rank(ordered, 50), _nearest_rank(ordered, 95)


def _nearest_rank(ordered: list[float], percent: int) -> float:
    """The smallest value that at least `percent` % of the values do not exceed."""
    return ordered[-(-percent * len(ordered) // 100) - 1]
