"""From a reference to a motion that may be commanded: inverse kinematics, tracking, torque, shield."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.control.barriers import Barrier
from vla_ros.control.cartesian import CartesianTracker
from vla_ros.control.ik import InverseKinematics, Solution
from vla_ros.control.load import TorqueLimit
from vla_ros.control.motion import JointMotion, Tracker, gentle
from vla_ros.control.shield import RefusalRate, Shield
from vla_ros.control.speed import SpeedLimits
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, Reason

_BLOCKED_SECONDS = 0.1
"""Refused by the shield at rest for this long, the joint reference starts again from the command."""
_UNREACHED, _UNREACHED_SECONDS = 0.02, 0.5
"""A resting reference this far [m] from what the joints reach is given up after this long."""


class Pipeline:
    """Follows an executor's reference, tick by tick; `shield.motion` is what is commanded."""

    def __init__(
        self, spec: RobotSpec, kinematics: Kinematics, barriers: Sequence[Barrier], period: float
    ) -> None:
        """`period` is the tick [s]."""
        self._kinematics = kinematics
        self.ik = InverseKinematics(spec, kinematics, barriers, period)
        self.tracker = Tracker(gentle(spec.applied), period)
        self.torque = TorqueLimit(spec, kinematics)
        self.speeds = SpeedLimits(spec, kinematics, period)
        self.shield = Shield(spec, barriers, self.speeds, period)
        self.cartesian = CartesianTracker(spec.tcp, kinematics.forward(spec.home), period)
        self._refusals = RefusalRate(period)
        self._followed = 0.0
        self._residual_since = -np.inf
        self.refused_too_often = False
        """Whether the shield refuses so much that what drives the robot cannot be trusted."""

    def anchor(self, positions: Array, width: float, time: float) -> None:
        """Everything rests at `positions` (n,) [rad], the gripper at `width` [m], from `time` [s] on."""
        self.shield.anchor(JointMotion.at_rest(positions), width)
        self.ik.anchor(positions)
        self.cartesian.anchor(self._kinematics.forward(positions))
        self._refusals.clear()
        self.refused_too_often = False
        self._followed, self._residual_since = time, -np.inf

    def step(
        self, executor: ChunkExecutor, time: float, width: float, ease: float, found: list[Intervention]
    ) -> None:
        """One tick of `shield.motion` towards the executor's reference.

        Args:
            executor: of the reference at `time`.
            time: of the controller [s].
            width: gripper opening [m].
            ease: share of the speed limits to use, 0 to 1.
            found: takes the interventions.
        """
        command = self.shield.motion
        self.ik.width = width
        if executor.joint_mode:
            solution = self.ik.follow_joints(executor.sample_joints(time), command, ease)
        else:
            solution = self.ik.follow_pose(self.cartesian.step(executor.sample(time)), command, ease)
            self._watch_residual(solution, executor, time, found)
        found += solution.interventions
        reference = solution.motion
        proposal = self.tracker.step(
            command, reference.positions, reference.velocities, reference.accelerations
        )
        if proposal is not None:
            proposal = self.speeds.paced(proposal, command, found)
        heavy = None if proposal is None else self.torque.refusal(proposal, command)
        if heavy is not None:
            found.append(heavy)
            proposal = None
        verdict = self.shield.judge(proposal, width)
        self.refused_too_often = self._refusals.exceeded(verdict.refused is not None)
        if verdict.refused is None:
            self._followed = time
            return
        found.append(heavy or verdict.refused)
        if verdict.motion.resting and time - self._followed > _BLOCKED_SECONDS:
            # the reference waits for a command that can never come: begin again from where the robot is
            self.ik.anchor(verdict.motion.positions)
            self.cartesian.anchor(self._kinematics.forward(verdict.motion.positions))
            self._followed = time

    def rest_at_reference(self, executor: ChunkExecutor) -> None:
        """The Cartesian reference starts again, at rest, where the joint reference is."""
        pose = self._kinematics.forward(self.ik.reference.positions)
        self.cartesian.anchor(pose)
        executor.rest_at(pose)

    def _watch_residual(
        self, solution: Solution, executor: ChunkExecutor, time: float, found: list[Intervention]
    ) -> None:
        """A resting reference out of reach is given up."""
        if solution.residual < _UNREACHED or time < executor.end_time:
            self._residual_since = time
        elif time - self._residual_since > _UNREACHED_SECONDS:
            found.append(Intervention(InterventionAction.HOLD, Reason.UNREACHABLE, "tcp", solution.residual))
            self.rest_at_reference(executor)
