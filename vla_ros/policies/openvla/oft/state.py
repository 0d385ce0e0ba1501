"""The robot's own state as a model was told it in training, from an observation.

Layouts: `libero` is position, rotation vector and the places of both fingers (8 numbers, robosuite); `bridge`
is position, extrinsic xyz angles and the gripper's opening from 0 to 1 (7 numbers); `joints` is joint
positions and that opening.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vla_ros.actions.normalization import Normalization, normalize
from vla_ros.errors import PolicyError, unknown
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Observation

LAYOUTS = ("libero", "bridge", "joints")


def choose_layout(name: str, data_set: str, source: str) -> str:
    """The layout by its name, or where that is "" by the data set's.  Raises `PolicyError`."""
    if name:
        if name not in LAYOUTS:
            raise PolicyError(unknown("The state's layout", name, LAYOUTS))
        return name
    found = next((layout for layout in LAYOUTS if data_set.startswith(layout)), "")
    if not found:
        raise PolicyError(
            f"The model of {source} is told the robot's state, but how '{data_set}' lays it out is unknown; "
            f"say it by the option 'state': {', '.join(LAYOUTS)}."
        )
    return found


def read_state(observation: Observation, layout: str, robot: RobotSpec) -> Array:
    """The state of an observation, in metres and radians, not normalised."""
    width = observation.gripper_width
    opening = width / robot.gripper.max_width if robot.gripper.max_width > 0.0 else 0.0
    if layout == "joints":
        return np.array([*observation.joints.positions, opening], dtype=float)
    pose = observation.tcp_pose
    rotation = Rotation.from_matrix(Rotation.from_quat(pose.quaternion).as_matrix() @ robot.state_rotation)
    if layout == "libero":
        return np.array([*pose.position, *rotation.as_rotvec(), width / 2.0, -width / 2.0], dtype=float)
    return np.array([*pose.position, *rotation.as_euler("xyz"), opening], dtype=float)


def scaled_state(state: Array, scaling: Normalization) -> Array:
    """Normalised to [-1, 1], and cut there in every dimension, as in training.

    Raises `PolicyError` when the statistics are of another size.
    """
    if len(state) != scaling.statistics.dimension:
        raise PolicyError(
            f"The robot's state has {len(state)} numbers, but the statistics of {scaling.statistics.source} "
            f"have {scaling.statistics.dimension}."
        )
    return np.clip(normalize(state, scaling.kind, scaling.statistics), -1.0, 1.0)
