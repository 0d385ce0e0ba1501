"""The pinocchio model of a robot's URDF: what kinematics and collision have in common."""

from __future__ import annotations

import numpy as np
import pinocchio as pin

from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import GripperSpec, RobotSpec
from vla_ros.types import Array


def build_model(spec: RobotSpec) -> pin.Model:
    """The model of arm and fingers.

    Raises:
        ConfigurationError: the URDF cannot be read or moves other joints than the YAML file names.
    """
    try:
        model = pin.buildModelFromXML(spec.urdf)
    except ValueError as error:
        raise ConfigurationError(f"{spec.urdf_path} is no valid URDF: {error}") from error
    named = (*spec.joint_names, *spec.gripper.joint_names)
    for name, joint in zip(list(model.names)[1:], list(model.joints)[1:], strict=True):
        if name not in named:
            raise ConfigurationError(
                f"{spec.urdf_path} moves joint '{name}', which {spec.yaml_path} does not name"
            )
        if joint.nq != 1:
            raise ConfigurationError(
                f"{spec.urdf_path}: joint '{name}' must be revolute or prismatic, with limits"
            )
    return model


def joint_indices(model: pin.Model, names: tuple[str, ...]) -> list[int]:
    """Index of each joint's coordinate in the model's configuration."""
    return [int(model.joints[model.getJointId(name)].idx_q) for name in names]


def finger_positions(gripper: GripperSpec, width: float) -> Array:
    """Finger joint positions, in the order of `gripper.joint_names`, at an opening width [m]."""
    low, high = gripper.joint_at_min_width, gripper.joint_at_max_width
    opened = (width - gripper.min_width) / (gripper.max_width - gripper.min_width)
    return low + (high - low) * float(np.clip(opened, 0.0, 1.0))
