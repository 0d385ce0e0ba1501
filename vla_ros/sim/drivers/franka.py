"""franka_ros2 with a Franka behind it: commands at the grid, the reflex, and the way out of it."""

from __future__ import annotations

import numpy as np

from vla_ros.kernels.discontinuity import POSITION
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.braking import Braking
from vla_ros.sim.drivers.fci import COMMUNICATION, ERRORS, FciCheck
from vla_ros.sim.drivers.latching import LatchingDriver
from vla_ros.types import Array

PACKETS = 20
"""So many packets of a millisecond missed in a row end the motion (FCI)."""
PACKET = 0.001
_SLACK = 1.5
"""Periods after which a command is late."""


class FrankaDouble(LatchingDriver):
    """What a Franka makes of joint position commands through ros2_control.

    The hardware interface of franka_ros2 sends the last command to the robot every millisecond, whether a new
    one has come or not, without rate limiter or low-pass filter (franka_hardware, robot.hpp: both are off for
    joint positions).  So the robot never misses a packet because a ROS node fell silent: it is told to stand
    still at once, which at any speed above acceleration limit x period is a discontinuity of the velocity.
    A robot that stands may be left without commands for ever.  Packets are missed when the process of the
    hardware interface or the network stalls (`lose_packets`); the robot then goes on with constant
    acceleration (libfranka, rate_limiting.h) and gives up after 20.

    The hardware interface starts the motion itself, at the measured posture, and repeats that until the first
    command comes.  So a first command elsewhere is a discontinuity like any other, not an invalid start pose.

    The real grid is 1 kHz.  Here it is the period of the simulated controller, so that 250 Hz commands are
    judged by what they are; between two commands the target moves linearly.

    After a reflex the hardware component is unconfigured and the controller inactive (franka_ros2 from 2.4
    and 3.3 on); the way back is error recovery, hardware active, controller active, in this order.
    """

    def __init__(self, spec: RobotSpec, patience: float) -> None:
        """`patience` 1 is the robot's own; each more gives a silent controller and lost packets 20 ms."""
        super().__init__(spec)
        self._names, self._limits, self._patience = spec.joint_names, spec.published, max(1.0, patience)
        self._check = FciCheck(spec.published, self._period)
        self._silence = _SLACK * self._period + (self._patience - 1.0) * PACKETS * PACKET
        self.reset(spec.home)

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad], ready for commands."""
        super().reset(positions)
        self.error = ""
        """Name of the present error in `franka::Errors`."""
        self.last_error = ""
        self.subject = ""
        """The joint that tripped, when it was one."""
        self.hardware_active = self.controller_active = True
        self.ignored = 0
        """Commands that came while nothing listened."""
        self._braking: Braking | None = None
        self._lost_until = -np.inf
        self._lost_at = 0.0
        self._first = True

    @property
    def following(self) -> bool:
        """Whether commands reach the robot."""
        return self.hardware_active and self.controller_active and not self.error

    # -- what the controller does

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        # of values that are not finite libfranka throws before anything is sent: refused, nothing changes
        goal = self._checked(positions)
        if not self.following or time < self._lost_until:
            self.ignored += 1
            return
        if self._first:
            self._check.start(self._target)
            self._first = False
        error = self._check.check(goal)
        if error is not None and self._forgiven(goal, time, error):
            error = None
        if error is not None:
            self.trip(error, time, self._check.joint)
            return
        self._from, self._goal, self._begin = self._target, goal, time

    def _forgiven(self, goal: Array, time: float, error: str) -> bool:
        """With patience, a late command may follow one that was lost on the way here."""
        periods = (time - self._begin) / self._period
        lost = self._patience > 1.0 and periods > _SLACK and error != ERRORS[POSITION]
        # of a robot at rest nothing can have been lost that matters: the first command must follow on
        if not lost or self._check.halts:
            return False
        reach = self._limits.velocity * min(periods + 1.0, self._patience) * self._period
        if not (np.abs(goal - self._goal) <= reach).all():
            return False
        self._check.hole()
        return self._check.check(goal) is None

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        if self._braking is not None:
            self._target = self._braking.at(time)
            return self._target
        if self.following and not self._first:
            if time < self._lost_until:
                if time - self._lost_at > self._patience * PACKETS * PACKET - 1e-9:
                    self.trip(COMMUNICATION, time)
                    return self._target
                lost = time - self._lost_at
                self._target = self._lost_from + lost * (self._lost_velocity + 0.5 * lost * self._lost_change)
                self._from = self._goal = self._target
                self._begin = time
                return self._target
            if time - self._begin > self._silence and not self._check.halts:
                self.trip("joint_motion_generator_velocity_discontinuity", time)
                return self._target
        return super().tick(time)

    # -- what happens to it

    def lose_packets(self, count: int, time: float) -> None:
        """The next `count` packets of a millisecond do not reach the robot."""
        self._lost_from, self._lost_velocity = self._target, self._velocities(time)
        self._lost_change = self._check.accelerations() if self._lost_velocity.any() else self._lost_velocity
        self._lost_at, self._lost_until = time, time + count * PACKET
        # the robot went on; where exactly the commands begin again is not held against them
        self._check.hole()

    def trip(self, error: str, time: float, joint: int | None = None) -> None:
        """A reflex: the robot brakes and takes no command until it is recovered."""
        self._braking = Braking(self._target, self._velocities(time), self._limits.acceleration, time)
        self.error = self.last_error = error
        self.subject = "" if joint is None else self._names[joint]
        self.hardware_active = self.controller_active = False

    def _velocities(self, time: float) -> Array:
        """Of the target (n,) [rad/s]: the commands' own, zero when the last one has long been reached."""
        moving = not self._first and time - self._begin <= _SLACK * self._period
        return self._check.velocities() if moving else np.zeros(len(self._names))

    # -- the way back

    def recover(self, time: float) -> tuple[bool, str]:
        """Action error_recovery: clears the error of a robot that has come to rest."""
        if self._braking is not None and time < self._braking.end:
            return False, "the robot is still braking"
        self.error = ""
        return True, ""

    def set_hardware(self, active: bool) -> bool:
        """The state of the hardware component; active only without an error."""
        if active and self.error:
            return False
        self.hardware_active = active
        self.controller_active = self.controller_active and active
        return True

    def set_controller(self, active: bool, measured: Array) -> bool:
        """Activate the controller at the measured posture (n,) [rad], or deactivate it."""
        if active and not self.hardware_active:
            return False
        if active and not self.controller_active:
            super().reset(measured)
            self._braking, self._first, self._lost_until = None, True, -np.inf
        self.controller_active = active
        return True
