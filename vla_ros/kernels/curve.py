"""Samples of a chunk's curve."""

from __future__ import annotations

import numpy as np

from vla_ros.kernels import CUBE, NUMBER, TABLE, VECTOR, compiled, inlined
from vla_ros.kernels.rotation import angular, turn, turned
from vla_ros.types import Array


@inlined
def _sample(knots: Array, coefficients: Array, end: Array, time: float) -> Array:
    last = knots.shape[0] - 1
    out = np.zeros((3, end.shape[0]))
    if time >= knots[last]:
        out[0] = end
        return out
    index = 0
    while index < last - 1 and time >= knots[index + 1]:
        index += 1
    s = max(time - knots[index], 0.0)
    c = coefficients[index]
    for i in range(end.shape[0]):
        out[0, i] = c[0, i] + s * (c[1, i] + s * (c[2, i] + s * (c[3, i] + s * (c[4, i] + s * c[5, i]))))
        out[1, i] = c[1, i] + s * (2 * c[2, i] + s * (3 * c[3, i] + s * (4 * c[4, i] + s * 5 * c[5, i])))
        out[2, i] = 2 * c[2, i] + s * (6 * c[3, i] + s * (12 * c[4, i] + s * 20 * c[5, i]))
    return out


@compiled(TABLE, VECTOR, CUBE, VECTOR, NUMBER)
def sample(knots: Array, coefficients: Array, end: Array, time: float) -> Array:
    """Position, velocity, acceleration (3, d) of piecewise quintics at `time`; at rest from the end on.

    Args:
        knots: (k+1,) [s].
        coefficients: (k, 6, d), ascending powers of the time since the piece's own knot.
        end: (d,) where it rests.
        time: [s].
    """
    return _sample(knots, coefficients, end, time)


@compiled((VECTOR, VECTOR, VECTOR, VECTOR), VECTOR, CUBE, VECTOR, VECTOR, NUMBER)
def sample_pose(
    knots: Array, coefficients: Array, end: Array, anchor: Array, time: float
) -> tuple[Array, Array, Array, Array]:
    """Position (3,), quaternion (4,), twist (6,) and its derivative (6,) of a curve of translation and
    rotation vector about `anchor`; arguments as `sample` with d = 6.
    """
    state = _sample(knots, coefficients, end, time)
    velocity, acceleration = angular(state[0, 3:], state[1, 3:], state[2, 3:])
    twist, change = state[1].copy(), state[2].copy()
    twist[3:], change[3:] = velocity, acceleration
    return state[0, :3].copy(), turned(state[0, 3:], anchor), twist, change


@compiled((VECTOR, VECTOR), VECTOR, TABLE, NUMBER)
def on_path(times: Array, points: Array, time: float) -> tuple[Array, Array]:
    """Position (3,) and quaternion (4,) at `time` on straight lines through poses (k, 7) at times (k,)."""
    count = times.shape[0]
    after = 0
    while after < count and times[after] <= time:
        after += 1
    if after == 0 or after == count:
        index = min(after, count - 1)
        return points[index, :3].copy(), points[index, 3:].copy()
    share = (time - times[after - 1]) / (times[after] - times[after - 1])
    start, goal = points[after - 1], points[after]
    return (
        start[:3] + share * (goal[:3] - start[:3]),
        turned(share * turn(goal[3:], start[3:]), start[3:]),
    )


@compiled(VECTOR, VECTOR, VECTOR, VECTOR)
def same_sign(position: Array, quaternion: Array, before: Array) -> Array:
    """A pose (7,) from its position and quaternion, whose sign is that of the pose `before` (7,).

    Both signs are the same rotation, but not half way between them.
    """
    out = np.empty(7)
    along = 0.0
    for i in range(4):
        along += quaternion[i] * before[3 + i]
    sign = -1.0 if along < 0.0 else 1.0
    for i in range(3):
        out[i] = position[i]
    for i in range(4):
        out[3 + i] = sign * quaternion[i]
    return out
