"""Jerk-limited stops in closed form and the arithmetic around the least-time tracker."""

from __future__ import annotations

import math

import numpy as np

from vla_ros.kernels import FLAG, NUMBER, TABLE, VECTOR, compiled, inlined
from vla_ros.types import Array


@inlined
def _advance(p: float, v: float, a: float, jerk: float, time: float) -> tuple[float, float, float]:
    """Motion after `time` of constant jerk."""
    return (
        p + time * (v + time * (0.5 * a + time * jerk / 6.0)),
        v + time * (a + 0.5 * time * jerk),
        a + time * jerk,
    )


@compiled(TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR)
def plan_stop(p: Array, v: Array, a: Array, most: Array, jerk: Array) -> Array:
    """Three phases of jerk to rest in least time, every joint on its own.

    Args:
        p: positions (n,).
        v: velocities (n,).
        a: accelerations (n,), within `most`.
        most: acceleration limits (n,).
        jerk: jerk limits (n,).

    Returns: (18, n): starts of the phases and the end (4), the first phase's jerk (1; the third has the
    opposite), position, velocity and acceleration at the four knots (12), turning position (1).
    """
    n = p.shape[0]
    out = np.empty((18, n))
    for i in range(n):
        j = jerk[i]
        # the jerk first applied works against the velocity that is left once the acceleration is gone
        sign = -1.0 if v[i] + a[i] * abs(a[i]) / (2.0 * j) > 0.0 else 1.0
        a0, change = sign * a[i], -sign * v[i]
        # a change of velocity too small for the acceleration at hand leaves rounding below zero
        peak = np.sqrt(max(j * change + 0.5 * a0 * a0, 0.0))
        top = max(min(peak, most[i]), a0)
        hold = 0.0
        if peak > most[i]:
            hold = max(change - (2.0 * top * top - a0 * a0) / (2.0 * j), 0.0) / max(top, 1e-12)
        first, third = (top - a0) / j, top / j
        out[0, i], out[1, i] = 0.0, first
        out[2, i], out[3, i] = first + hold, first + hold + third
        out[4, i] = sign * j
        x, y, z = p[i], v[i], a[i]
        out[5, i], out[6, i], out[7, i] = x, y, z
        x, y, z = _advance(x, y, z, sign * j, first)
        out[8, i], out[9, i], out[10, i] = x, y, z
        x, y, z = _advance(x, y, z, 0.0, hold)
        out[11, i], out[12, i], out[13, i] = x, y, z
        x, y, z = _advance(x, y, z, -sign * j, third)
        out[14, i], out[15, i], out[16, i] = x, y, z
        # the velocity can change its sign once, in the first phase, when the acceleration overshoots the stop
        out[17, i] = p[i]
        root = a0 * a0 - 2.0 * j * sign * v[i]
        if sign * v[i] > 0.0 and a0 < 0.0 and root > 0.0:
            time = (-a0 - np.sqrt(root)) / j
            out[17, i] = _advance(p[i], v[i], a[i], sign * j, time)[0]
    return out


@inlined
def _at(plan: Array, i: int, time: float) -> tuple[float, float, float]:
    if time >= plan[3, i]:
        return plan[14, i], 0.0, 0.0
    if time >= plan[2, i]:
        return _advance(plan[11, i], plan[12, i], plan[13, i], -plan[4, i], time - plan[2, i])
    if time >= plan[1, i]:
        return _advance(plan[8, i], plan[9, i], plan[10, i], 0.0, time - plan[1, i])
    return _advance(plan[5, i], plan[6, i], plan[7, i], plan[4, i], time)


@compiled(TABLE, TABLE, NUMBER)
def stop_at(plan: Array, time: float) -> Array:
    """Positions, velocities, accelerations (3, n) of a plan `time` [s] after its start."""
    n = plan.shape[1]
    out = np.empty((3, n))
    for i in range(n):
        out[0, i], out[1, i], out[2, i] = _at(plan, i, time)
    return out


@compiled(TABLE, TABLE, VECTOR)
def stop_positions(plan: Array, times: Array) -> Array:
    """Positions (k, n) of a plan at times (k,) [s] after its start."""
    out = np.empty((times.shape[0], plan.shape[1]))
    for k in range(times.shape[0]):
        for i in range(plan.shape[1]):
            out[k, i] = _at(plan, i, times[k])[0]
    return out


@inlined
def _peaks(v: float, a: float, jerk: float) -> tuple[float, float]:
    """Greatest velocity upwards and downwards, each at least 0, of a stop that begins with v and a.

    The stop's velocity falls from v, or from where the acceleration at hand carries it, to zero, or first
    through zero.
    """
    peak = v + abs(a) * a / (2.0 * jerk)
    return max(v, peak, 0.0), max(-v, -peak, 0.0)


@inlined
def _faded(room: float, offset: float, gain: float) -> float:
    """The velocity limit at a distance from the end towards which it fades; see `JointLimits.fade`."""
    return math.sqrt(gain * max(room, 0.0)) - offset


@inlined
def _overspeed(v: Array, a: Array, most: Array, jerk: Array, rounding: float) -> bool:
    for i in range(v.shape[0]):
        peak = v[i] + abs(a[i]) * a[i] / (2.0 * jerk[i])
        if not max(abs(v[i]), abs(peak)) <= most[i] + rounding:
            return True
    return False


@compiled(FLAG, VECTOR, VECTOR, VECTOR, VECTOR, NUMBER)
def overspeed(v: Array, a: Array, most: Array, jerk: Array, rounding: float) -> bool:
    """Whether a joint must exceed its velocity limit before its acceleration can be brought to zero."""
    return _overspeed(v, a, most, jerk, rounding)


@compiled(TABLE, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, NUMBER)
def moving_frame(
    p: Array,
    v: Array,
    a: Array,
    rp: Array,
    rv: Array,
    ra: Array,
    fastest: Array,
    hardest: Array,
    share: float,
) -> Array:
    """The tracker's problem as seen from the moving reference.

    Args:
        p: commanded positions (n,).
        v: commanded velocities (n,).
        a: commanded accelerations (n,).
        rp: the reference's positions (n,).
        rv: its velocities (n,).
        ra: its accelerations (n,).
        fastest: velocity limits (n,).
        hardest: acceleration limits (n,).
        share: share of the limits the frame may have.

    Returns: (9, n): clipped velocity and acceleration of the frame; position, velocity, acceleration in it;
    greatest and least velocity, greatest and least acceleration in it.
    """
    n = p.shape[0]
    out = np.empty((9, n))
    for i in range(n):
        # a frame as fast as a limit would leave no room to catch up in
        w = min(max(rv[i], -share * fastest[i]), share * fastest[i])
        b = min(max(ra[i], -share * hardest[i]), share * hardest[i])
        out[0, i], out[1, i] = w, b
        out[2, i], out[3, i], out[4, i] = p[i] - rp[i], v[i] - w, a[i] - b
        out[5, i], out[6, i] = fastest[i] - w, -fastest[i] - w
        out[7, i], out[8, i] = hardest[i] - b, -hardest[i] - b
    return out


@compiled((TABLE, FLAG), VECTOR, VECTOR, TABLE, TABLE, VECTOR, VECTOR, NUMBER, NUMBER)
def out_of_frame(
    p: Array,
    rp: Array,
    frame: Array,
    step: Array,
    fastest: Array,
    jerk: Array,
    period: float,
    rounding: float,
) -> tuple[Array, bool]:
    """Back from the moving frame one tick later.

    Args:
        p: commanded positions (n,) before the tick.
        rp: the reference's positions (n,) then.
        frame: what `moving_frame` gave.
        step: position, velocity, acceleration (3, n) in the frame after the tick.
        fastest: velocity limits (n,).
        jerk: jerk limits (n,).
        period: the tick [s].
        rounding: by which the limits may be exceeded.

    Returns: positions, velocities, accelerations (3, n), and whether they lead to too high a velocity.
    """
    n = p.shape[0]
    out = np.empty((3, n))
    fast = False
    for i in range(n):
        w, b = frame[0, i], frame[1, i]
        out[0, i] = rp[i] + w * period + 0.5 * b * period * period + step[0, i]
        out[1, i] = w + b * period + step[1, i]
        out[2, i] = b + step[2, i]
        # the mean velocity of the tick may exceed the limit, having peaked inside it
        fast = fast or not abs(out[0, i] - p[i]) / period <= fastest[i] + rounding
    return out, fast or _overspeed(out[1], out[2], fastest, jerk, rounding)


@compiled(
    (NUMBER, NUMBER, NUMBER, VECTOR),
    *(VECTOR, VECTOR, VECTOR, TABLE, VECTOR, VECTOR, VECTOR, VECTOR, TABLE, VECTOR, NUMBER),
)
def certified(
    p: Array, v: Array, a: Array, plan: Array, present: Array,
    low: Array, high: Array, fastest: Array, fades: Array, jerk: Array, rounding: float,
) -> tuple[float, float, float, Array]:  # fmt: skip
    """Whether a motion and its planned stop keep the joints' limits.

    Args:
        p: positions (n,).
        v: velocities (n,).
        a: accelerations (n,).
        plan: the motion's stop, from `plan_stop`.
        present: positions (n,) before; a joint outside its limits may move back in, never further out.
        low: least positions (n,).
        high: greatest positions (n,).
        fastest: velocity limits (n,).
        fades: how they fall off towards the ends (4, n), `JointLimits.fade`.  The greatest velocity of the
            stop is held against the limit at its furthest position, the least on the way.
        jerk: jerk limits (n,).
        rounding: by which limits may be exceeded.

    Returns: 0 fine, 1 not finite, 2 too fast, 3 beyond a position limit; the joint; by how much or how fast;
    the greatest distance (n,) of the stop from `p`.
    """
    n = p.shape[0]
    away = np.zeros(n)
    joint, worst = 0.0, 0.0
    for i in range(n):
        if not (np.isfinite(p[i]) and np.isfinite(v[i]) and np.isfinite(a[i])):
            return 1.0, float(i), 0.0, away
    if _overspeed(v, a, fastest, jerk, rounding):
        share = 0.0
        for i in range(n):
            if abs(v[i]) / fastest[i] > share:
                share, joint, worst = abs(v[i]) / fastest[i], float(i), abs(v[i])
        return 2.0, joint, worst, away
    for i in range(n):
        least = min(plan[5, i], plan[14, i], plan[17, i])
        most = max(plan[5, i], plan[14, i], plan[17, i])
        away[i] = max(most - p[i], p[i] - least)
        if fades[1, i] > 0.0:
            up, down = _peaks(v[i], a[i], jerk[i])
            above = up - max(_faded(fades[3, i] - most, fades[0, i], fades[1, i]), 0.0)
            below = down - max(_faded(least - fades[2, i], fades[0, i], fades[1, i]), 0.0)
            if not max(above, below) <= rounding:
                return 2.0, float(i), max(up, down), away
        beyond = max(min(low[i], present[i]) - rounding - least, most - max(high[i], present[i]) - rounding)
        if not beyond <= worst:
            joint, worst = float(i), beyond
    return (3.0 if worst > 0.0 else 0.0), joint, worst, away


@compiled((NUMBER, NUMBER, FLAG), VECTOR, VECTOR, TABLE, VECTOR, NUMBER, NUMBER)
def cleared(
    margins: Array, present: Array, reach: Array, away: Array, least: float, rounding: float
) -> tuple[float, float, bool]:
    """Whether margins (m,) and all that a stop can make of them are enough.

    Args:
        margins: now (m,) [m].
        present: before (m,) [m]; what was short may become longer, never shorter.
        reach: (m, n) bound on the change of each margin with each joint [m/rad].
        away: (n,) greatest distance of the stop's positions from now [rad].
        least: margin asked for [m].
        rounding: by which it may be missed.

    Returns: the index of the margin that is shortest now, by how much it is short (negative: long), and
    whether the bound clears every margin along the whole stop.
    """
    worst, short, clear = 0.0, -np.inf, True
    for k in range(margins.shape[0]):
        asked = min(least, present[k] - rounding)
        missing = asked - margins[k]
        if not missing <= short:
            worst, short = float(k), missing
        change = 0.0
        for i in range(away.shape[0]):
            change += reach[k, i] * away[i]
        if not margins[k] - change >= asked:
            clear = False
    return worst, short, clear


@compiled(NUMBER, TABLE, NUMBER, NUMBER, NUMBER, VECTOR, TABLE)
def next_look(plan: Array, duration: float, steps: float, index: float, room: Array, reach: Array) -> float:
    """The first of the instants after `index` on a stop at which some margin may be used up.

    Args:
        plan: the stop, from `plan_stop`.
        duration: of the stop [s], cut into `steps` equal parts with an instant at the end of each.
        steps: how many.
        index: of the instant at which the margins are known, 0 for the start.
        room: by how much each margin (m,) exceeds what is asked for there [m].
        reach: (m, n) bound on the change of each margin with each joint [m/rad].

    Returns: its index; `steps` + 1 when none is used up until the end.
    """
    n = plan.shape[1]
    begin, away = np.empty(n), np.zeros(n)
    for i in range(n):
        begin[i] = _at(plan, i, duration * index / steps)[0]
    while index < steps:
        index += 1.0
        for i in range(n):
            away[i] = max(away[i], abs(_at(plan, i, duration * index / steps)[0] - begin[i]))
        for k in range(room.shape[0]):
            change = 0.0
            for i in range(n):
                change += reach[k, i] * away[i]
            if not change <= room[k]:
                return index
    return steps + 1.0


@compiled(FLAG, VECTOR, VECTOR, NUMBER)
def resting(v: Array, a: Array, tolerance: float) -> bool:
    """Whether every velocity (n,) and acceleration (n,) is smaller than `tolerance`."""
    for i in range(v.shape[0]):  # noqa: SIM110  (numba has no `all` of a generator)
        if not (abs(v[i]) < tolerance and abs(a[i]) < tolerance):
            return False
    return True


@compiled((NUMBER, NUMBER), VECTOR, VECTOR)
def furthest(a: Array, b: Array) -> tuple[float, float]:
    """Index and size of the greatest difference of two arrays (n,); one that is not finite wins."""
    index, most = 0.0, -1.0
    for i in range(a.shape[0]):
        gap = abs(a[i] - b[i])
        if not gap <= most:
            index, most = float(i), gap
            if not np.isfinite(gap):
                break
    return index, most


@compiled((NUMBER, NUMBER), VECTOR, VECTOR)
def greatest_share(values: Array, limits: Array) -> tuple[float, float]:
    """Index and size of the greatest |value| / limit of (n,) each; one that is not finite wins."""
    index, most = 0.0, -1.0
    for i in range(values.shape[0]):
        share = abs(values[i]) / limits[i]
        if not share <= most:
            index, most = float(i), share
            if not np.isfinite(share):
                break
    return index, most


@compiled((NUMBER, NUMBER, NUMBER), VECTOR, VECTOR, VECTOR, NUMBER, NUMBER)
def jump(q: Array, before: Array, fastest: Array, elapsed: float, slack: float) -> tuple[float, float, float]:
    """The joint that moved furthest beyond `fastest` (n,) for `elapsed` plus `slack`: its index, by how much
    it moved, and what of that was beyond; not positive when none did.
    """
    index, moved, most = 0.0, 0.0, -np.inf
    for i in range(q.shape[0]):
        change = abs(q[i] - before[i])
        excess = change - (fastest[i] * elapsed + slack)
        if not excess <= most:
            index, moved, most = float(i), change, excess
    return index, moved, most
