"""Mode, errors and commanded posture out of a serialised franka_msgs/FrankaRobotState.

A Python message of the whole, 2.7 kB in 40 parts, takes a millisecond, which a control loop at 1 kHz would
feel; what is wanted are seven numbers in its middle and its last 73 bytes.  Strings and sequences before them
have any length, so the way there is walked (plain CDR: numbers aligned to their size, strings and sequences
with their length in front).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vla_ros.errors import ObservationError

ERRORS = (
    "joint_position_limits_violation",
    "cartesian_position_limits_violation",
    "self_collision_avoidance_violation",
    "joint_velocity_violation",
    "cartesian_velocity_violation",
    "force_control_safety_violation",
    "joint_reflex",
    "cartesian_reflex",
    "max_goal_pose_deviation_violation",
    "max_path_pose_deviation_violation",
    "cartesian_velocity_profile_safety_violation",
    "joint_position_motion_generator_start_pose_invalid",
    "joint_motion_generator_position_limits_violation",
    "joint_motion_generator_velocity_limits_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "cartesian_position_motion_generator_start_pose_invalid",
    "cartesian_motion_generator_elbow_limit_violation",
    "cartesian_motion_generator_velocity_limits_violation",
    "cartesian_motion_generator_velocity_discontinuity",
    "cartesian_motion_generator_acceleration_discontinuity",
    "cartesian_motion_generator_elbow_sign_inconsistent",
    "cartesian_motion_generator_start_elbow_invalid",
    "cartesian_motion_generator_joint_position_limits_violation",
    "cartesian_motion_generator_joint_velocity_limits_violation",
    "cartesian_motion_generator_joint_velocity_discontinuity",
    "cartesian_motion_generator_joint_acceleration_discontinuity",
    "cartesian_position_motion_generator_invalid_frame",
    "force_controller_desired_force_tolerance_violation",
    "controller_torque_discontinuity",
    "start_elbow_sign_inconsistent",
    "communication_constraints_violation",
    "power_limit_violation",
    "joint_p2p_insufficient_torque_for_planning",
    "tau_j_range_violation",
    "instability_detected",
)
"""Fields of franka_msgs/Errors, in their order."""


class _Walk:
    """A position in serialised data."""

    def __init__(self, data: bytes) -> None:
        self.at = 4
        self._data, self._order = data, "<" if data[1] & 1 else ">"

    def doubles(self, count: int) -> None:
        if count:
            self.at += (4 - self.at) % 8 + 8 * count

    def values(self) -> tuple[float, ...]:
        count = self.length()
        self.doubles(count)
        return struct.unpack_from(f"{self._order}{count}d", self._data, self.at - 8 * count)

    def length(self) -> int:
        self.at += -self.at % 4
        (value,) = struct.unpack_from(f"{self._order}I", self._data, self.at)
        self.at += 4
        if value > len(self._data):
            raise ValueError
        return int(value)

    def text(self) -> None:
        length = self.length()
        self.at += length

    def header(self) -> None:
        self.at += -self.at % 4 + 8
        self.text()

    def joint_state(self) -> tuple[float, ...]:
        """Its positions."""
        self.header()
        for _ in range(self.length()):
            self.text()
        positions = self.values()
        for _ in range(2):
            self.doubles(self.length())
        return positions


@dataclass(frozen=True)
class FrankaState:
    """What is read of a FrankaRobotState."""

    mode: int
    """RobotMode."""
    errors: tuple[str, ...]
    last_errors: tuple[str, ...]
    """Of the last motion."""
    commanded: tuple[float, ...]
    """q_d, the posture the robot is told to be in [rad]."""


def read_state(data: bytes) -> FrankaState:
    """Out of the serialised message.

    Raises:
        ObservationError: the bytes cannot be a FrankaRobotState.
    """
    try:
        walk = _Walk(data)
        walk.header()
        walk.doubles(12 + 14)  # collision indicators
        walk.joint_state()
        commanded = walk.joint_state()
        walk.joint_state()
        walk.doubles(14)
        walk.joint_state()
        walk.doubles(10)  # elbow
        # wrenches, inertias, poses, twists and an acceleration, each with a header of its own
        for count in (6, 6, 10, 10, 10, 7, 7, 7, 7, 7, 6, 6, 6):
            walk.header()
            walk.doubles(count)
        walk.doubles(2)
        mode, flags = data[walk.at], data[walk.at + 1 : walk.at + 1 + 2 * len(ERRORS)]
        if len(flags) != 2 * len(ERRORS) or max(flags) > 1:
            raise ValueError
    except (IndexError, struct.error, ValueError):
        raise ObservationError(
            f"{len(data)} bytes on the robot state's topic are no FrankaRobotState."
        ) from None

    def named(part: bytes) -> tuple[str, ...]:
        return tuple(name for name, flag in zip(ERRORS, part, strict=True) if flag)

    return FrankaState(mode, named(flags[: len(ERRORS)]), named(flags[len(ERRORS) :]), commanded)
