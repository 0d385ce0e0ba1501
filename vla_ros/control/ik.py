"""Inverse kinematics as a small quadratic programme: the joint reference that follows the Cartesian one.

At every tick the joint velocities v minimise
    |J v - (twist + K error)|^2_W + damping |v|^2 + posture |v - k (home - q)|^2
within a box (velocity, acceleration, braking distance to the joint limits) and one row for every barrier that
is near: gradient . v >= -k (margin), the velocity damper of Faverjon and Tournassoud (ICRA 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import daqp
import numpy as np

from vla_ros.actions import rotations
from vla_ros.control.barriers import Barrier, Near
from vla_ros.control.motion import JointMotion
from vla_ros.execution.reference import CartesianSample
from vla_ros.execution.spline import CurveState
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import JointLimits, RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, Reason

_GAIN = 12.0
"""Error feedback [1/s]: the joint reference closes a Cartesian error with this rate."""
_ANGULAR_WEIGHT = 0.3
"""Metres an orientation error of one radian weighs."""
_DAMPING, _SINGULAR = 1e-4, 0.04
"""Least damping, and the smallest singular value below which it grows (reference list, item 12)."""
_MAX_DAMPING = 0.05
_POSTURE, _POSTURE_GAIN, _POSTURE_TWIST = 1e-3, 0.5, 0.1
_AT_REST = 5e-5
"""A resting reference nearer than this [m and rad] is reached; the joint reference then stands still."""
_STILL = 1e-6
"""Slower references [m/s and rad/s] rest."""
_DAMPER = 5.0
"""Approach speed per metre of margin to a barrier [1/s]."""
_CLEARANCE = 0.003
"""Margin to barriers the joint reference keeps [m], more than the shield asks for, so that it is followed."""
_JOINT_DAMPER = 10.0
"""Approach speed per radian to a joint limit [1/s]."""
_SHARE = 0.92
"""Share of the limits the reference may use; the tracker needs the rest to catch up."""
_LAG = 0.10
"""Joint lag [rad] of the command behind the reference at which the reference waits."""


@dataclass(frozen=True)
class Solution:
    """Joint reference now with the accelerations that lead to the next tick, and what held it back."""

    motion: JointMotion
    interventions: list[Intervention]
    residual: float
    """Distance of the joint reference's tool centre point from the wanted one [m]."""


class InverseKinematics:
    """Keeps a joint reference and moves it one tick at a time."""

    def __init__(
        self, spec: RobotSpec, kinematics: Kinematics, barriers: Sequence[Barrier], period: float
    ) -> None:
        """`period` is the tick [s]."""
        self._spec, self._kinematics, self._barriers, self._period = spec, kinematics, barriers, period
        self._weight = np.array([1.0, 1.0, 1.0, *(3 * [_ANGULAR_WEIGHT**2])])
        self._root = np.sqrt(self._weight)
        self.anchor(spec.home)

    def anchor(self, positions: Array) -> None:
        """Rest at `positions` (n,) [rad]."""
        self.width = self._spec.gripper.max_width
        self.reference = JointMotion.at_rest(positions)

    def follow_pose(self, wanted: CartesianSample, command: JointMotion, ease: float) -> Solution:
        """Move the joint reference towards a Cartesian reference.

        Args:
            wanted: pose and twist to follow, base frame.
            command: the motion commanded now, which the reference must not leave behind.
            ease: share of the speed limits to use, 0 to 1.
        """
        q = self.reference.positions
        pose = self._kinematics.forward(q)
        jacobian = self._kinematics.jacobian(q)
        linear = wanted.pose.position - pose.position
        turn = rotations.log(rotations.multiply(wanted.pose.quaternion, rotations.conjugate(pose.quaternion)))
        twist = wanted.twist + _GAIN * np.concatenate([linear, turn])
        interventions: list[Intervention] = []
        if np.abs(wanted.twist).max() < _STILL and np.abs(twist).max() < _GAIN * _AT_REST:
            twist = np.zeros(6)
        twist = self._limit_speed(twist, ease * self._patience(command), interventions)
        weighted = jacobian.T * self._weight
        # the smallest singular value of the weighted Jacobian, from the small symmetric matrix
        scaled = jacobian * self._root[:, None]
        smallest = float(np.sqrt(max(np.linalg.eigvalsh(scaled @ scaled.T)[0], 0.0)))
        damping = _DAMPING
        if smallest < _SINGULAR:
            damping += _MAX_DAMPING * (1.0 - smallest / _SINGULAR) ** 2
            interventions.append(Intervention(InterventionAction.SLOWDOWN, Reason.SINGULARITY, "", smallest))
        n = len(q)
        # the null space moves only while the tool does
        pace = min(1.0, float(np.linalg.norm(twist)) / _POSTURE_TWIST)
        posture = pace * _POSTURE_GAIN * (self._spec.home - q)
        hessian = weighted @ jacobian + (damping + _POSTURE) * np.eye(n)
        gradient = -(weighted @ twist) - _POSTURE * posture
        return self._solve(hessian, gradient, ease, interventions, float(np.linalg.norm(linear)))

    def follow_joints(self, wanted: CurveState, command: JointMotion, ease: float) -> Solution:
        """Move the joint reference towards a joint-space one; arguments as `follow_pose`."""
        error = wanted.position - self.reference.positions
        if np.abs(wanted.velocity).max() < _STILL and np.abs(error).max() < _AT_REST:
            error = np.zeros_like(error)
        velocity = (wanted.velocity + _GAIN * error) * min(1.0, ease * self._patience(command))
        return self._solve(np.eye(len(error)), -velocity, ease, [], 0.0)

    def _patience(self, command: JointMotion) -> float:
        """1 while the command keeps up with the joint reference, down to 0 when it lags by `_LAG`."""
        lag = float(np.abs(self.reference.positions - command.positions).max())
        return float(np.clip(2.0 * (1.0 - lag / _LAG), 0.0, 1.0))

    def _limit_speed(self, twist: Array, share: float, interventions: list[Intervention]) -> Array:
        limits = self._spec.tcp
        linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
        allowed_linear, allowed_angular = limits.speed * share, limits.angular_speed * share
        # one factor for both, so that the tool stays on its way and only gets slower
        factor = min(1.0, allowed_linear / max(linear, 1e-12), allowed_angular / max(angular, 1e-12))
        if factor < 0.999:
            excess = max(linear - allowed_linear, 0.0)
            interventions.append(Intervention(InterventionAction.LIMIT, Reason.TCP_SPEED, "tcp", excess))
        return twist * factor

    def _solve(
        self, hessian: Array, gradient: Array, ease: float, interventions: list[Intervention], residual: float
    ) -> Solution:
        q, v = self.reference.positions, self.reference.velocities
        dt = self._period
        lower, upper = self._box(q, v, ease)
        near = [(barrier.reason, item) for barrier in self._barriers for item in barrier.near(q, self.width)]
        n = len(q)
        rows = np.array([item.gradient for _, item in near]).reshape(len(near), n)
        # a margin already overrun is not made worse; nothing is moved back that nobody asked to move
        bounds = np.array([-_DAMPER * max(item.margin - _CLEARANCE, 0.0) for _, item in near])
        solution, _, flag, _ = daqp.solve(
            np.ascontiguousarray(hessian), gradient, rows,
            np.concatenate([upper, np.full(len(near), 1e30)]), np.concatenate([lower, bounds]),
            np.zeros(n + len(near), dtype=np.int32),
        )  # fmt: skip
        if flag < 1 or not np.isfinite(solution).all():
            # no velocity satisfies all rows at once: brake as hard as the box allows
            solution = np.clip(np.zeros(n), lower, upper)
            interventions.append(Intervention(InterventionAction.SLOWDOWN, Reason.SOLVER, "", float(flag)))
        new = np.clip(solution, lower, upper)
        interventions += self._explain(q, new, hessian @ new + gradient, near, rows @ new - bounds)
        # trapezoid: positions, velocities and accelerations belong to one curve
        self.reference = JointMotion(q + 0.5 * (v + new) * dt, new, np.zeros(n))
        return Solution(JointMotion(q, v, (new - v) / dt), interventions, residual)

    def _box(self, q: Array, v: Array, ease: float) -> tuple[Array, Array]:
        limits, dt = self._spec.applied, self._period
        most = _SHARE * limits.velocity * max(ease, 0.05)
        change = _SHARE * limits.acceleration * dt
        upper = np.minimum(most, _approach_speed(limits.position_max - q, limits))
        lower = -np.minimum(most, _approach_speed(q - limits.position_min, limits))
        # never faster than the acceleration allows, also on the way down to a bound
        return np.clip(lower, v - change, v + change), np.clip(upper, v - change, v + change)

    def _explain(
        self, q: Array, v: Array, slope: Array, near: list[tuple[Reason, Near]], slack: Array
    ) -> list[Intervention]:
        """What holds the solution back; `slope` is the objective's gradient there."""
        limits, found = self._spec.applied, []
        room = np.minimum(limits.position_max - q, q - limits.position_min)
        held = np.abs(slope) > 1e-6
        for i in np.flatnonzero(held & (room < 0.02)):
            name = self._spec.joint_names[i]
            found.append(Intervention(InterventionAction.LIMIT, Reason.JOINT_POSITION, name, float(room[i])))
        for i in np.flatnonzero(held & (np.abs(v) > 0.999 * _SHARE * limits.velocity)):
            name = self._spec.joint_names[i]
            found.append(
                Intervention(InterventionAction.LIMIT, Reason.JOINT_VELOCITY, name, float(abs(v[i])))
            )
        for (reason, item), gap in zip(near, slack, strict=True):
            if gap < 1e-9:
                found.append(Intervention(InterventionAction.SLOWDOWN, reason, item.subject, item.margin))
        return found


def _approach_speed(room: Array, limits: JointLimits) -> Array:
    """Speed (n,) from which a jerk-limited stop fits into `room` (n,) [rad], with a fifth to spare.

    Solves v^2 / (2 a) + v a / (2 j) = room, the stop's length when it reaches its acceleration limit.
    """
    room = np.maximum(room, 0.0)
    a = 0.8 * limits.acceleration
    ramp = a**2 / (2.0 * limits.jerk)
    speed: Array = np.minimum(np.sqrt(ramp**2 + 2.0 * a * room) - ramp, _JOINT_DAMPER * room)
    return speed
