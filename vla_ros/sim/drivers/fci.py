"""The checks of the Franka Control Interface on commanded joint positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.kernels.discontinuity import ACCELERATION, FINE, JERK, POSITION, VELOCITY, first_broken, followed
from vla_ros.robots.spec import JointLimits
from vla_ros.types import Array

COMMUNICATION = "communication_constraints_violation"
ERRORS = {
    POSITION: "joint_motion_generator_position_limits_violation",
    VELOCITY: "joint_motion_generator_velocity_limits_violation",
    ACCELERATION: "joint_motion_generator_velocity_discontinuity",
    JERK: "joint_motion_generator_acceleration_discontinuity",
}
"""Names of libfranka's `franka::Errors` (include/franka/errors.h).  Too high an acceleration is called a
discontinuity of the velocity, too high a jerk one of the acceleration (FCI documentation, "Errors due to
noncompliant commanded values")."""


@dataclass(frozen=True)
class Reflex:
    """A command that FCI would not take."""

    index: int
    """Row of the command in the recording."""
    error: str
    """Name of the error in `franka::Errors`."""
    joint: int


class FciCheck:
    """Looks at one command after the other, as the robot does at 1 kHz.

    Velocity, acceleration and jerk are backward differences over the nominal period between commands, not
    over the time of their arrival.  What the robot checks is its own secret in detail; the maker publishes
    the limits and that they hold between consecutive commands.  The limits are those of the joints: for a
    motion commanded in joint space the interface does not check the Cartesian ones.
    """

    def __init__(self, limits: JointLimits, period: float) -> None:
        """`limits`: the maker's (`spec.published`); `period`: between two commands [s]."""
        self._limits = (
            *(limits.position_min, limits.position_max),
            *(limits.velocity, np.ascontiguousarray(limits.fades), limits.acceleration, limits.jerk),
        )
        self._period = period
        self._state = np.zeros((3, len(limits.velocity)))
        self._unknown = 0
        self.joint = 0
        """Index of the joint of the last error."""

    def start(self, positions: Array) -> None:
        """The robot rests at the commanded positions (n,) [rad]."""
        self._state = np.stack([positions, np.zeros_like(positions), np.zeros_like(positions)])
        self._unknown = 0

    def hole(self) -> None:
        """Commands were lost: what the robot was told in between, and so the next differences, is unknown."""
        self._unknown = 3

    def check(self, positions: Array) -> str | None:
        """Name of the error that a command (n,) [rad] trips; None, and remembered, when it is fine."""
        code, joint, self._state = followed(self._state, positions, *self._limits, self._period)
        if self._unknown and code != POSITION:
            # with three commands unknown only the position can be judged, with one everything but the jerk
            known = code == FINE or code + self._unknown < JERK + 1.0
            if known and code != FINE:
                self.joint = int(joint)
                return ERRORS[code]
            self._advance(positions, code)
            return None
        if code == FINE:
            return None
        self.joint = int(joint)
        return ERRORS[code]

    def _advance(self, positions: Array, code: float) -> None:
        """Take a command after a hole over, with the differences that are known."""
        self._unknown -= 1
        if code == FINE:
            return
        p, v, _ = self._state
        velocity = (positions - p) / self._period if self._unknown < 2 else np.zeros_like(p)
        acceleration = (velocity - v) / self._period if self._unknown < 1 else np.zeros_like(p)
        self._state = np.stack([positions, velocity, acceleration])

    def velocities(self) -> Array:
        """(n,) velocity of the last command that was fine [rad/s]."""
        return self._state[1]

    def accelerations(self) -> Array:
        """(n,) acceleration of the last command that was fine [rad/s^2]."""
        return self._state[2]

    @property
    def halts(self) -> bool:
        """Whether the last command, repeated once more, would be within the limits: the robot may stand."""
        return followed(self._state, self._state[0], *self._limits, self._period)[0] == FINE


def first_reflex(
    positions: Array, limits: JointLimits, period: float, rests: Sequence[int] = ()
) -> Reflex | None:
    """The first command of a recording (N, n) [rad] that would trip a reflex; None when none does.

    Args:
        positions: one command a row, none missing.
        limits: the maker's (`spec.published`).
        period: between two commands [s].
        rests: rows before which the robot came to rest at the row's own position, beside the first: after
            activation, or a reset that took the measured posture over.
    """
    if len(positions) == 0:
        return None
    rows = np.array(sorted(rests), dtype=np.int64)
    index, code, joint = first_broken(
        np.ascontiguousarray(positions, dtype=np.float64), rows, limits.position_min, limits.position_max,
        limits.velocity, np.ascontiguousarray(limits.fades), limits.acceleration, limits.jerk, period,
    )  # fmt: skip
    return None if index < 0.0 else Reflex(int(index), ERRORS[code], int(joint))
