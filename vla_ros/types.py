"""The words of the house: plain frozen dataclasses on numpy, shared by every room.

Conventions, unless a field says otherwise:
- stamps are integers in nanoseconds of ROS time;
- positions in metres, angles in radians, in the robot's base frame;
- quaternions are (x, y, z, w), unit norm;
- joint arrays have shape (n,) in the order of `RobotSpec.joint_names`;
- gripper widths are the opening between the fingers in metres (0 = closed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Pose:
    """A rigid pose: `position` (3,) [m] and `quaternion` (4,) (x, y, z, w)."""

    position: Array
    quaternion: Array


@dataclass(frozen=True)
class JointState:
    """Measured joints.  `velocities` and `efforts` may be empty when a driver does not report them."""

    stamp: int
    positions: Array
    velocities: Array
    efforts: Array


@dataclass(frozen=True)
class CameraImage:
    """One frame: `rgb` has shape (height, width, 3), dtype uint8."""

    stamp: int
    rgb: Image


@dataclass(frozen=True)
class Observation:
    """What a policy sees.  `stamp` is the stamp of the primary camera's frame."""

    stamp: int
    sequence: int
    images: Mapping[str, CameraImage]
    joints: JointState
    gripper_width: float
    tcp_pose: Pose
    """Measured pose of the tool centre point in the base frame, by forward kinematics of `joints`."""
    instruction: str = ""


class Source(IntEnum):
    """Who an action comes from (same numbers as msg/Authority)."""

    POLICY = 0
    PERSON = 1


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy answers, still in its own units.

    Exactly one of `values` and `tokens` is filled, shape (horizon, dimension of the action space).
    `values` are normalised when `normalization_key` is not empty.
    """

    stamp: int = 0
    """Stamp of the observation the answer belongs to.  A policy of one's own may leave out this and the next
    two: `policies.custom` fills in those of the observation it was asked about, and its action space."""
    sequence: int = 0
    action_space: str = ""
    values: Array | None = None
    tokens: NDArray[np.int64] | None = None
    normalization_key: str = ""
    latency: Mapping[str, float] = field(default_factory=dict)
    """Seconds per stage (e.g. preprocess, model, post)."""
    terminate: bool = False
    text: str = ""
    source: Source = Source.POLICY


class ActionKind(IntEnum):
    """Canonical meaning of the steps of a chunk (same numbers as msg/ActionChunk)."""

    CARTESIAN_DELTA = 0
    """Translation along base axes, rotation left-multiplied about the tool centre point."""
    CARTESIAN_ABSOLUTE = 1
    JOINT_POSITION = 2


class Composition(IntEnum):
    """What a delta is added to."""

    PREVIOUS_TARGET = 0
    MEASURED = 1


@dataclass(frozen=True)
class ActionChunk:
    """De-tokenised, un-normalised targets in metres and radians in the robot's base frame.

    Step k (0-based) is to be reached at `stamp + (k + 1) * period`.
    """

    stamp: int
    sequence: int
    kind: ActionKind
    period: float
    """Seconds between steps."""
    gripper_width: Array
    """(horizon,) absolute opening [m]."""
    translation: Array | None = None
    """(horizon, 3): delta or absolute position [m]."""
    quaternion: Array | None = None
    """(horizon, 4): delta or absolute rotation."""
    joints: Array | None = None
    """(horizon, n) joint positions [rad] for `JOINT_POSITION`."""
    composition: Composition = Composition.PREVIOUS_TARGET
    frame: str = ""
    """Frame of poses and deltas; empty: the robot's base frame, the only one that is accepted."""
    source: Source = Source.POLICY

    @property
    def horizon(self) -> int:
        """Number of steps."""
        return len(self.gripper_width)


@dataclass(frozen=True)
class JointSetpoint:
    """One tick of the safety controller's output."""

    stamp: int
    tick: int
    positions: Array
    velocities: Array
    accelerations: Array
    gripper_width: float
    observation_stamp: int
    """Stamp of the observation the motion came from; 0 when none."""
    measured_stamp: int = 0
    """Stamp of the newest joint state the tick knew of; 0 when none."""


class SafetyState(IntEnum):
    """States of the safety controller (same numbers as msg/SafetyStatus)."""

    IDLE = 0
    RUNNING = 1
    LIMITED = 2
    HOLDING = 3
    STOPPING = 4
    STOPPED = 5
    FAULT = 6


class InterventionAction(IntEnum):
    """How strongly the controller intervened (nav2 collision_monitor's vocabulary, extended)."""

    LIMIT = 0
    SLOWDOWN = 1
    HOLD = 2
    STOP = 3
    REJECT = 4


class Reason(str, Enum):
    """Reason codes of interventions."""

    JOINT_POSITION = "joint_position"
    JOINT_VELOCITY = "joint_velocity"
    JOINT_ACCELERATION = "joint_acceleration"
    JOINT_JERK = "joint_jerk"
    JOINT_TORQUE = "joint_torque"
    TCP_SPEED = "tcp_speed"
    ELBOW_SPEED = "elbow_speed"
    WORKSPACE = "workspace"
    FLOOR = "floor"
    SELF_COLLISION = "self_collision"
    ENVIRONMENT = "environment"
    SINGULARITY = "singularity"
    UNREACHABLE = "unreachable"
    STEP_TOO_LARGE = "step_too_large"
    LEASH = "leash"
    STARVATION = "starvation"
    STALE_JOINT_STATE = "stale_joint_state"
    JOINT_STATE_JUMP = "joint_state_jump"
    FROZEN_JOINT_STATE = "frozen_joint_state"
    TRACKING_ERROR = "tracking_error"
    CONTACT = "contact"
    CONTACT_UNWATCHED = "contact_unwatched"
    NOT_FINITE = "not_finite"
    WRONG_DIMENSION = "wrong_dimension"
    STALE_CHUNK = "stale_chunk"
    FUTURE_CHUNK = "future_chunk"
    OUT_OF_ORDER = "out_of_order"
    WRONG_FRAME = "wrong_frame"
    GRIPPER = "gripper"
    EMERGENCY_STOP = "emergency_stop"
    SHIELD = "shield"
    OVERRUN = "overrun"
    DRIVER = "driver"
    FOREIGN_COMMANDS = "foreign_commands"
    WATCHDOG = "watchdog"
    INTERNAL = "internal"
    SOLVER = "solver"
    INTERVENTION_RATE = "intervention_rate"


@dataclass(frozen=True)
class Intervention:
    """One intervention: what was done, why, to which joint or link, by how much (in its unit)."""

    action: InterventionAction
    reason: Reason
    subject: str = ""
    amount: float = 0.0
