"""The judge of joint commands: finite differences of what was commanded, against the limits.

Shares nothing with the controller.  On the nominal tick grid of period T the k-th backward difference divided
by T^k is a mean of the k-th derivative over k ticks, so a command inside its limits can never be found guilty
except by rounding.  The tolerance is that of the number format: each position is wrong by at most u|q|
(u = half the machine epsilon), hence 2^k u|q| / T^k in the k-th difference, plus one part in a million of the
limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.robots.spec import JointLimits
from vla_ros.types import Array

RELATIVE_TOLERANCE = 1e-6
_DERIVATIVES = ("velocity", "acceleration", "jerk")


@dataclass(frozen=True)
class Violation:
    """One limit broken at one tick, in SI units; `subject` is a joint, a link or a pair of links."""

    kind: str
    subject: str
    tick: int
    value: float
    limit: float


@dataclass(frozen=True)
class Run:
    """Consecutive ticks `start:stop`; `from_rest`: it begins with a robot that stands."""

    start: int
    stop: int
    from_rest: bool


def split_runs(
    ticks: NDArray[np.int64], restarts: NDArray[np.bool_] | None = None, from_rest: bool = True
) -> list[Run]:
    """Cut a recording into runs of consecutive ticks.

    A run begins from rest at the first tick (when `from_rest`), where `restarts` says so (activation, reset)
    and where the tick counter went back; after missing ticks it begins in motion.
    """
    if len(ticks) == 0:
        return []
    cuts: dict[int, bool] = {0: from_rest}
    steps = np.diff(ticks)
    for k in np.flatnonzero(steps != 1):
        cuts[int(k) + 1] = bool(steps[k] <= 0)
    if restarts is not None:
        for k in np.flatnonzero(restarts[1:]):
            cuts[int(k) + 1] = True
    starts = sorted(cuts)
    return [Run(a, b, cuts[a]) for a, b in zip(starts, [*starts[1:], len(ticks)], strict=True)]


def count_violations(
    ticks: NDArray[np.int64],
    positions: Array,
    limits: JointLimits,
    period: float,
    names: Sequence[str] = (),
    restarts: NDArray[np.bool_] | None = None,
    from_rest: bool = True,
    epsilon: float = float(np.finfo(np.float64).eps),
) -> list[Violation]:
    """Every joint limit broken by commanded positions, one entry per tick, joint and kind.

    Args:
        ticks: (N,) tick numbers of the controller.
        positions: (N, n) commanded joint positions [rad].
        limits: the limits to hold them against.
        period: nominal tick [s].
        names: joint names for the report; numbers when empty.
        restarts: (N,) whether a tick is the first after activation or reset (see `split_runs`).
        from_rest: whether the first tick is that of a robot at rest.
        epsilon: machine epsilon of the numbers' format, e.g. that of float32 for float32 messages.
    """
    positions = np.asarray(positions, np.float64)
    names = list(names) or [str(j) for j in range(positions.shape[1])]
    found: list[Violation] = []
    for run in split_runs(np.asarray(ticks), restarts, from_rest):
        q, at = positions[run.start : run.stop], ticks[run.start : run.stop]
        finite = np.isfinite(q)
        for k, j in np.argwhere(~finite):
            found.append(Violation("not_finite", names[j], int(at[k]), float(q[k, j]), 0.0))
        if not finite.all():
            continue
        found += _outside(q, at, limits, names, epsilon)
        found += _too_fast(q, at, limits, period, names, epsilon, run.from_rest)
    return found


def further_out(excess: Array, tolerance: float | Array) -> NDArray[np.bool_]:
    """Where an excess over a limit (N, ...) is above zero and larger than it ever was before in the run.

    A robot that starts outside may come back in; it may never go further out, nor out again.
    """
    excess = np.maximum(excess, 0.0)
    allowed = np.minimum.accumulate(excess, axis=0)
    allowed = np.concatenate([excess[:1], allowed[:-1]])
    return np.asarray(excess > allowed + tolerance)


def _outside(
    q: Array, at: NDArray[np.int64], limits: JointLimits, names: Sequence[str], epsilon: float
) -> Iterator[Violation]:
    for excess, limit in (
        (q - limits.position_max, limits.position_max),
        (limits.position_min - q, limits.position_min),
    ):
        tolerance = RELATIVE_TOLERANCE * np.maximum(np.abs(limit), 1.0) + epsilon * np.abs(q).max(initial=0.0)
        for k, j in np.argwhere(further_out(excess, tolerance)):
            yield Violation("position", names[j], int(at[k]), float(q[k, j]), float(limit[j]))


def _too_fast(
    q: Array,
    at: NDArray[np.int64],
    limits: JointLimits,
    period: float,
    names: Sequence[str],
    epsilon: float,
    from_rest: bool,
) -> Iterator[Violation]:
    padding = 3 if from_rest else 0
    padded = np.concatenate([np.repeat(q[:1], padding, axis=0), q])
    size = np.abs(q).max(axis=0, initial=0.0)
    bounds = (limits.velocity, limits.acceleration, limits.jerk)
    for order, (kind, bound) in enumerate(zip(_DERIVATIVES, bounds, strict=True), start=1):
        if len(padded) <= order:
            return
        value = np.diff(padded, n=order, axis=0) / period**order
        if kind == "velocity" and limits.fade is not None:
            bound = _faded_bound(padded, value, bound, limits.fade)
        tolerance = RELATIVE_TOLERANCE * bound + rounding(size, epsilon, period, order)
        for k, j in np.argwhere(np.abs(value) > bound + tolerance):
            tick = max(int(k) + order - padding, 0)
            most = np.broadcast_to(bound, value.shape)[k, j]
            yield Violation(kind, names[j], int(at[tick]), float(value[k, j]), float(most))


def _faded_bound(q: Array, velocity: Array, bound: Array, fade: Array) -> Array:
    """Velocity limits (N - 1, n) between positions (N, n) that fall off towards the ends of the joints.

    The mean velocity of a tick is at most the greatest limit on its way, that where it began.
    """
    offset, gain, lower, upper = fade
    before = q[:-1]
    room = np.where(velocity > 0.0, upper - before, before - lower)
    faded = np.maximum(np.sqrt(gain * np.maximum(room, 0.0)) - offset, 0.0)
    return np.asarray(np.where(gain > 0.0, np.minimum(bound, faded), bound))


def rounding(size: Array, epsilon: float, period: float, order: int) -> Array:
    """Largest error of a difference quotient of numbers up to `size` that are rounded to `epsilon`."""
    return np.asarray(2.0**order * 0.5 * epsilon * size / period**order)
