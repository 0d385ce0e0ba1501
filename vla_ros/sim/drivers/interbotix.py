"""interbotix_xs_sdk with Dynamixels behind it: operating mode, profile, torque, a goal that stays."""

from __future__ import annotations

import numpy as np

from vla_ros.robots.drivers.interbotix import DEFAULT_PROFILE, POSITION_MODE, Profile
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.latching import LatchingDriver
from vla_ros.types import Array


class InterbotixDouble(LatchingDriver):
    """What the servos make of their goals.

    There is no watchdog: the last goal stays.  With the driver's default, a time profile, every goal is
    reached within the profile's time counted from its arrival, so a stream drags seconds behind; with a
    velocity profile each servo follows within its velocity.  The profile's acceleration is not modelled.
    Without torque a real arm falls; here it stays where it is and takes no goal.
    """

    def __init__(self, spec: RobotSpec) -> None:
        """Modes as interbotix_xsarm_control launches them: position, time profile of 2 s."""
        super().__init__(spec)
        self.reset(spec.home)

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad], with the driver's default modes."""
        super().reset(positions)
        self.mode, self.profile, self.torque = POSITION_MODE, DEFAULT_PROFILE, True
        self.ignored = 0
        """Commands that came while the servos took none."""
        self._servo = np.array(positions, dtype=np.float64)
        self._time: float | None = None

    @property
    def following(self) -> bool:
        """Whether goals are followed at all."""
        return self.torque and self.mode == POSITION_MODE

    def set_modes(self, mode: str, profile: Profile) -> None:
        """Service set_operating_modes: torque off, mode and profile, torque on; the goal is the posture."""
        self.mode, self.profile = mode, profile
        self.set_torque(True)

    def set_torque(self, on: bool) -> None:
        """Service torque_enable; switched on, a servo's goal is where it stands."""
        self.torque = on
        self._from = self._goal = self._target = self._servo
        self._begin = -np.inf

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        goal = self._checked(positions)
        if not self.following:
            self.ignored += 1
            return
        self._from, self._goal, self._begin = self._servo, goal, time
        if not self.profile.timed:
            self._from = self._target
        self._time = time if self._time is None else self._time

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        seconds = self.profile.seconds
        if self.profile.timed and seconds > 0.0:
            share = min(1.0, max(0.0, (time - self._begin) / seconds))
            self._servo = self._goal if share >= 1.0 else self._from + share * (self._goal - self._from)
            self._target = self._servo
        else:
            wanted = super().tick(time)
            step = self.profile.speed * (0.0 if self._time is None else max(0.0, time - self._time))
            self._servo = self._servo + np.clip(wanted - self._servo, -step, step)
        self._time = time
        return self._servo
