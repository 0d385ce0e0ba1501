"""How long motions take that keep a share of the limits."""

from __future__ import annotations

import numpy as np

from vla_ros.execution.executor import ChunkExecutor
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

_SHARE = 0.5
"""Of the joint limits."""
_LEAST_WAY, _LEAST_REST = 0.3, 0.25
"""Shortest motion and shortest slow-down [s]."""


def seconds_between(distance: Array, spec: RobotSpec) -> float:
    """Of a rest-to-rest quintic over joint distances (n,) [rad].

    Its peaks are 1.875 D/T, 5.774 D/T^2 and 60 D/T^3.
    """
    limits = spec.applied
    return max(
        _LEAST_WAY,
        float((1.875 * distance / (_SHARE * limits.velocity)).max()),
        float(np.sqrt(5.774 * distance / (_SHARE * limits.acceleration)).max()),
        float(np.cbrt(60.0 * distance / (_SHARE * limits.jerk)).max()),
    )


def seconds_to_rest(executor: ChunkExecutor, time: float, spec: RobotSpec) -> float:
    """For the executor's reference from its motion at `time` [s]."""
    if executor.joint_mode:
        speed = np.abs(executor.sample_joints(time).velocity)
        seconds = float((2.0 * speed / (_SHARE * spec.applied.acceleration)).max())
    else:
        seconds = 2.0 * float(np.linalg.norm(executor.sample(time).twist[:3])) / spec.tcp.acceleration
    return max(_LEAST_REST, seconds)
