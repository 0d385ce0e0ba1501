"""Finite differences of commanded positions held against limits, a command at a time or a whole recording."""

from __future__ import annotations

import numpy as np

from vla_ros.kernels import INDICES, NUMBER, TABLE, VECTOR, compiled, inlined
from vla_ros.types import Array

FINE, POSITION, VELOCITY, ACCELERATION, JERK = 0.0, 1.0, 2.0, 3.0, 4.0
"""What a command broke."""
_RELATIVE = 1e-6
_EPSILON = 2.0**-53


@inlined
def _look(
    p: Array, v: Array, a: Array, q: Array, low: Array, high: Array,
    fastest: Array, fades: Array, hardest: Array, jerk: Array, period: float,
) -> tuple[float, float]:  # fmt: skip
    """What a command q (n,) breaks after p, and by which joint; p, v, a become those of q when it is fine."""
    n = p.shape[0]
    for i in range(n):
        if not (low[i] <= q[i] <= high[i]):
            return POSITION, float(i)
    code, joint = FINE, 0.0
    for i in range(n):
        # a position is wrong by half a unit of its last place, the k-th difference by 2^k of that
        wrong = 2.0 * _EPSILON * abs(q[i]) / period
        w = (q[i] - p[i]) / period
        b = (w - v[i]) / period
        j = (b - a[i]) / period
        found = FINE
        most = fastest[i]
        if fades[1, i] > 0.0:
            # on the way to an end the limit falls: that at the command before is the largest of the step
            room = fades[3, i] - p[i] if w > 0.0 else p[i] - fades[2, i]
            most = min(most, max(np.sqrt(fades[1, i] * max(room, 0.0)) - fades[0, i], 0.0))
        if not abs(w) <= most * (1.0 + _RELATIVE) + wrong:
            found = VELOCITY
        elif not abs(b) <= hardest[i] * (1.0 + _RELATIVE) + 2.0 * wrong / period:
            found = ACCELERATION
        elif not abs(j) <= jerk[i] * (1.0 + _RELATIVE) + 4.0 * wrong / (period * period):
            found = JERK
        # the lowest derivative that is broken is what is said
        if found != FINE and (code == FINE or found < code):
            code, joint = found, float(i)
    if code == FINE:
        for i in range(n):
            w = (q[i] - p[i]) / period
            b = (w - v[i]) / period
            p[i], v[i], a[i] = q[i], w, b
    return code, joint


@compiled(
    (NUMBER, NUMBER, TABLE), TABLE, VECTOR, VECTOR, VECTOR, VECTOR, TABLE, VECTOR, VECTOR, NUMBER
)  # fmt: skip
def followed(
    state: Array,
    q: Array,
    low: Array,
    high: Array,
    fastest: Array,
    fades: Array,
    hardest: Array,
    jerk: Array,
    period: float,
) -> tuple[float, float, Array]:
    """One command more.

    Args:
        state: position, velocity, acceleration (3, n) of the command before, by backward differences.
        q: the command (n,).
        low: least positions (n,).
        high: greatest positions (n,).
        fastest: velocity limits (n,).
        fades: (4, n) how they fall off towards the ends, as `JointLimits.fades`.
        hardest: acceleration limits (n,).
        jerk: jerk limits (n,).
        period: between two commands [s].

    Returns: what was broken (`FINE` ... `JERK`), the joint, and the state (3, n) after the command, which
    stays what it was when the command broke a limit.
    """
    after = state.copy()
    code, joint = _look(after[0], after[1], after[2], q, low, high, fastest, fades, hardest, jerk, period)
    return code, joint, after


@compiled(
    (NUMBER, NUMBER, NUMBER),
    *(TABLE, INDICES, VECTOR, VECTOR, VECTOR, TABLE, VECTOR, VECTOR, NUMBER),
)
def first_broken(
    positions: Array, rests: Array, low: Array, high: Array, fastest: Array, fades: Array, hardest: Array,
    jerk: Array, period: float,
) -> tuple[float, float, float]:  # fmt: skip
    """The first command of a recording that breaks a limit.

    Args:
        positions: commands (N, n).
        rests: sorted rows at which the robot stands at the commanded position; row 0 always counts as one.
        low: least positions (n,).
        high: greatest positions (n,).
        fastest: velocity limits (n,).
        fades: (4, n) how they fall off towards the ends, as `JointLimits.fades`.
        hardest: acceleration limits (n,).
        jerk: jerk limits (n,).
        period: between two commands [s].

    Returns: the row, -1 when there is none; what was broken; the joint.
    """
    n = positions.shape[1]
    p, v, a = np.empty(n), np.zeros(n), np.zeros(n)
    following = 0
    for k in range(positions.shape[0]):
        while following < rests.shape[0] and rests[following] < k:
            following += 1
        if k == 0 or (following < rests.shape[0] and rests[following] == k):
            for i in range(n):
                p[i], v[i], a[i] = positions[k, i], 0.0, 0.0
        code, joint = _look(p, v, a, positions[k], low, high, fastest, fades, hardest, jerk, period)
        if code != FINE:
            return float(k), code, joint
    return -1.0, FINE, 0.0
