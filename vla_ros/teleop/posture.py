"""Inverse kinematics of small steps: the posture nearby that brings the tool to a pose."""

from __future__ import annotations

import numpy as np

from vla_ros.actions import rotations
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import Array, Pose

_ITERATIONS = 20
_DAMPING = 1e-3
"""Damped least squares: near a singularity the tool stays behind rather than the joints race."""
_ENOUGH = 1e-6
"""Residual [m], [rad]."""


def follow(kinematics: Kinematics, joints: Array, target: Pose, most: Array) -> Array:
    """Joint positions (n,) [rad] within the applied limits and within `most` (n,) of `joints`.

    Where the target cannot be reached so, the tool comes as near as the posture allows; the branch of the
    inverse kinematics never changes.
    """
    limits = kinematics.spec.applied
    low = np.maximum(limits.position_min, joints - most)
    high = np.minimum(limits.position_max, joints + most)
    q = np.clip(np.array(joints, dtype=float), low, high)
    for _ in range(_ITERATIONS):
        pose, jacobian = kinematics.forward(q), kinematics.jacobian(q)
        turn = rotations.log(rotations.multiply(target.quaternion, rotations.conjugate(pose.quaternion)))
        error = np.concatenate([target.position - pose.position, turn])
        if np.abs(error).max() < _ENOUGH:
            break
        square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        q = np.clip(q + jacobian.T @ np.linalg.solve(square, error), low, high)
    return np.asarray(q)
