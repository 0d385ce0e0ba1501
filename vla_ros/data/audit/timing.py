"""How regular a stream is: rate, gaps, jitter, order, from nothing but its stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import NANOSECONDS, Array

Stamps = NDArray[np.int64]
"""Times [ns]."""
DOUBLE = 0.5
"""Messages closer than this share of a period stand for one."""


@dataclass(frozen=True)
class Timing:
    """Numbers of one stream; times in seconds."""

    count: int
    rate: float
    """By stamps: intervals over the time from the first to the last [Hz]; 0 for fewer than two messages."""
    recorded_rate: float
    """The same by recording times [Hz]."""
    longest_gap: float
    """Longest time between two stamps, or between an end of the episode and the nearest message."""
    gap_start: int
    """Where the longest gap begins [ns of the stamps]."""
    gaps: int
    """Times between stamps longer than the limit given."""
    jitter: tuple[float, float, float]
    """p50, p95, p99 of |time between stamps - period|."""
    equal: int
    """Stamps equal to the one before."""
    backwards: int
    """Stamps, or recording times, smaller than the one before."""
    lost: int
    """Messages missing in the gaps, if they come once a period."""
    pace: float
    """Time by stamps over time by recording; 1 when both clocks run alike, 0 when not known."""


def timing(
    stamps: Stamps, recorded: Stamps, period: float, gap_limit: float, edges: tuple[int, int] | None = None,
    pauses: NDArray[np.bool_] | None = None,
) -> Timing:  # fmt: skip
    """Numbers of one stream.

    Args:
        stamps: of the messages, in the order they were recorded.
        recorded: when each was recorded.
        period: nominal time between messages [s].
        gap_limit: a longer time between stamps counts as a gap [s].
        edges: beginning and end of the episode by recording time; a stream that is silent there has a gap.
        pauses: (N,) messages before which it was silent on purpose, so that this time is not judged.
    """
    steps = np.diff(stamps) / NANOSECONDS
    waits = np.diff(recorded) / NANOSECONDS
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    judged = np.ones(len(stamps), np.bool_) if pauses is None else ~pauses[order]
    apart = np.where(judged[1:], np.diff(ordered) / NANOSECONDS, 0.0)
    span = float(ordered[-1] - ordered[0]) / NANOSECONDS if len(stamps) else 0.0
    heard = float(recorded.max() - recorded.min()) / NANOSECONDS if len(stamps) else 0.0
    longest, start = 0.0, int(stamps[0]) if len(stamps) else 0
    if len(apart):
        k = int(np.argmax(apart))
        longest, start = float(apart[k]), int(ordered[k])
    gaps = int((apart > gap_limit).sum())
    if edges is not None:
        first, last = (int(recorded.min()), int(recorded.max())) if len(stamps) else (edges[1], edges[1])
        offset = int(stamps[0] - recorded[0]) if len(stamps) else 0
        for begin, end in ((edges[0], first), (last, edges[1])):
            silent = (end - begin) / NANOSECONDS
            gaps += silent > gap_limit
            if silent > longest:
                longest, start = silent, begin + offset
    apart = apart[judged[1:]]
    present = apart[apart > 0]
    missing = np.maximum(np.round(present / period) - 1, 0) if period > 0 else np.zeros(0)
    off = np.abs(apart - period)
    return Timing(
        count=len(stamps),
        rate=(len(stamps) - 1) / span if span > 0 else 0.0,
        recorded_rate=len(waits) / heard if heard > 0 else 0.0,
        longest_gap=longest,
        gap_start=start,
        gaps=gaps,
        jitter=tuple(float(v) for v in np.percentile(off, (50, 95, 99))) if len(off) else (0.0, 0.0, 0.0),  # type: ignore[arg-type]
        equal=int((steps == 0).sum()),
        backwards=int((steps < 0).sum()) + int((waits < 0).sum()),
        lost=int(missing.sum()),
        pace=span / heard if heard > 0 and span > 0 else 0.0,
    )


@dataclass(frozen=True)
class Grid:
    """How actions lie on a regular grid of a period that starts with the first of them."""

    steps: int
    """Steps from the first to the last action, missing ones included."""
    missing: int
    longest_hole: float
    """Longest time between two actions, less one period [s]."""
    hole_start: int
    """[ns]"""
    double: int
    """Actions less than half a period behind the one before."""
    off: int
    """Actions further from the grid than the tolerance."""


def grid(stamps: Stamps, period: float, tolerance: float, begins: NDArray[np.bool_] | None = None) -> Grid:
    """Compare the stamps of actions with a grid; `period` [s], `tolerance` [periods].

    `begins`: (T,) actions with which a grid of its own begins, where another one took over; with them the
    stamps ascend.

    The grid goes on from the action before, so that one slip is one slip, not a shift of all that follow.
    """
    if len(stamps) < 2:
        return Grid(len(stamps), 0, 0.0, 0, 0, 0)
    apart: Array = np.asarray(np.diff(np.sort(stamps)), np.float64) / (NANOSECONDS * period)
    if begins is not None:
        apart = np.where(begins[1:], 1.0, apart)
    whole = np.round(apart)
    double = apart < DOUBLE
    missing = np.maximum(whole - 1, 0)
    k = int(np.argmax(apart))
    return Grid(
        steps=int(np.maximum(whole, 1)[~double].sum()) + 1,
        missing=int(missing.sum()),
        longest_hole=max(float(apart[k]) - 1.0, 0.0) * period,
        hole_start=int(np.sort(stamps)[k]),
        double=int(double.sum()),
        off=int((np.abs(apart - whole) > tolerance)[~double].sum()),
    )
