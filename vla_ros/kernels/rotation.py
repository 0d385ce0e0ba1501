"""Single quaternions (x, y, z, w) and rotation vectors; `vla_ros.actions.rotations` in compiled form."""

from __future__ import annotations

import math

import numpy as np

from vla_ros.kernels import inlined
from vla_ros.types import Array

_SMALL = 1e-8
_SERIES = 1e-3


@inlined
def product(a: Array, b: Array) -> Array:
    """Hamilton product a * b: rotate by b first, then by a."""
    out = np.empty(4)
    out[0] = a[3] * b[0] + a[0] * b[3] + a[1] * b[2] - a[2] * b[1]
    out[1] = a[3] * b[1] - a[0] * b[2] + a[1] * b[3] + a[2] * b[0]
    out[2] = a[3] * b[2] + a[0] * b[1] - a[1] * b[0] + a[2] * b[3]
    out[3] = a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2]
    return out


@inlined
def turn(to: Array, origin: Array) -> Array:
    """Rotation vector (3,) [rad] that leads from the orientation `origin` to `to`, along base axes."""
    inverse = np.empty(4)
    inverse[0], inverse[1], inverse[2], inverse[3] = -origin[0], -origin[1], -origin[2], origin[3]
    q = product(to, inverse)
    sign = -1.0 if q[3] < 0.0 else 1.0
    sine = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    scale = 2.0 if sine < _SMALL else 2.0 * math.atan2(sine, sign * q[3]) / sine
    return sign * scale * q[:3]


@inlined
def turned(vector: Array, quaternion: Array) -> Array:
    """exp(vector) * quaternion, scaled to unit norm."""
    angle = math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
    # sin(x/2)/x by its series near zero, where the quotient loses all digits
    scale = 0.5 - angle * angle / 48.0 if angle < _SMALL else math.sin(0.5 * angle) / angle
    step = np.empty(4)
    step[0], step[1], step[2] = scale * vector[0], scale * vector[1], scale * vector[2]
    step[3] = math.cos(0.5 * angle)
    q = product(step, quaternion)
    return q / math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])


@inlined
def cross(a: Array, b: Array) -> Array:
    """A x b."""
    out = np.empty(3)
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]
    return out


@inlined
def angular(r: Array, rate: Array, second: Array) -> tuple[Array, Array]:
    """Angular velocity [rad/s] and acceleration [rad/s^2] of exp([r]x) R0 in the base frame.

    w = J(r) r' with the left Jacobian J = I + a [r]x + b [r]x^2, a = (1 - cos x) / x^2,
    b = (x - sin x) / x^3, x = |r| (Sola, Deray, Atchuthan, "A micro Lie theory", arXiv 1812.01537,
    eq. 145), and its derivative.

    Args:
        r: rotation vector (3,) [rad].
        rate: its first derivative by time.
        second: its second derivative by time.
    """
    x2 = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    x = math.sqrt(x2)
    if x < _SERIES:
        # series about zero: the closed forms lose all digits there
        a, b = 0.5 - x2 / 24.0, 1.0 / 6.0 - x2 / 120.0
        da, db = -1.0 / 12.0, -1.0 / 60.0
    else:
        sine, cosine = math.sin(x), math.cos(x)
        a, b = (1.0 - cosine) / x2, (x - sine) / (x2 * x)
        # derivatives with respect to x, divided by x, so that a' = da * (r . r')
        da = (x * sine - 2.0 * (1.0 - cosine)) / (x2 * x2)
        db = (x * (1.0 - cosine) - 3.0 * (x - sine)) / (x2 * x2 * x)
    along = r[0] * rate[0] + r[1] * rate[1] + r[2] * rate[2]
    once = cross(r, rate)
    twice = cross(r, once)
    velocity = rate + a * once + b * twice
    forced = cross(r, second)
    acceleration = (
        second + a * forced + b * cross(r, forced)
        + da * along * once + db * along * twice + b * cross(rate, once)
    )  # fmt: skip
    return velocity, acceleration
