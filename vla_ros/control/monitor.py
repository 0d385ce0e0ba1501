"""What the measured joints say about the robot and its driver."""

from __future__ import annotations

import math

import numpy as np

from vla_ros.kernels.motion import furthest, jump
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, Intervention, InterventionAction, JointState, Reason

_STALE_PERIODS, _STALE_LEAST = 5.0, 0.1
"""Joint states older than five of their periods, at least 0.1 s, hold the robot."""
_LOST = 0.5
"""Older than this [s] they stop it for good."""
_TRACKING = 0.15
"""Largest distance of a measured joint from its command [rad]; the joint trajectory controller allows 0.2."""
_JUMP_SLACK = 0.05
"""What a joint may move beyond twice the maker's velocity limit between two states [rad]."""
_RESTING = 0.02
"""Speed below which a robot counts as at rest [rad/s]."""


_STEADY, _STEADY_SECONDS = 0.01, 0.2
"""Joints that stayed within so much [rad] for so long [s] can be believed to be where they are said to be."""


class Steadiness:
    """For how long the measured joints have stayed where they are."""

    def __init__(self, spec: RobotSpec, period: float) -> None:
        """`period` is the tick [s]."""
        self._needed = round(_STEADY_SECONDS * min(spec.driver.joint_state_rate, 1.0 / period))
        self.clear()

    def clear(self) -> None:
        """Forget what was measured."""
        self._anchor: Array | None = None
        self._newest: JointState | None = None
        self._states = 0

    def look(self, measured: JointState | None) -> None:
        """One tick; what is not measured anew does not count."""
        if measured is None or measured is self._newest:
            return
        self._newest = measured
        if self._anchor is None or not furthest(measured.positions, self._anchor)[1] <= _STEADY:
            self._anchor, self._states = measured.positions, 0
        else:
            self._states += 1

    @property
    def steady(self) -> bool:
        """Whether a motion may begin from the newest positions."""
        return self._states >= self._needed


class MeasurementMonitor:
    """Looks at the newest joint state every tick."""

    def __init__(self, spec: RobotSpec, period: float) -> None:
        """`period` is the tick [s]."""
        self._spec = spec
        self._stale = max(_STALE_PERIODS / min(spec.driver.joint_state_rate, 1.0 / period), _STALE_LEAST)
        self._fastest = 2.0 * spec.published.velocity
        self._previous: JointState | None = None

    def clear(self) -> None:
        """Forget the last joint state (activation, reset)."""
        self._previous = None

    def stale(self, age: float) -> bool:
        """Whether a joint state received `age` [s] ago says nothing of the robot any more."""
        return age > self._stale

    def resting(self, measured: JointState) -> bool:
        """Whether the robot stands still, as far as the driver reports velocities."""
        return len(measured.velocities) == 0 or float(np.abs(measured.velocities).max()) < _RESTING

    def look(
        self, measured: JointState | None, age: float, commanded: np.ndarray
    ) -> tuple[Intervention, str] | None:
        """The worst thing about the measurement, with one plain sentence; None when all is well.

        Args:
            measured: newest joint state; None: never any.
            age: seconds since it was received.
            commanded: positions commanded now (n,) [rad].
        """
        if measured is None or age > _LOST:
            what = (
                "no joint state has come" if measured is None else f"the last joint state is {age:.2f} s old"
            )
            return self._finding(InterventionAction.STOP, Reason.STALE_JOINT_STATE, "", age, what)
        if not math.isfinite(float(measured.positions @ measured.positions)):
            return self._finding(
                InterventionAction.STOP,
                Reason.NOT_FINITE,
                "joint_states",
                0.0,
                "a measured joint is not finite",
            )
        jump = self._jump(measured)
        if jump is not None:
            return jump
        joint, error = furthest(measured.positions, commanded)
        if error > _TRACKING:
            name = self._spec.joint_names[int(joint)]
            return self._finding(
                InterventionAction.STOP, Reason.TRACKING_ERROR, name, error,
                f"joint {name} is {error:.3f} rad from its command, allowed are {_TRACKING} rad",
            )  # fmt: skip
        if age > self._stale:
            return self._finding(
                InterventionAction.HOLD,
                Reason.STALE_JOINT_STATE,
                "",
                age,
                f"joint states are {age:.2f} s old",
            )
        return None

    def _jump(self, measured: JointState) -> tuple[Intervention, str] | None:
        previous, self._previous = self._previous, measured
        if previous is None or measured is previous:
            return None
        elapsed = max((measured.stamp - previous.stamp) / NANOSECONDS, 0.0)
        joint, change, excess = jump(
            measured.positions, previous.positions, self._fastest, elapsed, _JUMP_SLACK
        )
        if excess <= 0.0:
            return None
        name = self._spec.joint_names[int(joint)]
        return self._finding(
            InterventionAction.STOP, Reason.JOINT_STATE_JUMP, name, change,
            f"measured joint {name} jumped by {change:.3f} rad within {elapsed:.3f} s",
        )  # fmt: skip

    @staticmethod
    def _finding(
        action: InterventionAction, reason: Reason, subject: str, amount: float, sentence: str
    ) -> tuple[Intervention, str]:
        return Intervention(action, reason, subject, amount), sentence
