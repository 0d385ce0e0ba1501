"""Derivatives of rotation vectors: from a curve in the tangent space to angular velocity and acceleration.

For R(t) = exp([r(t)]x) R0 the angular velocity in the base frame is w = J(r) r', with the left Jacobian
J = I + a [r]x + b [r]x^2, a = (1 - cos x) / x^2, b = (x - sin x) / x^3, x = |r|
(Sola, Deray, Atchuthan, "A micro Lie theory", arXiv 1812.01537, eq. 145).
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import Array

_SMALL = 1e-3
_IDENTITY = np.eye(3)


def skew(v: Array) -> Array:
    """Cross-product matrix (3, 3) of v (3,)."""
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])


def angular_motion(r: Array, rate: Array, second: Array) -> tuple[Array, Array]:
    """Angular velocity [rad/s] and acceleration [rad/s^2] in the base frame of exp([r]x) R0.

    Args:
        r: rotation vector (3,) [rad].
        rate: its first derivative by time.
        second: its second derivative by time.
    """
    x2 = float(r @ r)
    x = np.sqrt(x2)
    if x < _SMALL:
        # series about zero: the closed forms lose all digits there
        a, b = 0.5 - x2 / 24.0, 1.0 / 6.0 - x2 / 120.0
        da, db = -1.0 / 12.0, -1.0 / 60.0
    else:
        sine, cosine = np.sin(x), np.cos(x)
        a, b = (1.0 - cosine) / x2, (x - sine) / (x2 * x)
        # derivatives with respect to x, divided by x, so that a' = da * (r . r')
        da = (x * sine - 2.0 * (1.0 - cosine)) / (x2 * x2)
        db = (x * (1.0 - cosine) - 3.0 * (x - sine)) / (x2 * x2 * x)
    along = float(r @ rate)
    s = skew(r)
    square = s @ s
    turned = s @ rate
    jacobian = _IDENTITY + a * s + b * square
    # J' rate, term by term; [rate]x rate vanishes
    change = da * along * turned + db * along * (square @ rate) + b * (skew(rate) @ turned)
    return jacobian @ rate, jacobian @ second + change
