"""The shield: at every tick a stop from the next state must exist inside all limits, or the stored stop runs.

Invariant: the controller holds a jerk-limited stop from the present commanded motion whose positions keep the
joint limits and whose path keeps every barrier.
Each tick proposes a next motion.  If its own stop keeps everything, it is accepted and its stop is stored;
otherwise the stored stop is followed for this tick, and what remains of it is the stop of the new state.
Either way the invariant holds again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.control.barriers import Barrier
from vla_ros.control.motion import JointMotion, Stop
from vla_ros.control.speed import SpeedLimits
from vla_ros.kernels import motion as kernels
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, Reason

_STEP = 0.012
"""Shortest time between checked samples of a stop [s].  Between two of them a margin leaves the straight line
by at most its second derivative times step^2 / 8: below 0.6 mm at 30 m/s^2, more than these arms may have."""
_MARGIN = 0.001
"""Margins at the samples must exceed this, which covers what lies between them [m]."""
_ROUNDING = 1e-9
_FAILING = {1: Reason.NOT_FINITE, 2: Reason.JOINT_VELOCITY, 3: Reason.JOINT_POSITION}


class RefusalRate:
    """Whether the shield refuses so often that what drives the robot cannot be trusted."""

    SECONDS, SHARE = 2.0, 0.2
    """Refusals of more than this share of the last so many seconds are too many."""

    def __init__(self, period: float) -> None:
        """`period` is the tick [s]."""
        self._refused = np.zeros(max(1, round(self.SECONDS / period)), dtype=bool)
        self.clear()

    def clear(self) -> None:
        """Forget all refusals."""
        self._refused[:] = False
        self._index = self._count = 0

    def exceeded(self, refused: bool) -> bool:
        """Count one tick."""
        size = len(self._refused)
        self._count += int(refused) - int(self._refused[self._index])
        self._refused[self._index] = refused
        self._index = (self._index + 1) % size
        return self._count > self.SHARE * size


@dataclass(frozen=True)
class Verdict:
    """The motion to command next and, when the proposal was refused, why."""

    motion: JointMotion
    refused: Intervention | None


class Shield:
    """Holds the stored stop."""

    def __init__(
        self, spec: RobotSpec, barriers: Sequence[Barrier], speeds: SpeedLimits, period: float
    ) -> None:
        """`period` is the tick [s]."""
        self._spec, self._barriers, self._speeds, self._period = spec, barriers, speeds, period
        self._fades = spec.applied.fades
        self.anchor(JointMotion.at_rest(spec.home), spec.gripper.max_width)

    def anchor(self, motion: JointMotion, width: float) -> None:
        """Start from a motion at rest; its stop is to stay where it is."""
        self.motion = motion
        self._stop: Stop | None = None
        self._stop_time = 0.0
        self.look_again(width)

    def look_again(self, width: float) -> None:
        """The barriers have changed: take the margins of now as those that nothing may make shorter."""
        self._margins = self._present_margins(self.motion.positions, width)

    def judge(self, proposal: JointMotion | None, width: float) -> Verdict:
        """Accept the proposed next motion or advance along the stored stop.

        Args:
            proposal: motion one tick after `self.motion`; None: none was found.
            width: gripper opening [m].
        """
        refused: Intervention | None
        if proposal is None:
            refused = Intervention(InterventionAction.STOP, Reason.SOLVER, "tracker")
        else:
            stop = Stop(proposal, self._spec.applied)
            refused = self._objection(proposal, stop, width)
            if refused is None:
                self.motion, self._stop, self._stop_time = proposal, stop, 0.0
                self._margins = self._checked
                return Verdict(proposal, None)
        return Verdict(self.follow_stop(width), refused)

    def follow_stop(self, width: float) -> JointMotion:
        """One tick along the stored stop."""
        if self._stop is not None:
            self._stop_time += self._period
            self.motion = self._stop.at(self._stop_time)
            if self._stop_time >= self._stop.duration:
                self._stop = None
            self.look_again(width)
        return self.motion

    def _present_margins(self, q: Array, width: float) -> list[Array]:
        return [barrier.margins(q, width) for barrier in self._barriers]

    def _objection(self, proposal: JointMotion, stop: Stop, width: float) -> Intervention | None:
        limits = self._spec.applied
        failing, index, amount, away = kernels.certified(
            proposal.positions, proposal.velocities, proposal.accelerations, stop.plan, self.motion.positions,
            limits.position_min, limits.position_max, limits.velocity, self._fades, limits.jerk, _ROUNDING,
        )  # fmt: skip
        if failing:
            reason = _FAILING[int(failing)]
            name = "proposal" if reason is Reason.NOT_FINITE else self._spec.joint_names[int(index)]
            return Intervention(InterventionAction.STOP, reason, name, amount)
        too_fast = self._speeds.objection(proposal, stop, self.motion)
        if too_fast is not None:
            return too_fast
        self._checked = self._present_margins(proposal.positions, width)
        for barrier, margins, present in zip(self._barriers, self._checked, self._margins, strict=True):
            # what is outside already (start, changed opening) may come back in, never go further out
            worst, short, clear = kernels.cleared(margins, present, barrier.reach, away, _MARGIN, _ROUNDING)
            objection = None
            if short > 0.0:
                objection = _short(barrier, int(worst), margins)
            elif not clear:
                # the bound by lever arms does not clear the whole stop at once: look at it in steps
                objection = self._along(barrier, stop, present, margins, width)
            if objection is not None:
                return objection
        return None

    def _along(
        self, barrier: Barrier, stop: Stop, present: Array, margins: Array, width: float
    ) -> Intervention | None:
        """Look at the stop in steps, each as long as the bound by lever arms allows."""
        asked = np.minimum(_MARGIN, present - _ROUNDING)
        steps, index = float(np.ceil(stop.duration / _STEP)), 0.0
        while True:
            index = kernels.next_look(stop.plan, stop.duration, steps, index, margins - asked, barrier.reach)
            if index > steps:
                return None
            positions = kernels.stop_at(stop.plan, stop.duration * index / steps)[0]
            margins = barrier.margins(positions, width)
            missing = asked - margins
            worst = int(missing.argmax())
            if not missing[worst] <= 0.0:
                return _short(barrier, worst, margins)


def _short(barrier: Barrier, worst: int, margins: Array) -> Intervention:
    return Intervention(
        InterventionAction.STOP, barrier.reason, barrier.subject(worst), float(margins[worst])
    )
