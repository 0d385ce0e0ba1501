"""The rule that makes steps of a recorded stretch of messages.

Steps lie on the grid of the action rate.  Outputs of one action each are the steps; of longer chunks a step
takes the row that is due in the newest output that was out by then.  A step's observation is the newest one
that is not younger than the step: never one from the future.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDING = 1e-6
"""Of a period: stamps that lie a rounding before the grid count as on it."""


@dataclass(frozen=True)
class Given:
    """When an output was made of what, and how many actions it has; all times in ns."""

    stamp: int
    published: int
    horizon: int
    sequence: int = 0


@dataclass(frozen=True)
class Step:
    """One step: `row` of output number `output`, at `stamp` [ns]."""

    stamp: int
    output: int
    row: int


def steps_of(outputs: Sequence[Given], period: int, end: int) -> tuple[tuple[Step, ...], int | None]:
    """Steps of one episode, and where its actions ran out before its end.

    Args:
        outputs: in the order of their stamps, those without actions left out.
        period: time between steps [ns].
        end: stamp of the episode's end [ns].

    Returns:
        the steps, and the stamp [ns] of the first step that had no action; None: none lacked one.
    """
    if not outputs:
        return (), None
    if all(output.horizon == 1 for output in outputs):
        return tuple(Step(output.stamp, index, 0) for index, output in enumerate(outputs)), None
    # An output that left late may not hide an earlier one that was out: candidates are tried from the newest.
    stamps = [output.stamp for output in outputs]
    steps: list[Step] = []
    first, k = stamps[0], 0
    while (stamp := first + k * period) < end:
        k += 1
        index = bisect_right(stamps, stamp + round(_ROUNDING * period)) - 1
        while index >= 0 and outputs[index].published > stamp:
            index -= 1
        if index < 0:
            continue  # before the first output was out
        row = int((stamp - stamps[index]) / period + _ROUNDING)
        if row >= outputs[index].horizon:
            return tuple(steps), stamp
        steps.append(Step(stamp, index, row))
    return tuple(steps), None


def newest(stamps: Sequence[int], stamp: int) -> int:
    """Index of the newest of ascending `stamps` that is not above `stamp`; -1: none."""
    return bisect_right(stamps, stamp) - 1
