"""What a robot is to vla_ros: one URDF and one YAML, loaded into these dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.robots.environment import EnvironmentSpec
from vla_ros.robots.load import ContactSpec, Payload
from vla_ros.types import Array, Pose


@dataclass(frozen=True)
class JointLimits:
    """Symmetric limits per joint, shape (n,), except for the two position bounds and the fade."""

    position_min: Array
    position_max: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    torque: Array
    fade: Array | None = None
    """(4, n) offset o [rad/s], gain g [rad/s^2], lower end a and upper end b [rad] of velocity limits that
    fall off towards the ends: at q a joint is no faster than sqrt(g (b - q)) - o upwards, sqrt(g (q - a)) - o
    downwards, and no faster than `velocity`.  A gain of 0: that joint's limit is the same everywhere.  None:
    so it is for all.
    """

    @property
    def fades(self) -> Array:
        """`fade` (4, n), zeros for None."""
        return np.zeros((4, len(self.velocity))) if self.fade is None else self.fade

    def scaled(
        self, velocity: float, acceleration: float, jerk: float, position_margin: float
    ) -> JointLimits:
        """Limits to apply: fractions of the published ones, positions drawn in by a margin [rad]."""
        return JointLimits(
            self.position_min + position_margin,
            self.position_max - position_margin,
            self.velocity * velocity,
            self.acceleration * acceleration,
            self.jerk * jerk,
            self.torque,
            None if self.fade is None else self.fade * np.array([[velocity], [velocity**2], [1.0], [1.0]]),
        )


@dataclass(frozen=True)
class GripperSpec:
    """A parallel gripper."""

    max_width: float
    """Opening when fully open [m]; fully closed is `min_width`."""
    min_width: float
    speed: float
    """Largest opening speed [m/s]."""
    max_force: float
    """Force cap [N]."""
    joint_names: tuple[str, ...]
    """URDF finger joints, in the order of `joint_at_max_width`."""
    joint_at_min_width: Array
    joint_at_max_width: Array
    finger_frames: tuple[str, ...]
    """URDF frames at the finger tips."""


@dataclass(frozen=True)
class TcpLimits:
    """Limits of the tool centre point that the safety controller applies."""

    speed: float
    acceleration: float
    jerk: float
    angular_speed: float
    angular_acceleration: float
    angular_jerk: float


@dataclass(frozen=True)
class Workspace:
    """Box for the tool centre point in the base frame, and the floor for tool, fingers and elbow [m]."""

    minimum: Array
    maximum: Array
    floor: float


@dataclass(frozen=True)
class CameraSpec:
    """A calibrated pinhole camera.

    `pose` is that of the optical frame (z forward, x right, y down) in `parent_frame`
    (a URDF frame, or the base frame for a camera that does not move).
    """

    name: str
    parent_frame: str
    pose: Pose
    fovy: float
    """Vertical field of view [rad]."""
    width: int
    height: int
    rate: float
    topic: str
    compressed: bool = False

    @property
    def intrinsics(self) -> Array:
        """K (3, 3) for square pixels, pixel centres at integer coordinates."""
        f = 0.5 * self.height / np.tan(0.5 * self.fovy)
        return np.array(
            [[f, 0.0, 0.5 * (self.width - 1)], [0.0, f, 0.5 * (self.height - 1)], [0.0, 0.0, 1.0]]
        )


@dataclass(frozen=True)
class DriverSpec:
    """Topics, types and rates of the robot's ROS 2 driver."""

    kind: str
    """franka_ros2, ur_robot_driver, interbotix or ros2_control."""
    joint_state_topic: str
    joint_state_rate: float
    joint_names: tuple[str, ...]
    """Names of the arm joints on `joint_state_topic`."""
    command_topic: str
    command_type: str
    """std_msgs/Float64MultiArray or interbotix_xs_msgs/JointGroupCommand."""
    command_rate: float
    """Rate at which the driver wants position commands [Hz]."""
    gripper: Mapping[str, object]
    """kind (action or topic), name, type, joint_state_topic, joint_names of the gripper interface."""
    extra: Mapping[str, object]
    """wrench_topic, status topics, services, whatever else the kind of driver has."""


@dataclass(frozen=True)
class CollisionSpec:
    """Self-collision: every pair of URDF collision bodies except neighbours and `excluded` pairs."""

    excluded: tuple[tuple[str, str], ...]
    stop_distance: float
    """Closer than this never [m]."""
    slow_distance: float
    """Slow-down begins here [m]."""


@dataclass(frozen=True)
class RobotSpec:
    """Everything that is known of a robot; `load_robot(name)` makes it."""

    name: str
    title: str
    yaml_path: Path
    """Where the description was read from, for sentences; it may have come in a contract or a bag."""
    urdf_path: Path
    """Likewise of the URDF."""
    yaml: str
    """The description itself; its key `urdf` holds the URDF where it came without files."""
    urdf: str
    """The URDF itself, without visual meshes."""
    shipped: bool
    """Whether it is one of the package's own robots, which are known by their name alone."""
    base_frame: str
    tcp_frame: str
    elbow_frame: str
    joint_names: tuple[str, ...]
    published: JointLimits
    """The maker's limits."""
    applied: JointLimits
    """The limits the safety controller keeps at every tick."""
    home: Array
    state_rotation: Array
    """(3, 3): R_state = R_tcp @ state_rotation, how data sets of this robot report orientation."""
    gripper: GripperSpec
    tcp: TcpLimits
    workspace: Workspace
    collision: CollisionSpec
    cameras: Mapping[str, CameraSpec]
    driver: DriverSpec
    control_rate: float
    """Rate of the safety controller on the real robot [Hz]."""
    simulated_control_rate: float
    simulated_joint_state_rate: float
    environment: EnvironmentSpec = EnvironmentSpec()
    """What is known of the surroundings; a contract may add to it."""
    contact: ContactSpec = ContactSpec()
    payload: Payload = Payload()
    """What the tool carries beyond the URDF; a contract says it."""

    @property
    def dof(self) -> int:
        """Number of arm joints."""
        return len(self.joint_names)
