"""How far targets may run ahead of the robot."""

from __future__ import annotations

import numpy as np

from vla_ros.kernels import tool
from vla_ros.types import Intervention, InterventionAction, Pose, Reason

LENGTH, ANGLE = 0.08, 0.35
"""[m], [rad]: more than a gentle motion is behind at these arms' speeds.  Deltas add to targets within it, so
that a robot which is held back is not sent far once it is free."""


def leashed(robot: Pose, wanted: Pose, found: list[Intervention]) -> Pose:
    """The wanted pose, or where the leash ends on the way to it; `found` takes the intervention."""
    share, position, quaternion = tool.leashed(
        robot.position, robot.quaternion, wanted.position, wanted.quaternion, LENGTH, ANGLE
    )
    if share < 1.0:
        length = float(np.linalg.norm(wanted.position - robot.position))
        found.append(Intervention(InterventionAction.LIMIT, Reason.LEASH, "tcp", length))
    return Pose(position, quaternion)
