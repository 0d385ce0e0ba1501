"""The C2 curve through timed waypoints that a chunk becomes.

The curve is the interpolating quintic spline with prescribed position, velocity and acceleration at the start
and rest at the end.  Among all curves through the waypoints it has the least integral of squared jerk
(the minimum-jerk interpolant; Todorov and Jordan, J. Neurophysiology 80, 1998), and it is C4 inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.kernels import curve
from vla_ros.types import Array


@dataclass(frozen=True)
class CurveState:
    """Position, velocity and acceleration of a curve, each (d,)."""

    position: Array
    velocity: Array
    acceleration: Array


class QuinticSpline:
    """Minimum-jerk curve from a given state through waypoints, at rest from the last one on."""

    def __init__(self, start_time: float, start: CurveState, times: Array, points: Array) -> None:
        """Build the curve.

        Args:
            start_time: [s].
            start: state at `start_time`.
            times: (k,) waypoint times [s], strictly increasing and after `start_time`.
            points: (k, d) waypoints.

        Raises:
            ActionError: no waypoint, times not increasing, values not finite.
        """
        times = np.asarray(times, dtype=float)
        points = np.asarray(points, dtype=float)
        knots = np.concatenate([[start_time], times])
        if len(times) == 0 or np.any(np.diff(knots) <= 0.0):
            raise ActionError("waypoints need times that increase strictly from the start")
        if not (np.isfinite(points).all() and np.isfinite(knots).all()):
            raise ActionError("waypoints and their times must be finite")
        self.knots = knots
        positions = np.vstack([start.position, points])
        # the same curve as scipy's `make_interp_spline` of degree 5, which the tests compare it with; scipy
        # would cost the controller a third of its time to start
        velocities, accelerations = curve.knot_derivatives(
            knots, positions, start.velocity, start.acceleration
        )
        states = np.stack([positions, velocities, accelerations], axis=-1)
        self.coefficients: Array = np.stack(
            _hermite(np.diff(knots)[:, None], states[:-1], states[1:]), axis=1
        )
        self.end: Array = positions[-1].copy()

    @property
    def end_time(self) -> float:
        """Time of the last waypoint [s]; the curve rests from then on."""
        return float(self.knots[-1])

    def sample(self, time: float) -> CurveState:
        """State at `time` [s]; before the start it is the start's state, after the end it rests."""
        return CurveState(*curve.sample(self.knots, self.coefficients, self.end, time))


def first_within_reach(
    start_time: float, start: CurveState, times: Array, points: Array, most: Array, jerk: Array | None = None
) -> int:
    """Index of the first waypoint that a gentle motion can reach in time; the last when there is none.

    A waypoint is in reach when the quintic from `start` to it, arriving with the velocity of the waypoints
    around it, keeps its acceleration below `most` (d,) and its jerk below `jerk` (d,) in every coordinate.
    Those before it are late: a curve through them would swing out and back.
    """
    if len(times) == 1:
        return 0
    gaps = np.diff(times)[:, None]
    speeds = np.diff(points, axis=0) / gaps
    arriving = np.vstack([speeds[:1], 0.5 * (speeds[:-1] + speeds[1:])])
    # every waypoint but the last as the end of a quintic of its own from the start, all at once
    h = times[:-1] - start_time
    ends = np.empty((2, *points[:-1].shape, 3))
    ends[0, ..., 0], ends[0, ..., 1], ends[0, ..., 2] = start.position, start.velocity, start.acceleration
    ends[1, ..., 0], ends[1, ..., 1], ends[1, ..., 2] = points[:-1], arriving, 0.0
    c = _hermite(h[:, None], ends[0], ends[1])
    s = _INSIDE[:, None, None] * h[:, None]
    acceleration = 2 * c[2] + s * (6 * c[3] + s * (12 * c[4] + s * 20 * c[5]))
    within = (np.abs(acceleration) <= most).all(axis=(0, 2))
    if jerk is not None:
        s = _THROUGHOUT[:, None, None] * h[:, None]
        within &= (np.abs(6 * c[3] + s * (24 * c[4] + s * 60 * c[5])) <= jerk).all(axis=(0, 2))
    return int(np.argmax(within)) if within.any() else len(times) - 1


SPACING = 0.15
"""Waypoints nearer to each other than this [s] are merged: a curve through steps of 30 Hz that are a
millimetre off would need sixty times the jerk of any tool's limit."""


def merged(times: Array, points: Array) -> tuple[Array, Array]:
    """Evenly spaced waypoints (k,), (k, d), each run of them closer than `SPACING` become their mean.

    The mean of a run lies at the mean of its times, so a steady motion stays what it is.  The last waypoint
    stays too, for it is where the motion ends; runs are counted from there.
    """
    inner = len(times) - 1
    size = int(np.ceil(SPACING / (times[1] - times[0]) - 1e-6)) if inner > 1 else 1
    if size < 2:
        return times, points
    begins = np.concatenate([[0], np.arange(inner % size or size, inner, size)])
    counts = np.diff(np.append(begins, inner))
    means = np.add.reduceat(points[:-1], begins, axis=0) / counts[:, None]
    instants = np.add.reduceat(times[:-1], begins) / counts
    return np.append(instants, times[-1:]), np.vstack([means, points[-1:]])


_THROUGHOUT = np.linspace(0.0, 1.0, 5)
_INSIDE = np.linspace(0.1, 0.9, 9)


def _hermite(t: Array, start: Array, end: Array) -> tuple[Array, ...]:
    """Six coefficients (..., d) of quintics of length t from `start` to `end`, states (..., d, 3)."""
    p, v, a = start[..., 0], start[..., 1], start[..., 2]
    dp = end[..., 0] - p - v * t - 0.5 * a * t**2
    dv = end[..., 1] - v - a * t
    da = end[..., 2] - a
    return (
        p,
        v,
        0.5 * a,
        10 * dp / t**3 - 4 * dv / t**2 + 0.5 * da / t,
        -15 * dp / t**4 + 7 * dv / t**3 - da / t**2,
        6 * dp / t**5 - 3 * dv / t**4 + 0.5 * da / t**3,
    )
