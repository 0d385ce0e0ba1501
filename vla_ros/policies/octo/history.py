"""The window of frames a policy sees: the newest, and those one, two ... periods of the data before it."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import NANOSECONDS

Frame = TypeVar("Frame")


class History(Generic[Frame]):
    """Keeps frames by their stamps.

    Octo's training saw frames one period of its data apart.  A robot's observations come when they come: for
    each earlier step the frame nearest to its time is taken, unless it is more than a period off; then the
    step is padding, filled with the oldest frame taken, as at the beginning of an episode
    (octo/utils/gym_wrappers.py, HistoryWrapper).
    """

    def __init__(self, window: int, period: float) -> None:
        """`window` frames, `period` [s] apart."""
        self._window = window
        self._period = period * NANOSECONDS
        self._frames: list[tuple[int, Frame]] = []

    def clear(self) -> None:
        """Forget all: a new episode."""
        self._frames = []

    def add(self, stamp: int, frame: Frame) -> tuple[list[Frame], NDArray[np.bool_]]:
        """The window that ends with this frame, oldest first, and which steps are real (window,).

        A stamp [ns] before that of the newest frame means that time began anew; one equal takes its place.
        """
        if self._frames and stamp < self._frames[-1][0]:
            self.clear()
        if self._frames and stamp == self._frames[-1][0]:
            self._frames.pop()
        self._frames.append((stamp, frame))
        oldest = stamp - (self._window + 1) * self._period
        self._frames = [entry for entry in self._frames if entry[0] >= oldest]
        return self._chosen(stamp)

    def _chosen(self, stamp: int) -> tuple[list[Frame], NDArray[np.bool_]]:
        index = len(self._frames) - 1
        chosen, real = [self._frames[index][1]], [True]
        for step in range(1, self._window):
            wanted = stamp - step * self._period
            earlier = range(index) if real[0] else range(0)
            best = min(earlier, key=lambda one: abs(self._frames[one][0] - wanted), default=None)
            if best is not None and abs(self._frames[best][0] - wanted) <= self._period:
                index = best
                chosen.insert(0, self._frames[best][1])
                real.insert(0, True)
            else:
                chosen.insert(0, chosen[0])
                real.insert(0, False)
        return chosen, np.array(real)
