"""How far a joint can move what hangs on it: upper bounds that hold in every configuration.

The distance of a point from a joint's axis is at most the sum of the link lengths between them, so no point
moves faster than that sum per radian.  Crude, but never wrong; the shield certifies whole stops with it.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin

from vla_ros.types import Array


def chain(model: pin.Model, joint: int) -> list[int]:
    """Joints from `joint` towards the base, the base left out."""
    joints = []
    while joint > 0:
        joints.append(joint)
        joint = int(model.parents[joint])
    return joints


def lever_arms(model: pin.Model, frame: str) -> Array:
    """(nv,) bound on the speed of a frame's origin per speed of each joint [m/rad]."""
    item = model.frames[model.getFrameId(frame)]
    return point_reach(model, int(item.parentJoint), float(np.linalg.norm(item.placement.translation)))


def point_reach(model: pin.Model, joint: int, distance: float) -> Array:
    """(nv,) the same for any point within `distance` [m] of the origin of `joint`, fixed to its link."""
    reach = np.zeros(model.nv)
    for index in chain(model, joint):
        item = model.joints[index]
        prismatic = item.shortname().startswith("JointModelP")
        reach[item.idx_v] = 1.0 if prismatic else distance
        travel = float(model.upperPositionLimit[item.idx_q]) if prismatic else 0.0
        distance += float(np.linalg.norm(model.jointPlacements[index].translation)) + abs(travel)
    return reach
