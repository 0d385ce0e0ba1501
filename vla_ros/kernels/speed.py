"""Speeds of tool and elbow along joint motions, exactly and as bounds between two instants.

A chain is (n, 16): per joint the rotation (9, by rows) and translation (3) of its frame in the frame before,
its axis (3) there, and 1 where it slides.  Its ends are (2, 4): the joint that carries tool and elbow, and
their places in that joint's frame.
"""

from __future__ import annotations

import math

import numpy as np

from vla_ros.kernels import NUMBER, TABLE, VECTOR, compiled, inlined
from vla_ros.kernels.motion import _at
from vla_ros.types import Array

_ROUNDING = 1e-9
_FINEST = 256.0
"""Into so many parts a piece of a stop is cut where the bounds on what lies in it are too coarse."""
_INSTANT = 1e-9
"""Seconds in which no velocity changes by more than rounding."""


@inlined
def _place(chain: Array, ends: Array, q: Array, axes: Array, origins: Array, out: Array) -> None:
    """Axes (n, 3) and origins (n, 3) of the joints at q (n,), in the base frame.

    `out` (15,) becomes: place (3) of the tool, place (3) of the elbow, rotation (9) of the tool's joint.
    """
    r, turned, o = np.eye(3), np.empty((3, 3)), np.zeros(3)
    for i in range(q.shape[0]):
        for k in range(3):
            o[k] += r[k, 0] * chain[i, 9] + r[k, 1] * chain[i, 10] + r[k, 2] * chain[i, 11]
            for m in range(3):
                turned[k, m] = (
                    r[k, 0] * chain[i, m] + r[k, 1] * chain[i, 3 + m] + r[k, 2] * chain[i, 6 + m]
                )
        x, y, z = chain[i, 12], chain[i, 13], chain[i, 14]
        for k in range(3):
            axes[i, k] = turned[k, 0] * x + turned[k, 1] * y + turned[k, 2] * z
            origins[i, k] = o[k]
        if chain[i, 15] > 0.0:
            for k in range(3):
                o[k] += q[i] * axes[i, k]
            r[:, :] = turned
        else:
            # Rodrigues' formula, about the axis in the joint's own frame
            s, c = math.sin(q[i]), math.cos(q[i])
            d = 1.0 - c
            for k in range(3):
                a, b, e = turned[k, 0], turned[k, 1], turned[k, 2]
                r[k, 0] = a * (c + d * x * x) + b * (d * x * y + s * z) + e * (d * x * z - s * y)
                r[k, 1] = a * (d * x * y - s * z) + b * (c + d * y * y) + e * (d * y * z + s * x)
                r[k, 2] = a * (d * x * z + s * y) + b * (d * y * z - s * x) + e * (c + d * z * z)
        for end in range(2):
            if int(ends[end, 0]) == i:
                for k in range(3):
                    out[3 * end + k] = (
                        o[k] + r[k, 0] * ends[end, 1] + r[k, 1] * ends[end, 2] + r[k, 2] * ends[end, 3]
                    )
                    if end == 0:
                        for m in range(3):
                            out[6 + 3 * k + m] = r[k, m]


@inlined
def _maps(chain: Array, ends: Array, q: Array, maps: Array) -> None:
    """What makes velocities of joint velocities at q (n,): (9, n), of tool, its turning and the elbow."""
    n = q.shape[0]
    axes, origins, place = np.empty((n, 3)), np.empty((n, 3)), np.zeros(15)
    _place(chain, ends, q, axes, origins, place)
    for i in range(n):
        z0, z1, z2 = axes[i, 0], axes[i, 1], axes[i, 2]
        slides = chain[i, 15] > 0.0
        for end in range(2):
            at = 6 * end
            if i > int(ends[end, 0]):
                maps[at : at + 3, i] = 0.0
            elif slides:
                maps[at, i], maps[at + 1, i], maps[at + 2, i] = z0, z1, z2
            else:
                x = place[3 * end] - origins[i, 0]
                y = place[3 * end + 1] - origins[i, 1]
                z = place[3 * end + 2] - origins[i, 2]
                maps[at, i], maps[at + 1, i] = z1 * z - z2 * y, z2 * x - z0 * z
                maps[at + 2, i] = z0 * y - z1 * x
        turns = 0.0 if slides or i > int(ends[0, 0]) else 1.0
        maps[3, i], maps[4, i], maps[5, i] = turns * z0, turns * z1, turns * z2


@inlined
def _mapped(maps: Array, v: Array, out: Array) -> None:
    """Speed of the tool, its angular speed, speed of the elbow (3,) at joint velocities v (n,)."""
    for row in range(3):
        square = 0.0
        for k in range(3):
            part = 0.0
            for i in range(v.shape[0]):
                part += maps[3 * row + k, i] * v[i]
            square += part * part
        out[row] = math.sqrt(square)


@compiled(VECTOR, TABLE, TABLE, VECTOR, VECTOR)
def speeds(chain: Array, ends: Array, q: Array, v: Array) -> Array:
    """Speed of the tool, its angular speed, speed of the elbow (3,) at joints and velocities (n,)."""
    maps, out = np.empty((9, q.shape[0])), np.empty(3)
    _maps(chain, ends, q, maps)
    _mapped(maps, v, out)
    return out


@inlined
def _tick(chain: Array, ends: Array, q: Array, before: Array, period: float, out: Array) -> None:
    """Mean speeds (3,) of tool, turn and elbow between two postures a period apart."""
    n = q.shape[0]
    axes, origins = np.empty((n, 3)), np.empty((n, 3))
    a, b = np.zeros(15), np.zeros(15)
    _place(chain, ends, before, axes, origins, a)
    _place(chain, ends, q, axes, origins, b)
    for part in range(2):
        square = 0.0
        for k in range(3):
            square += (b[3 * part + k] - a[3 * part + k]) ** 2
        out[2 * part] = math.sqrt(square) / period
    # a^T b; its skew part has the sine, its trace the cosine of the angle
    m = np.empty(9)
    for i in range(3):
        for j in range(3):
            m[3 * i + j] = a[6 + i] * b[6 + j] + a[9 + i] * b[9 + j] + a[12 + i] * b[12 + j]
    sine = 0.5 * math.sqrt((m[7] - m[5]) ** 2 + (m[2] - m[6]) ** 2 + (m[3] - m[1]) ** 2)
    out[1] = math.atan2(sine, 0.5 * (m[0] + m[4] + m[8] - 1.0)) / period


@inlined
def _interpolation_error(levers: Array, v: Array, a: Array, jerk: Array, length: float, out: Array) -> None:
    """By how much speeds (3,) may exceed both their ends' within `length` [s] of constant jerk.

    A vector function leaves the straight line between two of its values by at most its greatest second
    derivative times length^2 / 8.  The velocity of a point on the chain is the first derivative of a product
    of joint motions, no partial derivative of which by joints i, j, ... exceeds the lever of the outermost of
    them; so its second derivative is at most
        sum L_i |j_i| + 3 sum L_ik |a_i v_k| + sum L_i |v_i| (sum |v_i|)^2
    (j: jerk, L_i: lever of joint i, L_ik: that of the outer of i and k), and that of the angular
    velocity the same with levers of one.
    """
    share, speed = length * length / 8.0, 0.0
    for i in range(v.shape[0]):
        speed += v[i]
    for row in range(3):
        first, third = 0.0, 0.0
        for i in range(v.shape[0]):
            first += levers[row, i] * jerk[i]
            third += levers[row, i] * v[i]
        out[row] = share * (first + 3.0 * _pairs(levers, row, a, v) + third * speed * speed)


@inlined
def _pairs(levers: Array, row: int, a: Array, b: Array) -> float:
    """Sum over all pairs of joints of the lever of the outer one, |a| of one and |b| of the other."""
    total, inner_a, inner_b = 0.0, 0.0, 0.0
    for i in range(a.shape[0]):
        x, y = abs(a[i]), abs(b[i])
        total += levers[row, i] * (x * y + inner_a * y + x * inner_b)
        inner_a += x
        inner_b += y
    return total


@inlined
def _bounded(levers: Array, v: Array, a: Array, jerk: Array, limits: Array) -> bool:
    """Whether no way to rest from v (n,), a (n,) can be too fast, by lever arms alone."""
    for row in range(3):
        most = 0.0
        for i in range(v.shape[0]):
            peak = v[i] + abs(a[i]) * a[i] / (2.0 * jerk[i])
            most += levers[row, i] * max(abs(v[i]), abs(peak))
        if not most <= limits[row]:
            return False
    return True


@inlined
def _exceeding(speeds: Array, excess: Array, limits: Array) -> int:
    """Which of three speeds is too fast, -1: none."""
    for row in range(3):
        if not speeds[row] + excess[row] <= limits[row] * (1.0 + _ROUNDING):
            return row
    return -1


@inlined
def _bound(maps: Array, levers: Array, v: Array, moved: Array, out: Array) -> None:
    """Bounds (3,) on the speeds at velocities v (n,) where `maps` were those at joints `moved` (n,) away.

    By the mean value theorem each is at most that of the maps and sum L_ik |moved_i v_k| (see above).
    """
    _mapped(maps, v, out)
    for row in range(3):
        out[row] += _pairs(levers, row, moved, v)


@inlined
def _along(
    chain: Array, ends: Array, levers: Array, plan: Array, jerk: Array, limits: Array, spacing: float
) -> tuple[int, float]:
    """What is too fast on a stop, -1: nothing, and how fast."""
    n = plan.shape[1]
    maps, zero = np.empty((9, n)), np.zeros(3)
    q, v, a = np.empty(n), np.empty(n), np.empty(n)
    known, moved = np.empty(n), np.empty(n)
    fast, bend, change = np.empty(n), np.empty(n), np.empty(n)
    next_q, next_v, next_a = np.empty(n), np.empty(n), np.empty(n)
    here, there, excess = np.empty(3), np.empty(3), np.empty(3)
    knots = np.empty(3 * n + 1)
    knots[0] = 0.0
    for i in range(n):
        q[i], v[i], a[i] = plan[5, i], plan[6, i], plan[7, i]
        for k in range(3):
            knots[3 * i + k + 1] = plan[k + 1, i]
    if _bounded(levers, v, a, jerk, limits):
        return -1, 0.0
    knots.sort()
    _maps(chain, ends, q, maps)
    known[:] = q
    fresh = True
    _mapped(maps, v, here)
    which = _exceeding(here, zero, limits)
    if which >= 0:
        return which, here[which]
    for knot in range(3 * n):
        time, until = knots[knot], knots[knot + 1]
        if until - time < _INSTANT:
            continue
        # phases begin and end at knots alone: in between all jerks are constant
        length = (until - time) / math.ceil((until - time) / spacing)
        shortest = length / _FINEST
        while until - time > 0.5 * shortest:
            after = time + length if until - time > 1.5 * length else until
            for i in range(n):
                next_q[i], next_v[i], next_a[i] = _at(plan, i, after)
                bend[i] = max(abs(a[i]), abs(next_a[i]))
                fast[i] = max(abs(v[i]), abs(next_v[i])) + 0.5 * length * bend[i]
                change[i] = abs(next_a[i] - a[i]) / (after - time)
                moved[i] = next_q[i] - known[i]
            _interpolation_error(levers, fast, bend, change, after - time, excess)
            _bound(maps, levers, next_v, moved, there)
            which = max(_exceeding(here, excess, limits), _exceeding(there, excess, limits))
            if which >= 0 and not fresh:
                # the bounds have become too coarse: begin anew from here
                _maps(chain, ends, q, maps)
                known[:] = q
                fresh = True
                _mapped(maps, v, here)
                continue
            if which >= 0:
                length *= 0.25
                if _exceeding(here, zero, limits) >= 0 or length < shortest:
                    return which, max(here[which], there[which]) + excess[which]
                continue
            time, fresh = after, False
            q[:], v[:], a[:], here[:] = next_q, next_v, next_a, there
        if _bounded(levers, v, a, jerk, limits):
            return -1, 0.0
    return -1, 0.0


@compiled((NUMBER, NUMBER), TABLE, TABLE, TABLE, VECTOR, TABLE, VECTOR, VECTOR, NUMBER, NUMBER)
def speeding(
    chain: Array, ends: Array, levers: Array, before: Array, plan: Array, jerk: Array, limits: Array,
    period: float, spacing: float,
) -> tuple[float, float]:  # fmt: skip
    """Whether a tick, or the stop after it, moves tool or elbow too fast.

    Args:
        chain: as above.
        ends: as above.
        levers: (3, n) bounds of the speed of tool, turn and elbow per speed of a joint, growing to the base.
        before: joint positions (n,) at the beginning of the tick.
        plan: the stop from its end, by `plan_stop`.
        jerk: of the stop (n,).
        limits: (3,) of the speed of the tool, its angular speed, the speed of the elbow.
        period: the tick [s].
        spacing: longest time between two instants at which the stop is looked at [s].

    Returns: which limit is broken (-1: none), and the speed, or a bound on it where the bound is what is.
    """
    n = before.shape[0]
    q, mean = plan[5], np.empty(3)
    bound = True
    for row in range(3):
        most = 0.0
        for i in range(n):
            if not np.isfinite(q[i]):
                return 0.0, np.inf
            most += levers[row, i] * abs(q[i] - before[i])
        bound = bound and most <= limits[row] * period
    if not bound:
        _tick(chain, ends, q, before, period, mean)
        which = _exceeding(mean, np.zeros(3), limits)
        if which >= 0:
            return float(which), mean[which]
    found, speed = _along(chain, ends, levers, plan, jerk, limits, spacing)
    return float(found), speed


@compiled((NUMBER, NUMBER, VECTOR), TABLE, TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, NUMBER)
def foreseen(
    chain: Array, ends: Array, q: Array, v: Array, a: Array, jerk: Array, limits: Array, ahead: float
) -> tuple[float, float, Array]:
    """The speeds a motion leads to before its acceleration can be brought to zero.

    Args:
        chain: as above.
        ends: as above.
        q: positions (n,).
        v: velocities (n,).
        a: accelerations (n,).
        jerk: with which the acceleration is brought to zero (n,).
        limits: (3,) of the speed of the tool, its angular speed, the speed of the elbow.
        ahead: how far ahead to look [s].

    Returns: which speed is the greatest share of its limit; the share; the joint velocities (n,) that the
    motion leads to.
    """
    n = q.shape[0]
    w, later = np.empty(n), np.empty(n)
    for i in range(n):
        w[i] = v[i] + abs(a[i]) * a[i] / (2.0 * jerk[i])
        later[i] = q[i] + ahead * w[i]
    maps, out = np.empty((9, n)), np.empty(3)
    which, share = 0.0, 0.0
    for look in range(2):
        _maps(chain, ends, later if look else q, maps)
        _mapped(maps, w, out)
        for row in range(3):
            if not out[row] / limits[row] <= share:
                which, share = float(row), out[row] / limits[row]
    return which, share, w
