"""A driver without teeth: whatever it is sent, it follows."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

DYNAMIXEL_VELOCITY = 131 * 0.229 * 2.0 * np.pi / 60.0
"""Velocity profile of the WidowX in streaming use: register 131 in units of 0.229 rpm [rad/s]."""


class Driver(Protocol):
    """Takes joint commands when they come and says at every instant where the servos should be."""

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad]."""
        ...

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        ...

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        ...


class LatchingDriver:
    """Goes linearly to the last command within one command period, then stays there."""

    def __init__(self, spec: RobotSpec) -> None:
        self._names = spec.joint_names
        self._period = 1.0 / min(spec.driver.command_rate, spec.simulated_control_rate)
        self.reset(spec.home)

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad]."""
        self._from = self._goal = self._target = np.array(positions, dtype=np.float64)
        self._begin = -np.inf

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        goal = self._checked(positions)
        self._from, self._goal, self._begin = self._target, goal, time

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        share = min(1.0, (time - self._begin) / self._period)
        self._target = self._goal if share >= 1.0 else self._from + share * (self._goal - self._from)
        return self._target

    def _checked(self, positions: Array) -> Array:
        """A copy of the command.  Raises `ActionError` when it is malformed."""
        goal = np.array(positions, dtype=np.float64)
        if goal.shape != (len(self._names),):
            raise ActionError(f"A joint command has {goal.size} values; the driver takes {len(self._names)}.")
        if not np.all(np.isfinite(goal)):
            raise ActionError(
                f"A joint command for {self._names[int(np.argmin(np.isfinite(goal)))]} is not a number."
            )
        return goal


class SpeedLimitedDriver(LatchingDriver):
    """Servos that keep their goal and limit their own velocity, as Dynamixels with a velocity profile."""

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad]."""
        super().reset(positions)
        self._profile = self._target
        self._time: float | None = None

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        super().command(positions, time)
        self._time = time if self._time is None else self._time

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        wanted = super().tick(time)
        step = DYNAMIXEL_VELOCITY * (0.0 if self._time is None else max(0.0, time - self._time))
        self._time = time
        self._profile = self._profile + np.clip(wanted - self._profile, -step, step)
        return self._profile
