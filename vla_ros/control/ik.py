"""Inverse kinematics as a small quadratic programme: the joint reference that follows the Cartesian one.

At every tick the joint velocities v minimise
    |J v - (twist + K error)|^2_W + damping |v|^2 + posture |v - k (home - q)|^2
within a box (velocity, acceleration, braking distance to the joint limits) and one row for every barrier that
is near: gradient . v >= -k (margin), the velocity damper of Faverjon and Tournassoud (ICRA 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import daqp
import numpy as np
from numpy.typing import NDArray

from vla_ros.control.barriers import Barrier
from vla_ros.control.motion import JointMotion
from vla_ros.execution.reference import CartesianSample
from vla_ros.execution.spline import CurveState
from vla_ros.kernels import tool
from vla_ros.kernels.motion import furthest
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, Reason

_GAIN = 12.0
"""Error feedback [1/s]: the joint reference closes a Cartesian error with this rate."""
_ANGULAR_WEIGHT = 0.3
"""Metres an orientation error of one radian weighs."""
_DAMPING, _SINGULAR = 1e-4, 0.04
"""Least damping, and the smallest singular value below which it grows and the tool slows down."""
_MAX_DAMPING, _SLOWEST = 0.05, 0.2
"""What the damping grows by in a singularity, and the share of the wanted speed that is left there."""
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
"""Share of the limits (joints, tool, elbow) the reference may use; the rest lets the tracker catch up."""
_NAMED = 0.02
"""Room to a joint limit [rad] below which the limit is named as what holds the reference back."""
_TOLERANCE = 1.001
"""Of the tool's speed, which a Cartesian reference keeps by itself up to rounding."""
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
        n = spec.dof
        self._zero, self._no_rows, self._sense = np.zeros(n), np.zeros((0, n)), np.zeros(n, dtype=np.int32)
        self._unit, self._fades = np.eye(n), spec.applied.fades
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
        position, quaternion, jacobian = self._kinematics.pose_and_jacobian(q)
        share, limits = ease * self._patience(command), self._spec.tcp
        fastest = _SHARE * limits.speed * share
        twist, factor, speed, distance = tool.followed(
            wanted.pose.position, wanted.pose.quaternion, wanted.twist, position, quaternion,
            _GAIN, _STILL, _AT_REST, fastest, _SHARE * limits.angular_speed * share,
        )  # fmt: skip
        interventions: list[Intervention] = []
        if factor < 0.999:
            excess = max(speed - fastest, 0.0)
            interventions.append(Intervention(InterventionAction.LIMIT, Reason.TCP_SPEED, "tcp", excess))
        hessian, gradient, smallest = tool.objective(
            jacobian, self._weight, twist, q, self._spec.home,
            _DAMPING, _MAX_DAMPING, _SINGULAR, _SLOWEST, _POSTURE, _POSTURE_GAIN, _POSTURE_TWIST,
        )  # fmt: skip
        if smallest < _SINGULAR:
            interventions.append(Intervention(InterventionAction.SLOWDOWN, Reason.SINGULARITY, "", smallest))
        return self._solve(hessian, gradient, jacobian, ease, interventions, distance)

    def follow_joints(self, wanted: CurveState, command: JointMotion, ease: float) -> Solution:
        """Move the joint reference towards a joint-space one; arguments as `follow_pose`."""
        error = wanted.position - self.reference.positions
        if np.abs(wanted.velocity).max() < _STILL and np.abs(error).max() < _AT_REST:
            error = np.zeros_like(error)
        velocity = (wanted.velocity + _GAIN * error) * min(1.0, ease * self._patience(command))
        _, _, jacobian = self._kinematics.pose_and_jacobian(self.reference.positions)
        return self._solve(self._unit, -velocity, jacobian, ease, [], 0.0)

    def _patience(self, command: JointMotion) -> float:
        """1 while the command keeps up with the joint reference, down to 0 when it lags by `_LAG`."""
        _, lag = furthest(self.reference.positions, command.positions)
        return min(max(2.0 * (1.0 - lag / _LAG), 0.0), 1.0)

    def _solve(
        self, hessian: Array, gradient: Array, jacobian: Array, ease: float,
        interventions: list[Intervention], residual: float,
    ) -> Solution:  # fmt: skip
        q, v, limits = self.reference.positions, self.reference.velocities, self._spec.applied
        box = tool.velocity_box(
            q, v, limits.position_min, limits.position_max, limits.velocity, self._fades, limits.acceleration,
            limits.jerk, _SHARE, max(ease, 0.05), _JOINT_DAMPER, self._period,
        )  # fmt: skip
        near = [(barrier.reason, item) for barrier in self._barriers for item in barrier.near(q, self.width)]
        rows, lower, upper, sense = self._no_rows, box[0], box[1], self._sense
        if near:
            rows = np.array([item.gradient for _, item in near])
            # a margin already overrun is not made worse; nothing is moved back that nobody asked to move
            bounds = np.array([-_DAMPER * max(item.margin - _CLEARANCE, 0.0) for _, item in near])
            lower = np.concatenate([lower, bounds])
            upper = np.concatenate([upper, np.full(len(near), 1e30)])
            sense = np.zeros(len(lower), dtype=np.int32)
        solution, _, flag, _ = daqp.solve(hessian, gradient, rows, upper, lower, sense)
        if flag < 1 or not math.isfinite(float(solution @ solution)):
            # no velocity satisfies all rows at once: brake as hard as the box allows
            solution = np.zeros(len(q))
            interventions.append(Intervention(InterventionAction.SLOWDOWN, Reason.SOLVER, "", float(flag)))
        solution = self._paced(solution, q, jacobian, max(ease, 0.05), interventions)
        state, held, some = tool.advance(
            q, v, solution, hessian, gradient, box,
            limits.position_min, limits.position_max, limits.velocity, _SHARE, _NAMED, self._period,
        )  # fmt: skip
        if some:
            interventions += self._explain(q, state[1], held)
        if near:
            slack = rows @ state[1] - bounds
            interventions += [
                Intervention(InterventionAction.SLOWDOWN, reason, item.subject, item.margin)
                for (reason, item), gap in zip(near, slack.tolist(), strict=True)
                if gap < 1e-9
            ]
        self.reference = JointMotion(state[0], state[1], self._zero)
        return Solution(JointMotion(q, v, state[2]), interventions, residual)

    def _paced(
        self, v: Array, q: Array, jacobian: Array, ease: float, interventions: list[Intervention]
    ) -> Array:
        """Velocities (n,) slowed until tool and elbow keep the speed limits, in joint motions too."""
        limits, elbow = self._spec.tcp, self._kinematics.elbow_jacobian(q)
        speed, turn = _SHARE * ease * limits.speed, _SHARE * ease * limits.angular_speed
        paced, tool_excess, elbow_excess = tool.paced(
            jacobian, elbow, v, _TOLERANCE * speed, _TOLERANCE * turn, speed
        )
        if tool_excess > 0.0:
            interventions.append(Intervention(InterventionAction.LIMIT, Reason.TCP_SPEED, "tcp", tool_excess))
        if elbow_excess > 0.0:
            interventions.append(
                Intervention(
                    InterventionAction.LIMIT, Reason.ELBOW_SPEED, self._spec.elbow_frame, elbow_excess
                )
            )
        return paced

    def _explain(self, q: Array, v: Array, held: NDArray[np.int64]) -> list[Intervention]:
        """Which joints' limits hold the solution back."""
        limits, found = self._spec.applied, []
        room = np.minimum(limits.position_max - q, q - limits.position_min)
        for i in np.flatnonzero(held):
            name = self._spec.joint_names[i]
            if held[i] & 1:
                found.append(
                    Intervention(InterventionAction.LIMIT, Reason.JOINT_POSITION, name, float(room[i]))
                )
            if held[i] & 2:
                found.append(
                    Intervention(InterventionAction.LIMIT, Reason.JOINT_VELOCITY, name, float(abs(v[i])))
                )
        return found
