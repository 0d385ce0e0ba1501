"""Planned rest: the last targets of a chunk are reached later, so that the motion through them ends gently.

A chunk's last target is where the motion ends if nothing follows.  Steps of full speed up to it leave one
period to brake, at 30 Hz a blow.  So the clock by which the targets are read is slowed down towards the end:
with u in [0, 1] over T seconds its rate is r (1 - 3 u^2 + 2 u^3), which passes r T / 2 seconds of targets and
brakes a speed v with at most 1.5 r v / T, and a jerk of at most 6 r v / T^2.  The path stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.execution.spline import CurveState
from vla_ros.types import Array

_U = np.linspace(0.0, 1.0, 257)
_PASSED = 2.0 * _U - 2.0 * _U**3 + _U**4
"""Share of the targets' time passed at u; inverted by table."""


@dataclass(frozen=True)
class Gentle:
    """What a motion may ask for in each coordinate, (d,), per second squared and cubed."""

    acceleration: Array
    jerk: Array


def ease_out(start_time: float, start: CurveState, times: Array, points: Array, gentle: Gentle) -> Array:
    """Times (k,) of waypoints at which a motion through them ends gently; none is earlier than asked for.

    Args:
        start_time: now [s].
        start: state of the motion at `start_time`.
        times: (k,) when the waypoints are asked for [s], increasing, after `start_time`.
        points: (k, d) waypoints.
        gentle: bounds per coordinate.
    """
    left = float(times[-1] - start_time)
    if len(times) == 1:
        # one quintic from the present state: the peaks of rest to rest, and of braking the present speed
        distance = np.abs(points[0] - start.position)
        hop = max(_largest(5.774 * distance / gentle.acceleration, 0.5),
                  _largest(60.0 * distance / gentle.jerk, 1.0 / 3.0))  # fmt: skip
        return np.array([start_time + max(left, hop, _braking(start.velocity[None], gentle))])
    speeds = np.diff(points, axis=0) / np.diff(times)[:, None]
    seconds, first = _braking(speeds[-1:], gentle), len(speeds) - 1
    while first > 0 and times[first] > times[-1] - 0.5 * seconds:
        first -= 1
        seconds = max(seconds, _braking(speeds[first : first + 1], gentle))
    if seconds <= 1e-9:
        return times
    rate = 1.0
    if left < 0.5 * seconds:
        # too near for the whole speed: the clock is slow from now on
        speed = np.abs(speeds[first:]).max(axis=0)
        seconds = max(_largest(3.0 * speed * left / gentle.acceleration, 0.5),
                      _largest(12.0 * speed * left / gentle.jerk, 1.0 / 3.0), 2.0 * left)  # fmt: skip
        rate = 2.0 * left / seconds
    passed = 0.5 * rate * seconds
    share = 1.0 - (times[-1] - times) / passed
    slowed = times[-1] - passed + seconds * np.interp(share, _PASSED, _U)
    return np.asarray(np.where(share > 0.0, slowed, times))


def _braking(speeds: Array, gentle: Gentle) -> float:
    """Seconds to brake the largest of `speeds` (m, d) to rest along half their way."""
    speed = np.abs(speeds).max(axis=0)
    return max(_largest(1.5 * speed / gentle.acceleration, 1.0), _largest(6.0 * speed / gentle.jerk, 0.5))


def _largest(values: Array, power: float) -> float:
    return float(values.max() ** power)
