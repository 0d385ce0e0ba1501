"""How fast a policy's steps can be executed when its answers come late or seldom.

A step says where the robot is to be one period after the stamp.  When the answer comes later than that, its
motion is still worth executing, only slower: it has to last from the stamp of its observation until the next
answer can be there.  Faster and the robot would reach the target, rest, and start again with every answer;
or, when the next answer was made of an image from before the motion, execute the same delta twice.

With an age a of the answers, an interval d between them, and n steps of a period T, a chunk covers n T seconds
of the policy's motion in a + d seconds of the robot's.
"""

from __future__ import annotations

from collections import deque

IN_TIME = 0.5
"""A step nearer than this many periods is late: reaching it in time would need a jerk, not a motion."""

MARGIN = 1.25
"""Of the usual interval between answers: one that comes a quarter later still finds the robot in motion."""

FOLLOWING = 3.0
"""Answers further apart than this many usual intervals [-] do not follow each other: the policy was away."""


def lasting(horizon: int, period: float, age: float, interval: float) -> float:
    """Seconds from the stamp in which the steps of a late chunk are executed; never less than was asked for.

    Args:
        horizon: n, steps of the chunk.
        period: T, seconds between them.
        age: a, seconds from the stamp to the arrival.
        interval: d, seconds from one answer to the next.
    """
    return max(horizon * period, age + MARGIN * max(interval, period))


def share_of_pace(horizon: int, period: float, age: float, interval: float) -> float:
    """Share (0, 1] of the policy's own pace at which its steps are executed; 1 when they come in time.

    Arguments as `lasting`.  A chunk is in time when its last step is still `IN_TIME` periods ahead.
    """
    if age <= (horizon - IN_TIME) * period:
        return 1.0
    return horizon * period / lasting(horizon, period, age, interval)


class AnswerIntervals:
    """Seconds between the arrivals of answers that follow each other."""

    def __init__(self, window: int = 9) -> None:
        """The usual interval is the median of the `window` newest."""
        self._window: deque[float] = deque(maxlen=window)
        self._last: float | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._window.clear()
        self._last = None

    def add(self, time: float) -> None:
        """An answer arrived at `time` [s]."""
        if self._last is not None and time > self._last:
            self._window.append(time - self._last)
        self._last = time

    @property
    def usual(self) -> float | None:
        """The median interval [s]; None before the second answer."""
        if not self._window:
            return None
        return sorted(self._window)[len(self._window) // 2]
