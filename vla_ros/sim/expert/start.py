"""Where the arm begins when it does not begin at home."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.actions import rotations
from vla_ros.robots.kinematics import Kinematics, UnreachableError
from vla_ros.sim.expert.geometry import about_z
from vla_ros.types import Array, Pose

SPAN = np.array([0.07, 0.09, 0.05])
"""Largest shift of the tool from home along each base axis [m]."""
TURN = 0.4
"""Largest turn of the tool about the vertical [rad]."""
_WORST_JOINT = 1.2
"""A start that turns a joint farther from home than this is left out [rad]."""


def disturbed_start(kinematics: Kinematics, seed: int, tries: Sequence[float] = (1.0, 0.6, 0.3)) -> Array:
    """Joint positions (n,) [rad] of a tool near home, the same for the same seed.

    Within `SPAN` and `TURN`, inside the workspace; home where none is reachable.  `tries`: shares of the
    shift that are tried in turn.
    """
    spec, rng = kinematics.spec, np.random.default_rng([seed, 3])
    home = kinematics.forward(spec.home)
    shift = rng.uniform(-1.0, 1.0, 3) * SPAN
    yaw = float(rng.uniform(-TURN, TURN))
    low, high = spec.workspace.minimum + 0.03, spec.workspace.maximum - 0.03
    for share in tries:
        position = np.clip(home.position + share * shift, low, high)
        position[2] = max(position[2], min(0.15, home.position[2]))
        pose = Pose(position, rotations.multiply(about_z(share * yaw), home.quaternion))
        try:
            joints = kinematics.inverse(pose, spec.home, tol=1e-4)
        except UnreachableError:
            continue
        if np.abs(joints - spec.home).max() < _WORST_JOINT:
            return joints
    return np.array(spec.home)
