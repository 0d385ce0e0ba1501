"""Arithmetic on the tool's pose: offset from a curve, the leash, the terms of the inverse kinematics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.kernels import FLAG, INDICES, MATRIX, NUMBER, TABLE, VECTOR, compiled, inlined
from vla_ros.kernels.rotation import turn, turned
from vla_ros.types import Array


@inlined
def _norm3(v: Array) -> float:
    return math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


@compiled(VECTOR, VECTOR, VECTOR, VECTOR, VECTOR)
def offset(position: Array, quaternion: Array, other_position: Array, other_quaternion: Array) -> Array:
    """(6,): translation [m] and rotation vector [rad] that lead from the other pose to the first."""
    out = np.empty(6)
    out[:3] = position - other_position
    out[3:] = turn(quaternion, other_quaternion)
    return out


@compiled((VECTOR, VECTOR), VECTOR, VECTOR, VECTOR)
def displaced(position: Array, quaternion: Array, by: Array) -> tuple[Array, Array]:
    """Position and quaternion of a pose moved by a translation and a rotation vector (6,), base axes."""
    return position + by[:3], turned(by[3:], quaternion)


@compiled((NUMBER, VECTOR, VECTOR), VECTOR, VECTOR, VECTOR, VECTOR, NUMBER, NUMBER)
def leashed(
    position: Array, quaternion: Array, wanted: Array, wanted_quaternion: Array, length: float, angle: float
) -> tuple[float, Array, Array]:
    """The wanted pose, no further from the first than `length` [m] and `angle` [rad].

    Returns: the share of the way that is left (1: all of it), position, quaternion.
    """
    way = wanted - position
    rotation = turn(wanted_quaternion, quaternion)
    share = min(1.0, length / max(_norm3(way), 1e-12), angle / max(_norm3(rotation), 1e-12))
    if share == 1.0:
        return share, wanted.copy(), wanted_quaternion.copy()
    return share, position + share * way, turned(share * rotation, quaternion)


@compiled(
    (VECTOR, NUMBER, NUMBER, NUMBER),
    *(VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
)
def followed(
    wanted: Array, wanted_quaternion: Array, twist: Array, position: Array, quaternion: Array,
    gain: float, still: float, reached: float, fastest: float, fastest_turn: float,
) -> tuple[Array, float, float, float]:  # fmt: skip
    """The twist that follows a moving pose and closes the error to it.

    Args:
        wanted: position (3,) [m] to follow.
        wanted_quaternion: its orientation.
        twist: its twist (6,).
        position: where the tool is (3,).
        quaternion: its orientation.
        gain: rate at which the error is closed [1/s].
        still: twist below which the wanted pose rests.
        reached: error below which a resting pose is reached [m and rad].
        fastest: greatest speed [m/s].
        fastest_turn: greatest angular speed [rad/s].

    Returns: the twist (6,) scaled by one factor to keep both speeds, so that the tool stays on its way; the
    factor; the speed before [m/s]; the distance to the wanted position [m].
    """
    out = np.empty(6)
    way = wanted - position
    rotation = turn(wanted_quaternion, quaternion)
    rests, near = True, True
    for i in range(3):
        out[i], out[3 + i] = twist[i] + gain * way[i], twist[3 + i] + gain * rotation[i]
    for i in range(6):
        rests = rests and abs(twist[i]) < still
        near = near and abs(out[i]) < gain * reached
    if rests and near:
        out[:] = 0.0
    speed = _norm3(out[:3])
    factor = min(1.0, fastest / max(speed, 1e-12), fastest_turn / max(_norm3(out[3:]), 1e-12))
    return out * factor, factor, speed, _norm3(way)


@inlined
def _least_singular_value(matrix: Array) -> float:
    """Smallest singular value of a (6, n) matrix, n >= 6, from the eigenvalues of its small square.

    Cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, 8.5); six sweeps settle a 6 x 6 matrix.
    """
    n = matrix.shape[1]
    a = np.empty((6, 6))
    for p in range(6):
        for q in range(6):
            total = 0.0
            for k in range(n):
                total += matrix[p, k] * matrix[q, k]
            a[p, q] = total
    for _ in range(12):
        rest = 0.0
        for p in range(5):
            for q in range(p + 1, 6):
                rest += a[p, q] * a[p, q]
                if abs(a[p, q]) < 1e-300:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                t = (1.0 if theta >= 0.0 else -1.0) / (abs(theta) + math.sqrt(theta * theta + 1.0))
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                for k in range(6):
                    x, y = a[k, p], a[k, q]
                    a[k, p], a[k, q] = c * x - s * y, s * x + c * y
                for k in range(6):
                    x, y = a[p, k], a[q, k]
                    a[p, k], a[q, k] = c * x - s * y, s * x + c * y
        if rest < 1e-24:
            break
    least = a[0, 0]
    for k in range(1, 6):
        least = min(least, a[k, k])
    return math.sqrt(max(least, 0.0))


@compiled(
    (TABLE, VECTOR, NUMBER),
    *(MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
)
def objective(
    jacobian: Array, weight: Array, twist: Array, q: Array, home: Array,
    damping: float, more: float, singular: float, slowest: float,
    posture: float, posture_gain: float, posture_twist: float,
) -> tuple[Array, Array, float]:  # fmt: skip
    """Half of |J v - twist|^2_W + d |v|^2 + posture |v - k (home - q)|^2 as a quadratic programme.

    The null space moves only while the tool does: k grows with the twist up to `posture_gain`.  Near a
    singularity the damping grows and the twist shrinks, both with the least singular value.

    Args:
        jacobian: (6, n).
        weight: (6,) of each row.
        twist: (6,) wanted.
        q: positions (n,).
        home: posture wanted in the null space (n,).
        damping: d far from singularities.
        more: what the damping grows by at a singularity.
        singular: least singular value of the weighted Jacobian below which it grows.
        slowest: share of the twist that is left in a singularity, so that the way out is open.
        posture: weight of the posture.
        posture_gain: [1/s].
        posture_twist: norm of the twist from which k is whole.

    Returns: Hessian (n, n), gradient (n,), least singular value.
    """
    n = jacobian.shape[1]
    scaled = np.empty((6, n))
    for r in range(6):
        for i in range(n):
            scaled[r, i] = math.sqrt(weight[r]) * jacobian[r, i]
    smallest = _least_singular_value(scaled)
    share = min(1.0, smallest / singular)
    damping += more * (1.0 - share) ** 2
    share = max(share, slowest)
    size = 0.0
    for r in range(6):
        size += twist[r] * twist[r]
    pull = min(1.0, math.sqrt(size) / posture_twist) * posture_gain
    hessian, gradient = np.zeros((n, n)), np.empty(n)
    for i in range(n):
        g = 0.0
        for r in range(6):
            g += jacobian[r, i] * weight[r] * share * twist[r]
        gradient[i] = -g - posture * pull * (home[i] - q[i])
        for j in range(i, n):
            h = 0.0
            for r in range(6):
                h += scaled[r, i] * scaled[r, j]
            if i == j:
                h += damping + posture
            hessian[i, j] = hessian[j, i] = h
    return hessian, gradient, smallest


@inlined
def _approach(room: float, acceleration: float, jerk: float, damper: float) -> float:
    a = 0.8 * acceleration
    room = max(room, 0.0)
    ramp = a * a / (2.0 * jerk)
    return min(math.sqrt(ramp * ramp + 2.0 * a * room) - ramp, damper * room)


@inlined
def _faded(room: float, offset: float, gain: float, acceleration: float, jerk: float) -> float:
    """Velocity from which a stop still keeps the faded limit where it ends.

    The stop is v^2 / (2 a) + v a / (2 j) long; (v + o)^2 = g (room - stop) is a quadratic equation in v.
    """
    a = 0.8 * acceleration
    square = 1.0 + gain / (2.0 * a)
    half = offset + gain * a / (4.0 * jerk)
    rest = offset * offset - gain * max(room, 0.0)
    return max((math.sqrt(max(half * half - square * rest, 0.0)) - half) / square, 0.0)


@compiled(
    TABLE, *(VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, TABLE, VECTOR, VECTOR, NUMBER, NUMBER, NUMBER, NUMBER)
)
def velocity_box(
    q: Array, v: Array, low: Array, high: Array, fastest: Array, fades: Array, hardest: Array, jerk: Array,
    share: float, ease: float, damper: float, period: float,
) -> Array:  # fmt: skip
    """Least and greatest joint velocity (2, n) of the next tick.

    Towards a joint limit no faster than what a jerk-limited stop with a fifth to spare needs: it solves
    v^2 / (2 a) + v a / (2 j) = room, the stop's length when it reaches its acceleration limit.

    Args:
        q: positions (n,) [rad].
        v: velocities (n,) [rad/s].
        low: least positions (n,).
        high: greatest positions (n,).
        fastest: velocity limits (n,).
        fades: how they fall off towards the ends (4, n), `JointLimits.fade`.
        hardest: acceleration limits (n,).
        jerk: jerk limits (n,).
        share: of the velocity and acceleration limits that may be used.
        ease: further share of the velocity limits.
        damper: speed per radian to a limit [1/s].
        period: the tick [s].
    """
    n = q.shape[0]
    out = np.empty((2, n))
    for i in range(n):
        most = share * fastest[i] * ease
        change = share * hardest[i] * period
        upper = min(most, _approach(high[i] - q[i], hardest[i], jerk[i], damper))
        lower = -min(most, _approach(q[i] - low[i], hardest[i], jerk[i], damper))
        if fades[1, i] > 0.0:
            o, g = fades[0, i], fades[1, i]
            upper = min(upper, share * _faded(fades[3, i] - q[i], o, g, hardest[i], jerk[i]))
            lower = max(lower, -share * _faded(q[i] - fades[2, i], o, g, hardest[i], jerk[i]))
        # never faster than the acceleration allows, also on the way down to a bound
        out[0, i] = min(max(lower, v[i] - change), v[i] + change)
        out[1, i] = min(max(upper, v[i] - change), v[i] + change)
    return out


@compiled(
    (TABLE, INDICES, FLAG),
    VECTOR,
    VECTOR,
    VECTOR,
    TABLE,
    VECTOR,
    TABLE,
    VECTOR,
    VECTOR,
    VECTOR,
    NUMBER,
    NUMBER,
    NUMBER,
)
def advance(
    q: Array, v: Array, solution: Array, hessian: Array, gradient: Array, box: Array,
    low: Array, high: Array, fastest: Array, share: float, room: float, period: float,
) -> tuple[Array, NDArray[np.int64], bool]:  # fmt: skip
    """The joint reference one tick later, and what held its velocity back.

    Args:
        q: positions (n,) now.
        v: velocities (n,) now.
        solution: velocities (n,) of the programme.
        hessian: of the programme (n, n).
        gradient: of the programme (n,).
        box: least and greatest velocities (2, n).
        low: least positions (n,).
        high: greatest positions (n,).
        fastest: velocity limits (n,).
        share: of the velocity limits that may be used.
        room: to a joint limit below which it is named [rad].
        period: the tick [s].

    Returns: positions, velocities one tick later and accelerations on the way (3, n); per joint the sum of 1,
    when its position limit, and 2, when its velocity limit holds it back; whether any does.
    """
    n = q.shape[0]
    out = np.empty((3, n))
    held, some = np.zeros(n, dtype=np.int64), False
    for i in range(n):
        new = min(max(solution[i], box[0, i]), box[1, i])
        # trapezoid: positions, velocities and accelerations belong to one curve
        out[0, i] = q[i] + 0.5 * (v[i] + new) * period
        out[1, i] = new
        out[2, i] = (new - v[i]) / period
    for i in range(n):
        slope = gradient[i]
        for j in range(n):
            slope += hessian[i, j] * out[1, j]
        if abs(slope) > 1e-6:
            if min(high[i] - q[i], q[i] - low[i]) < room:
                held[i] += 1
            if abs(out[1, i]) > 0.999 * share * fastest[i]:
                held[i] += 2
            some = some or held[i] > 0
    return out, held, some


@compiled((VECTOR, NUMBER, NUMBER), MATRIX, MATRIX, VECTOR, NUMBER, NUMBER, NUMBER)
def paced(
    tool: Array, elbow: Array, v: Array, fastest: float, fastest_turn: float, fastest_elbow: float
) -> tuple[Array, float, float]:
    """Joint velocities (n,) scaled by one factor so that tool and elbow keep their speeds.

    Args:
        tool: Jacobian (6, n) of the tool.
        elbow: Jacobian (6, n) of the elbow.
        v: joint velocities (n,).
        fastest: greatest speed of the tool [m/s].
        fastest_turn: its greatest angular speed [rad/s].
        fastest_elbow: greatest speed of the elbow [m/s].

    Returns: the velocities; the excess of the tool's speed over its limit, negative below; the elbow's.
    """
    moved, lifted = np.zeros(6), np.zeros(3)
    for i in range(v.shape[0]):
        for r in range(6):
            moved[r] += tool[r, i] * v[i]
        for r in range(3):
            lifted[r] += elbow[r, i] * v[i]
    speed, turning, raised = _norm3(moved[:3]), _norm3(moved[3:]), _norm3(lifted)
    factor = min(
        1.0,
        fastest / max(speed, 1e-12),
        fastest_turn / max(turning, 1e-12),
        fastest_elbow / max(raised, 1e-12),
    )
    excess = max(speed - fastest, turning - fastest_turn)
    return factor * v, excess, raised - fastest_elbow
