"""Where a calibrated camera sees a point."""

from __future__ import annotations

import numpy as np

from vla_ros.robots.spec import CameraSpec
from vla_ros.types import Array


def rotation_matrix(quaternion: Array) -> Array:
    """(3, 3) of a unit quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def project(camera: CameraSpec, points: Array) -> Array:
    """Pixels (n, 2) as (u, v) of points (n, 3) [m] in the camera's parent frame; NaN behind the camera."""
    local = (np.asarray(points, dtype=np.float64) - camera.pose.position) @ rotation_matrix(
        camera.pose.quaternion
    )
    depth = np.where(local[:, 2:] > 0.0, local[:, 2:], np.nan)
    homogeneous = (local / depth) @ camera.intrinsics.T
    return np.asarray(homogeneous[:, :2], dtype=np.float64)


def in_image(camera: CameraSpec, points: Array, margin: float = 0.0) -> bool:
    """Whether all points are seen at least `margin` pixels inside the image's border."""
    pixels = project(camera, points)
    last = np.array([camera.width - 1, camera.height - 1], dtype=np.float64) - margin
    return bool(np.all(np.isfinite(pixels)) and np.all(pixels >= margin) and np.all(pixels <= last))
