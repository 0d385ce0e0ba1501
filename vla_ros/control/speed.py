"""Limits of tool speed, turning speed and elbow speed: motions made to keep them, and whether they do."""

from __future__ import annotations

import numpy as np
import pinocchio as pin

from vla_ros.control.motion import JointMotion, Stop, gentle
from vla_ros.kernels import motion as kernels
from vla_ros.kernels import speed
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.reach import lever_arms
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, Reason

_PACED = 0.97
"""Share of the limits that a followed motion is slowed to, so that its stop, on which joints brake at
different rates, keeps the whole."""
_AHEAD = 0.04
"""Seconds ahead at which the posture of a motion is looked at as well: what slowing down takes."""
_SPACING = 0.006
"""Longest time between two looks at a stop [s]; what lies between them is bounded, not neglected."""


class SpeedLimits:
    """Of the tool centre point, its orientation and the elbow of one robot."""

    def __init__(self, spec: RobotSpec, kinematics: Kinematics, period: float) -> None:
        """Limits of `spec.tcp`, that of the tool for the elbow too; `period` is the tick [s]."""
        model = kinematics.model
        self._chain, self._ends = chain_of(model), _ends(model, spec)
        levers = [lever_arms(model, spec.tcp_frame), np.ones(spec.dof), lever_arms(model, spec.elbow_frame)]
        # of a product of motions the outermost lever counts: never shorter towards the base
        self._levers = np.maximum.accumulate(np.array(levers)[:, ::-1], axis=1)[:, ::-1].copy()
        self._limits = np.array([spec.tcp.speed, spec.tcp.angular_speed, spec.tcp.speed])
        self._jerk, self._gentle = spec.applied.jerk, gentle(spec.applied)
        self._subjects = ("tcp", "tcp", spec.elbow_frame)
        self._period = period

    def paced(self, proposal: JointMotion, present: JointMotion, found: list[Intervention]) -> JointMotion:
        """The proposal, or, where it leads to more than the limits, a motion towards slower velocities.

        All joints are slowed by one factor, so that the tool stays on its way, with the jerk of the tracker.

        Args:
            proposal: motion one tick after `present`.
            present: commanded now.
            found: takes the intervention.
        """
        gentle = self._gentle
        which, share, velocities = speed.foreseen(
            self._chain, self._ends, proposal.positions, proposal.velocities, proposal.accelerations,
            gentle.jerk, self._limits, _AHEAD,
        )  # fmt: skip
        if share <= _PACED:
            return proposal
        goal = velocities * (_PACED / share)
        plan = kernels.plan_stop(
            present.positions, present.velocities - goal, present.accelerations,
            gentle.acceleration, gentle.jerk,
        )
        p, v, a = kernels.stop_at(plan, self._period)
        excess = (share - _PACED) * float(self._limits[int(which)])
        found.append(self._intervention(InterventionAction.LIMIT, which, excess))
        return JointMotion(p + goal * self._period, v + goal, a)

    def objection(self, proposal: JointMotion, stop: Stop, present: JointMotion) -> Intervention | None:
        """None when the tick to the proposal and its whole stop keep the limits.

        Exact at the tick (its mean speed, which is what anybody who looks at the commands can measure, and
        the speed at its end) and, by a bound on what lies between two looks, at every instant of the stop.
        """
        which, fastest = speed.speeding(
            self._chain, self._ends, self._levers, present.positions, stop.plan, self._jerk, self._limits,
            self._period, _SPACING,
        )  # fmt: skip
        return None if which < 0.0 else self._intervention(InterventionAction.STOP, which, fastest)

    def _intervention(self, action: InterventionAction, which: float, amount: float) -> Intervention:
        reason = Reason.ELBOW_SPEED if which == 2.0 else Reason.TCP_SPEED
        return Intervention(action, reason, self._subjects[int(which)], amount)


def chain_of(model: pin.Model) -> Array:
    """(n, 16) description of a model's joints, as `vla_ros.kernels.speed` takes it."""
    data, rows = model.createData(), []
    for index in range(1, model.njoints):
        placement = model.jointPlacements[index]
        # the joint's own column of its Jacobian, in its own frame, is its axis
        own = pin.computeJointJacobian(model, data, pin.neutral(model), index)[:, model.joints[index].idx_v]
        slides = float(np.abs(own[3:]).max() < 0.5)
        axis = own[:3] if slides else own[3:]
        rows.append([*placement.rotation.ravel(), *placement.translation, *axis, slides])
    return np.array(rows)


def _ends(model: pin.Model, spec: RobotSpec) -> Array:
    """(2, 4) joint and place in its frame of tool and elbow."""
    frames = [model.frames[model.getFrameId(name)] for name in (spec.tcp_frame, spec.elbow_frame)]
    return np.array([[frame.parentJoint - 1, *frame.placement.translation] for frame in frames])
