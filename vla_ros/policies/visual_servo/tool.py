"""The gripper's geometry with the tool pointing down, as the robot's own description has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ConfigurationError
from vla_ros.policies.visual_servo.camera import FrameLookup
from vla_ros.policies.visual_servo.models import BLOCK
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

MAX_YAW = np.radians(100.0)
"""Farther than this from home the gripper is not turned."""
_FLOOR_CLEARANCE = 0.004
_STEEP = 0.95
"""Least cosine between the tool and straight down at home."""


@dataclass(frozen=True)
class Tool:
    """A parallel gripper whose tool points down at the robot's home."""

    home_position: Array
    """TCP at home (3,) [m]."""
    home_quaternion: Array
    """TCP orientation at home: tool down, yaw 0."""
    closing_angle: float
    """Direction in which the fingers close at home, angle about base z [rad]."""
    grasp_height: float
    """TCP height for a block on the table [m]."""

    def orientation(self, yaw: float) -> Array:
        """Quaternion with the tool down, turned by `yaw` [rad] about base z from home."""
        return rotations.multiply(rotations.exp(np.array([0.0, 0.0, yaw])), self.home_quaternion)

    def yaw_of(self, quaternion: Array) -> float:
        """Turn about base z from home [rad] of a measured orientation."""
        matrix = rotations.to_matrix(
            rotations.multiply(quaternion, rotations.conjugate(self.home_quaternion))
        )
        return float(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))

    def grasp_yaw(self, block_yaw: float, current: float, offsets: Sequence[tuple[float, float]]) -> float:
        """Yaw that puts the fingers flat on two faces of a block turned by `block_yaw` [rad].

        Of the possible ones the cheapest: near the `current` yaw, near home, and with no other block
        (`offsets` (dx, dy) from this one [m]) where the open fingers come down.
        """
        quarter = 0.5 * np.pi
        first = (block_yaw - self.closing_angle) % quarter - 2.0 * quarter
        options = [yaw for k in range(5) if abs(yaw := first + k * quarter) <= MAX_YAW]

        def cost(yaw: float) -> float:
            blocked = sum(self._blocks_finger(yaw, offset) for offset in offsets)
            return abs(yaw - current) + 0.5 * abs(yaw) + 5.0 * blocked

        return float(min(options, key=cost))

    def across_yaw(self, direction: float, current: float) -> float:
        """Yaw that lets the fingers close at right angles to `direction` [rad], for pushing with both."""
        half = np.pi
        first = (direction + 0.5 * half - self.closing_angle) % half - half
        options = [yaw for k in range(3) if abs(yaw := first + k * half) <= MAX_YAW]
        return float(min(options, key=lambda yaw: abs(yaw - current) + 0.5 * abs(yaw)))

    def _blocks_finger(self, yaw: float, offset: tuple[float, float]) -> bool:
        angle = self.closing_angle + yaw
        along = offset[0] * np.cos(angle) + offset[1] * np.sin(angle)
        across = -offset[0] * np.sin(angle) + offset[1] * np.cos(angle)
        return bool(abs(along) < 0.09 and abs(across) < 0.04)


def tool_of(robot: RobotSpec, frame: FrameLookup) -> Tool:
    """The robot's tool.  Raises `ConfigurationError` when the URDF lacks the finger joint."""
    home = frame(robot.home, robot.tcp_frame)
    tips = [frame(robot.home, name).position[2] for name in robot.gripper.finger_frames]
    drop = max([float(home.position[2] - z) for z in tips] + [0.0])
    height = max(
        0.5 * BLOCK.height,
        robot.workspace.floor + _FLOOR_CLEARANCE + drop,
        float(robot.workspace.minimum[2]) + 0.001,
    )
    axis = _finger_axis(robot, frame)
    _check_home(robot, frame, axis)
    return Tool(home.position, home.quaternion, float(np.arctan2(axis[1], axis[0])), height)


def _finger_axis(robot: RobotSpec, frame: FrameLookup) -> Array:
    """Direction (3,) of the first finger joint at home in the base frame."""
    name = robot.gripper.joint_names[0]
    joint = ElementTree.fromstring(robot.urdf).find(f"joint[@name='{name}']")
    parent = joint.find("parent") if joint is not None else None
    axis = joint.find("axis") if joint is not None else None
    if joint is None or parent is None or axis is None:
        raise ConfigurationError(
            f"{robot.urdf_path.name} has no joint '{name}' with a parent and an axis, which the gripper of "
            f"{robot.yaml_path.name} names."
        )
    if joint.get("type") == "revolute":
        # it turns about its axis: what closes is the line between the finger tips
        tips = [frame(robot.home, tip).position for tip in robot.gripper.finger_frames[:2]]
        apart = tips[0] - tips[-1]
        return apart / max(float(np.linalg.norm(apart)), 1e-9)
    origin = joint.find("origin")
    rpy = (origin.get("rpy") if origin is not None else None) or "0 0 0"
    local = rotations.rotate(rotations.from_euler_xyz(_numbers(rpy)), _numbers(axis.get("xyz") or "1 0 0"))
    return rotations.rotate(frame(robot.home, parent.get("link") or "").quaternion, local)


def _check_home(robot: RobotSpec, frame: FrameLookup, axis: Array) -> None:
    """Blocks are grasped from above, turned about the vertical from how the tool stands at home.

    Raises `ConfigurationError` where it does not point down there.
    """
    joint = ElementTree.fromstring(robot.urdf).find(f"joint[@name='{robot.gripper.joint_names[0]}']")
    parent = joint.find("parent") if joint is not None else None
    hand = frame(robot.home, (parent.get("link") if parent is not None else None) or robot.tcp_frame).position
    tips = np.mean([frame(robot.home, tip).position for tip in robot.gripper.finger_frames], axis=0)
    down = float(hand[2] - tips[2]) / max(float(np.linalg.norm(hand - tips)), 1e-9)
    if down < _STEEP or abs(float(axis[2])) > 1.0 - _STEEP or not np.any(axis):
        raise ConfigurationError(
            f"visual_servo grasps from above, but at home the gripper of robot '{robot.name}' does not point "
            f"down with its fingers level; choose a home in {robot.yaml_path.name} at which it does"
        )


def _numbers(text: str) -> Array:
    return np.array([float(word) for word in text.split()])
