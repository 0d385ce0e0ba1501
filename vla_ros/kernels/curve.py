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


@compiled((TABLE, TABLE), VECTOR, TABLE, VECTOR, VECTOR)
def knot_derivatives(
    knots: Array, points: Array, velocity: Array, acceleration: Array
) -> tuple[Array, Array]:
    """Velocities and accelerations (k+1, d) at the knots of the minimum-jerk curve through points.

    Of a quintic of length h: at its right end jerk = 60 dp/h^3 - (24 v0 + 36 v1)/h^2 + (9 a1 - 3 a0)/h, at
    its left end 60 dp/h^3 - (36 v0 + 24 v1)/h^2 + (3 a1 - 9 a0)/h; snap likewise.  That both are continuous
    at the inner knots is two equations a knot, which are also the derivatives of the integral of squared jerk
    by the knot's velocity and acceleration: a symmetric, positive definite system of 2 x 2 blocks on three
    diagonals, eliminated block by block without pivoting (Golub and Van Loan, Matrix Computations, 4.5.1) in
    time proportional to the knots.

    Args:
        knots: (k+1,) [s], strictly increasing.
        points: (k+1, d) at the knots.
        velocity: (d,) at the first knot.
        acceleration: (d,) at the first knot; at the last both are zero.
    """
    count, wide = points.shape
    v, a = np.zeros((count, wide)), np.zeros((count, wide))
    v[0], a[0] = velocity, acceleration
    # of each inner knot the inverse of its eliminated diagonal block times the block above the diagonal
    over = np.zeros((count, 2, 2))
    for i in range(1, count - 1):
        g, h = knots[i] - knots[i - 1], knots[i + 1] - knots[i]
        g2, h2 = g * g, h * h
        g3, h3 = g2 * g, h2 * h
        # the block below the diagonal: the transpose of the one above of the knot before
        lvv, lva, lav, laa = 168.0 / g3, 24.0 / g2, -24.0 / g2, -3.0 / g
        dvv, dva, daa = 192.0 / g3 + 192.0 / h3, 36.0 / h2 - 36.0 / g2, 9.0 / g + 9.0 / h
        if i > 1:
            o = over[i - 1]
            dvv -= lvv * o[0, 0] + lva * o[1, 0]
            dva -= lvv * o[0, 1] + lva * o[1, 1]
            daa -= lav * o[0, 1] + laa * o[1, 1]
        determinant = dvv * daa - dva * dva
        ivv, iva, iaa = daa / determinant, -dva / determinant, dvv / determinant
        uvv, uva, uav, uaa = 168.0 / h3, -24.0 / h2, 24.0 / h2, -3.0 / h
        over[i, 0, 0], over[i, 0, 1] = ivv * uvv + iva * uav, ivv * uva + iva * uaa
        over[i, 1, 0], over[i, 1, 1] = iva * uvv + iaa * uav, iva * uva + iaa * uaa
        for j in range(wide):
            before, after = points[i, j] - points[i - 1, j], points[i + 1, j] - points[i, j]
            rv = 360.0 * before / (g2 * g2) + 360.0 * after / (h2 * h2)
            ra = 60.0 * after / h3 - 60.0 * before / g3
            rv -= lvv * v[i - 1, j] + lva * a[i - 1, j]
            ra -= lav * v[i - 1, j] + laa * a[i - 1, j]
            v[i, j], a[i, j] = ivv * rv + iva * ra, iva * rv + iaa * ra
    for i in range(count - 3, 0, -1):
        for j in range(wide):
            v[i, j] -= over[i, 0, 0] * v[i + 1, j] + over[i, 0, 1] * a[i + 1, j]
            a[i, j] -= over[i, 1, 0] * v[i + 1, j] + over[i, 1, 1] * a[i + 1, j]
    return v, a
