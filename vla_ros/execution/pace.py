"""How fast a policy's steps can be executed when its answers come late or seldom.

A step says where the robot is to be one period after the stamp.  When the answer comes later than that, its
motion is still worth executing, only slower: from the stamp of its observation it has to last until the next
answer can be there.  Faster and the robot would reach the target, rest, and start again with every answer;
or, when the next answer was made of an image from before the motion, execute the same delta twice.

With answers of age a every d seconds, each of n steps of a period T, the robot takes a + d seconds for what
the policy meant for n T.
"""

from __future__ import annotations

from collections import deque

IN_TIME = 0.5
"""A target nearer than this many periods is late: reaching it in time would need a jerk, not a motion."""

MARGIN = 1.2
"""Of the usual interval between answers: one that comes a fifth later still finds the robot in motion."""

SLOW = 0.95
"""Share of its own pace below which a policy is said to be too slow."""

FOLLOWING = 2.0
"""Answers further apart than this [s] do not follow each other: the robot may rest between them."""


def lasting(horizon: int, period: float, age: float, interval: float) -> float:
    """Seconds from the stamp that the motion of a late chunk takes.

    Continuous in the age: a chunk that is just too late takes as long as one that is just in time, and one
    that is late by half a period or more leaves room for the next answer.

    Args:
        horizon: n, steps of the chunk.
        period: T, seconds between them.
        age: a, seconds from the stamp to the arrival.
        interval: d, seconds from one answer to the next.
    """
    shortest = IN_TIME * period
    late = min(max((age - horizon * period) / shortest + 1.0, 0.0), 1.0)
    return age + (1.0 - late) * shortest + late * max(MARGIN * interval, horizon * period)


def in_time(horizon: int, period: float, age: float) -> bool:
    """Whether a chunk of `age` [s] still has a step that can be reached when it is due."""
    return age <= (horizon - IN_TIME) * period + 1e-9


def share_of_pace(horizon: int, period: float, age: float, interval: float) -> float:
    """Share (0, 1] of the policy's own pace at which its steps are executed; 1 when they come in time.

    Arguments as `lasting`.
    """
    if in_time(horizon, period, age):
        return 1.0
    return min(1.0, horizon * period / lasting(horizon, period, age, interval))


def slow_sentence(horizon: int, period: float, age: float, interval: float, pace: float) -> str:
    """What it costs that a policy is too slow for its action rate, as one plain sentence.

    Arguments as `lasting`, and the share of the policy's own pace that is left.
    """
    steps = "one step" if horizon == 1 else f"{horizon} steps"
    return (
        f"the policy is too slow for {1.0 / period:.3g} Hz: {steps} every {interval:.2f} s, {age:.2f} s old; "
        f"the robot moves at {pace:.0%} of its pace"
    )


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
        """An answer arrived at `time` [s], not before the last."""
        if self._last is not None and 0.0 < time - self._last <= FOLLOWING:
            self._window.append(time - self._last)
        self._last = time

    @property
    def usual(self) -> float | None:
        """The median interval [s]; None as long as no two answers followed each other."""
        if not self._window:
            return None
        return sorted(self._window)[len(self._window) // 2]
