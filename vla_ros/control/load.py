"""Torques: what a command would ask of the motors, and what the robot feels beyond its own motion."""

from __future__ import annotations

import math

from vla_ros.control.motion import JointMotion
from vla_ros.kernels.motion import furthest, greatest_share
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, JointState, Reason

_TORQUE_SHARE = 0.8
"""Share of the maker's torque limits that commanded motion may take; the rest is for tracking, friction."""


class TorqueLimit:
    """Refuses a proposed motion whose modelled torque is too high, unless it makes a high one smaller."""

    def __init__(self, spec: RobotSpec, kinematics: Kinematics) -> None:
        """Limits of `spec.applied.torque`, model of the URDF with `spec.payload`."""
        self._names, self._kinematics = spec.joint_names, kinematics
        self._limit = _TORQUE_SHARE * spec.applied.torque

    def refusal(self, proposal: JointMotion, present: JointMotion) -> Intervention | None:
        """None when the proposal may pass the torque limits."""
        joint, share = self._share(proposal)
        if share <= 1.0 or share < self._share(present)[1]:
            return None
        excess = (share - 1.0) * float(self._limit[joint])
        return Intervention(InterventionAction.LIMIT, Reason.JOINT_TORQUE, self._names[joint], excess)

    def _share(self, motion: JointMotion) -> tuple[int, float]:
        """The joint nearest its limit, and its share of it."""
        torques = self._kinematics.torques(motion.positions, motion.velocities, motion.accelerations)
        joint, share = greatest_share(torques, self._limit)
        return int(joint), share


class ContactMonitor:
    """Finds touches: joint torque beyond the model's, or a change of the force at the wrist."""

    def __init__(self, spec: RobotSpec, kinematics: Kinematics, period: float) -> None:
        """Thresholds of `spec.contact`; `period` is the tick [s]."""
        self._spec, self._kinematics, self._contact = spec, kinematics, spec.contact
        self._patience = max(1, round(spec.contact.seconds / period))
        self.clear()

    def clear(self) -> None:
        """Forget what was felt; the next force is taken as that of no contact (activation, reset)."""
        self._beyond = 0
        self._tare: Array | None = None
        self._force: Array | None = None

    def feel(self, force: Array) -> None:
        """The newest force at the wrist (3,) [N], in the sensor's frame."""
        if self._tare is None:
            self._tare = force
        self._force = force

    def look(self, measured: JointState, accelerations: Array) -> tuple[Intervention, str] | None:
        """A touch that has lasted long enough, with one plain sentence; None: there is none.

        Args:
            measured: newest joint state.
            accelerations: commanded now (n,) [rad/s^2].
        """
        found = self._by_force() or self._by_torque(measured, accelerations)
        self._beyond = 0 if found is None else self._beyond + 1
        return found if self._beyond >= self._patience else None

    def _by_force(self) -> tuple[Intervention, str] | None:
        limit = self._contact.force
        if limit is None or self._force is None or self._tare is None:
            return None
        x, y, z = (self._force - self._tare).tolist()
        force = math.sqrt(x * x + y * y + z * z)
        if force <= limit:
            return None
        sentence = f"the wrist feels {force:.0f} N, allowed are {limit:g} N"
        return Intervention(InterventionAction.STOP, Reason.CONTACT, "wrist", force), sentence

    def _by_torque(self, measured: JointState, accelerations: Array) -> tuple[Intervention, str] | None:
        limit, scale = self._contact.torque, self._contact.torque_per_effort
        if limit is None or scale is None or len(measured.efforts) == 0 or len(measured.velocities) == 0:
            return None
        modelled = self._kinematics.torques(measured.positions, measured.velocities, accelerations)
        external = scale * measured.efforts - modelled
        joint, share = greatest_share(external, limit)
        if share <= 1.0:
            return None
        name, torque = self._spec.joint_names[int(joint)], abs(float(external[int(joint)]))
        sentence = f"joint {name} feels {torque:.1f} Nm from outside, allowed are {limit[int(joint)]:g} Nm"
        return Intervention(InterventionAction.STOP, Reason.CONTACT, name, torque), sentence


class FrozenJoints:
    """Notices joint states that keep coming and stay the same while the robot is told to move."""

    SAMPLES, MOTION = 100, 0.03
    """So many states in a row without any change, while a joint's command moved this far [rad]."""

    def __init__(self, spec: RobotSpec) -> None:
        """Joints of `spec`."""
        self._names = spec.joint_names
        self.clear()

    def clear(self) -> None:
        """Forget what has come."""
        self._last: JointState | None = None
        self._commanded: Array | None = None
        self._count = 0

    def look(self, measured: JointState, commanded: Array) -> tuple[Intervention, str] | None:
        """None, or the finding with one plain sentence; called every tick with the newest state."""
        last = self._last
        if measured is last:
            return None
        self._last = measured
        if last is None or self._commanded is None or furthest(measured.positions, last.positions)[1] > 0.0:
            self._commanded, self._count = commanded, 0
            return None
        self._count += 1
        joint, moved = furthest(commanded, self._commanded)
        if self._count < self.SAMPLES or moved < self.MOTION:
            return None
        sentence = (
            f"the last {self._count} joint states are identical, "
            f"but joint {self._names[int(joint)]} was told to move {moved:.3f} rad"
        )
        return Intervention(
            InterventionAction.STOP, Reason.FROZEN_JOINT_STATE, "joint_states", moved
        ), sentence
