"""Ways of the tool: straight lines that may bend, shortest turns, smooth in time."""

from __future__ import annotations

import numpy as np

from vla_ros.actions import rotations
from vla_ros.types import Array, Pose

SLOWEST = 1.875
"""Highest over mean speed of the minimum-jerk profile (Flash and Hogan 1985)."""


def about_z(angle: float) -> Array:
    """Quaternion (x, y, z, w) of a turn about z [rad]."""
    return np.array([0.0, 0.0, np.sin(0.5 * angle), np.cos(0.5 * angle)])


def between(first: Pose, second: Pose, share: float) -> Pose:
    """Straight line and shortest turn."""
    turn = rotations.log(rotations.multiply(second.quaternion, rotations.conjugate(first.quaternion)))
    return Pose(
        first.position + share * (second.position - first.position),
        rotations.normalize(rotations.multiply(rotations.exp(share * turn), first.quaternion)),
    )


def apart(first: Pose, second: Pose) -> tuple[float, float]:
    """Distance [m] and angle [rad]."""
    return (
        float(np.linalg.norm(second.position - first.position)),
        float(rotations.angle_between(first.quaternion, second.quaternion)),
    )


def progress(time: float, skew: float) -> float:
    """Share of the way at a share of the time, both 0 to 1: minimum jerk of the skewed time."""
    s = min(max(time, 0.0), 1.0) ** skew
    return s**3 * (10.0 - 15.0 * s + 6.0 * s * s)


def moved(pose: Pose, offset: Array) -> Pose:
    """The pose with its position moved by `offset` (3,) [m]."""
    return Pose(pose.position + offset, pose.quaternion)
