"""Calibration of a contract's cameras, as bags carry it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vla_ros.robots.spec import CameraSpec


def calibration_text(cameras: Mapping[str, CameraSpec]) -> str:
    """JSON: per camera K (3 x 3), distortion, size [px], and the optical frame's pose in its parent frame.

    Position in metres, quaternion as x, y, z, w.
    """
    return json.dumps(
        {
            name: {
                "K": camera.intrinsics.tolist(),
                "distortion_model": "plumb_bob",
                "distortion": [0.0] * 5,
                "width": camera.width,
                "height": camera.height,
                "parent_frame": camera.parent_frame,
                "position": [float(value) for value in camera.pose.position],
                "quaternion": [float(value) for value in camera.pose.quaternion],
            }
            for name, camera in cameras.items()
        }
    )
