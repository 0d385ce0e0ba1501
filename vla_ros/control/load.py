"""Torques: what a command would ask of the motors, and what the robot feels beyond its own motion."""

from __future__ import annotations

import math

import numpy as np

from vla_ros.control.motion import JointMotion
from vla_ros.kernels.motion import furthest, greatest_share
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, Intervention, InterventionAction, JointState, Reason

_TORQUE_SHARE = 0.8
"""Share of the maker's torque limits that commanded motion may take; the rest is for tracking, friction."""
_GRAVITY = 9.81
"""[m/s^2]"""
_NO_NUMBER = "the force at the wrist is not finite, so no contact can be noticed"


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
    """Finds touches: joint torque beyond the model's, or a change of the force at the wrist.

    Torque and force are low-passed (first order, `spec.contact.seconds`).  The acceleration is that of the
    measured velocity through the same filter, so that both sides of the comparison are equally late, as in a
    momentum observer (De Luca and Mattone, "Sensorless robot collision detection and hybrid force/motion
    control", ICRA 2005) whose inertia is taken as constant within the filter.

    The force is one of no contact at the start, by assumption: so large a one that it cannot be the tool's
    own weight is not taken for that.  What is watched must keep coming, not older than `spec.contact.age`.
    """

    def __init__(self, spec: RobotSpec, kinematics: Kinematics) -> None:
        """Thresholds of `spec.contact`."""
        self._spec, self._kinematics, self._contact = spec, kinematics, spec.contact
        self._heaviest = (spec.contact.force or 0.0) + _GRAVITY * spec.payload.mass
        # of what has come last, whatever has been forgotten since
        self._force: Array | None = None
        self._felt_at = -np.inf
        self._loaded: int | None = None
        self.clear()

    def clear(self) -> None:
        """Forget what was felt; the next force is taken as that of no contact (activation, reset)."""
        self._last: JointState | None = None
        self._filtered: Array | None = None
        self._tare: Array | None = None
        self._change = np.zeros(3)
        self._force_time = 0.0
        self._unreadable = ""

    def feel(self, force: Array, time: float) -> None:
        """The newest force at the wrist (3,) [N], in the sensor's frame, and when it came [s]."""
        self._force, self._felt_at = force, time
        if self._tare is None:
            if self._too_heavy(force):
                return
            self._tare, self._force_time = force, time
        share = self._share(time - self._force_time)
        self._change = self._change + share * (force - self._tare - self._change)
        self._force_time = time

    @property
    def finding(self) -> tuple[Intervention, str] | None:
        """A touch by what was observed last, with one plain sentence; None: there is none."""
        return self._by_force() or self._by_torque()

    def unwatched(self, measured: JointState, age: float, time: float) -> str:
        """What of contact cannot be noticed now, one plain sentence; empty: all that is watched comes in.

        Args:
            measured: newest joint state.
            age: seconds since it was received.
            time: now [s], on the clock of `feel`.
        """
        allowed = self._contact.age
        if self._contact.force is not None:
            if self._force is None:
                return "contact is watched by the force at the wrist, but none has come"
            if not time - self._felt_at <= allowed:
                old = time - self._felt_at
                return (
                    f"contact is watched, but the last force at the wrist is {old:.2f} s old, "
                    f"allowed are {allowed:g} s"
                )
        if self._contact.torque is not None:
            if self._loaded is None:
                return (
                    "contact is watched by joint torques, but no joint state has come with finite efforts "
                    "and velocities"
                )
            old = (measured.stamp - self._loaded) / NANOSECONDS + age
            if not old <= allowed:
                return (
                    "contact is watched, but the last joint state with finite efforts and velocities is "
                    f"{old:.2f} s old, allowed are {allowed:g} s"
                )
        return ""

    def objection_to_start(self, measured: JointState, age: float, time: float) -> str:
        """Why motion must not begin; empty when it may.  Arguments as `unwatched`."""
        blind = self.unwatched(measured, age, time)
        if blind or self._contact.force is None or self._force is None:
            return blind
        return self._too_heavy(self._force)

    def _too_heavy(self, force: Array) -> str:
        """Why a force (3,) cannot be the one of no contact; empty when it can."""
        if self._contact.force is None:
            return ""
        size = float(np.linalg.norm(force))
        if size <= self._heaviest:
            return ""
        if not math.isfinite(size):
            return _NO_NUMBER
        return (
            f"the wrist feels {size:.0f} N before any motion, at most {self._heaviest:.0f} N are taken for "
            "no contact; free the arm, or have the driver zero its sensor"
        )

    def _share(self, elapsed: float) -> float:
        """Of a new value in the filter's, `elapsed` [s] after the last."""
        return 1.0 - math.exp(-max(elapsed, 0.0) / self._contact.seconds)

    def _by_force(self) -> tuple[Intervention, str] | None:
        limit = self._contact.force
        if limit is None:
            return None
        if self._tare is None and self._force is not None:
            heavy = self._too_heavy(self._force)
            if heavy:
                size = float(np.linalg.norm(self._force))
                return Intervention(InterventionAction.STOP, Reason.CONTACT, "wrist", size), heavy
        x, y, z = self._change.tolist()
        force = math.sqrt(x * x + y * y + z * z)
        if force <= limit:
            return None
        if not math.isfinite(force):
            return Intervention(InterventionAction.STOP, Reason.CONTACT, "wrist"), _NO_NUMBER
        sentence = f"the wrist feels {force:.0f} N, allowed are {limit:g} N"
        return Intervention(InterventionAction.STOP, Reason.CONTACT, "wrist", force), sentence

    def observe(self, state: JointState) -> None:
        """The next joint state.  None may be left out: torque and velocity would not belong together."""
        scale = self._contact.torque_per_effort
        if scale is None or len(state.efforts) == 0 or len(state.velocities) == 0:
            return
        if not math.isfinite(float(state.efforts @ state.efforts + state.velocities @ state.velocities)):
            # some drivers report what they do not measure so; one that has measured before has failed
            if self._last is not None:
                self._unreadable = "a measured effort or velocity is not finite, so no contact can be noticed"
            return
        self._loaded = state.stamp
        last, self._last = self._last, state
        newest = np.array([scale * state.efforts, state.velocities])
        if last is None or self._filtered is None:
            self._filtered = newest
        share = 0.0 if last is None else self._share((state.stamp - last.stamp) / NANOSECONDS)
        self._filtered = self._filtered + share * (newest - self._filtered)

    def _by_torque(self) -> tuple[Intervention, str] | None:
        if self._unreadable:
            failed = Intervention(InterventionAction.STOP, Reason.CONTACT, "joint_states")
            return failed, self._unreadable
        limit, state, filtered = self._contact.torque, self._last, self._filtered
        if limit is None or state is None or filtered is None:
            return None
        torque, velocity = filtered
        acceleration = (state.velocities - velocity) / self._contact.seconds
        external = torque - self._kinematics.torques(state.positions, state.velocities, acceleration)
        joint, part = greatest_share(external, limit)
        if part <= 1.0:
            return None
        name, size = self._spec.joint_names[int(joint)], abs(float(external[int(joint)]))
        sentence = f"joint {name} feels {size:.1f} Nm from outside, allowed are {limit[int(joint)]:g} Nm"
        return Intervention(InterventionAction.STOP, Reason.CONTACT, name, size), sentence


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
