"""Rotations on plain numpy: quaternions (x, y, z, w), rotation vectors, matrices, Euler angles.

All functions broadcast over leading axes.  scipy's Rotation is avoided here because the control loop calls
these hundreds of times a second and every node would pay its import.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.types import Array

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
_SMALL = 1e-8


def multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product a * b, shape (..., 4): rotate by b first, then by a."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim == 1 and b.ndim == 1:
        # plain floats are ten times faster than arrays of four
        return np.array(_product(*a.tolist(), *b.tolist()))
    parts = _product(*np.moveaxis(a, -1, 0), *np.moveaxis(b, -1, 0))
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def _product(ax: Any, ay: Any, az: Any, aw: Any, bx: Any, by: Any, bz: Any, bw: Any) -> tuple[Any, ...]:
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def conjugate(q: ArrayLike) -> Array:
    """Inverse of unit quaternions, shape (..., 4)."""
    conjugated: Array = np.asarray(q, dtype=float) * np.array([-1.0, -1.0, -1.0, 1.0])
    return conjugated


def normalize(q: ArrayLike) -> Array:
    """Scale to unit norm, shape (..., 4)."""
    q = np.asarray(q, dtype=float)
    scaled: Array = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return scaled


def exp(rotation_vector: ArrayLike) -> Array:
    """Rotation vector [rad] (..., 3) to quaternion (..., 4)."""
    r = np.asarray(rotation_vector, dtype=float)
    angle = np.linalg.norm(r, axis=-1, keepdims=True)
    # sin(x/2)/x by its series near zero, where the quotient loses all digits
    safe = np.where(angle < _SMALL, 1.0, angle)
    scale = np.where(angle < _SMALL, 0.5 - angle**2 / 48.0, np.sin(0.5 * safe) / safe)
    return np.concatenate([r * scale, np.cos(0.5 * angle)], axis=-1)


def log(q: ArrayLike) -> Array:
    """Quaternion (..., 4) to the rotation vector of least angle [rad] (..., 3), |angle| <= pi."""
    q = np.asarray(q, dtype=float)
    q = np.where(q[..., 3:4] < 0.0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., 3:4])
    safe = np.where(sine < _SMALL, 1.0, sine)
    return q[..., :3] * np.where(sine < _SMALL, 2.0, angle / safe)


def to_matrix(q: ArrayLike) -> Array:
    """Quaternion (..., 4) to rotation matrix (..., 3, 3)."""
    x, y, z, w = np.moveaxis(np.asarray(q, dtype=float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_matrix(matrix: ArrayLike) -> Array:
    """Rotation matrix (3, 3) to quaternion (4,), by Shepperd's method (largest component first)."""
    m = np.asarray(matrix, dtype=float)
    trace = float(np.trace(m))
    choice = int(np.argmax([m[0, 0], m[1, 1], m[2, 2], trace]))
    q = np.empty(4)
    if choice == 3:
        q[0], q[1], q[2] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
        q[3] = 1.0 + trace
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        q[i] = 1.0 + m[i, i] - m[j, j] - m[k, k]
        q[j] = m[j, i] + m[i, j]
        q[k] = m[k, i] + m[i, k]
        q[3] = m[k, j] - m[j, k]
    return normalize(q)


def from_euler_xyz(angles: ArrayLike) -> Array:
    """Extrinsic x, y, z (roll, pitch, yaw) [rad] (..., 3) to quaternion: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    a = np.asarray(angles, dtype=float)
    zero = np.zeros_like(a[..., 0])
    qx = exp(np.stack([a[..., 0], zero, zero], axis=-1))
    qy = exp(np.stack([zero, a[..., 1], zero], axis=-1))
    qz = exp(np.stack([zero, zero, a[..., 2]], axis=-1))
    return multiply(qz, multiply(qy, qx))


def to_euler_xyz(q: ArrayLike) -> Array:
    """Quaternion (..., 4) to extrinsic roll, pitch, yaw [rad] (..., 3); pitch within +-pi/2."""
    m = to_matrix(q)
    pitch = np.arcsin(np.clip(-m[..., 2, 0], -1.0, 1.0))
    roll = np.arctan2(m[..., 2, 1], m[..., 2, 2])
    yaw = np.arctan2(m[..., 1, 0], m[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)


def rotate(q: ArrayLike, vector: ArrayLike) -> Array:
    """Rotate vectors (..., 3) by quaternions (..., 4)."""
    q = np.asarray(q, dtype=float)
    v = np.asarray(vector, dtype=float)
    t = 2.0 * np.cross(q[..., :3], v)
    return v + q[..., 3:4] * t + np.cross(q[..., :3], t)


def angle_between(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle of the rotation from a to b [rad], shape (...)."""
    return np.asarray(np.linalg.norm(log(multiply(conjugate(a), b)), axis=-1))
