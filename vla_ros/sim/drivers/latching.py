"""How each robot's driver turns the commands it is sent into what its servos follow."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.errors import ActionError, ConfigurationError
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
        goal = np.array(positions, dtype=np.float64)
        if goal.shape != (len(self._names),):
            raise ActionError(f"A joint command has {goal.size} values; the driver takes {len(self._names)}.")
        if not np.all(np.isfinite(goal)):
            raise ActionError(
                f"A joint command for {self._names[int(np.argmin(np.isfinite(goal)))]} is not a number."
            )
        self._from, self._goal, self._begin = self._target, goal, time

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        share = min(1.0, (time - self._begin) / self._period)
        self._target = self._goal if share >= 1.0 else self._from + share * (self._goal - self._from)
        return self._target


class FrankaDriver(LatchingDriver):
    """franka_ros2's forward_position_controller: the hardware interface repeats the last command at 1 kHz."""


class UrDriver(LatchingDriver):
    """The UR driver's forward_position_controller: servoj keeps following the last target it was given."""


class InterbotixDriver(LatchingDriver):
    """interbotix_xs_sdk: the servos keep their goal without any watchdog and limit their own velocity."""

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


_DRIVERS: dict[str, type[LatchingDriver]] = {
    "franka_ros2": FrankaDriver,
    "ur_robot_driver": UrDriver,
    "interbotix": InterbotixDriver,
}


def make_driver(spec: RobotSpec) -> Driver:
    """The driver behaviour of a robot.  Raises `ConfigurationError` for a kind that is not simulated."""
    if spec.driver.kind not in _DRIVERS:
        raise ConfigurationError(
            f"The driver kind '{spec.driver.kind}' in {spec.yaml_path} is not simulated; "
            f"known are {', '.join(_DRIVERS)}."
        )
    return _DRIVERS[spec.driver.kind](spec)
