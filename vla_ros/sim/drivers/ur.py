"""ur_robot_driver with a UR behind it: extrapolation, the receive timeout, protective stop, program."""

from __future__ import annotations

import numpy as np

from vla_ros.robots.drivers.ur import RobotMode, SafetyMode
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.braking import Braking
from vla_ros.sim.drivers.latching import LatchingDriver
from vla_ros.types import Array

RECEIVE_TIMEOUT = 0.04
"""Default of `robot_receive_timeout` in ur_robot_driver [s]."""
STOPJ = 4.0
"""Deceleration of the external control program when commands stop coming [rad/s^2]."""
IGNORED_SPEED = 20.0
"""A command that asks for more than this is ignored by the program (JOINT_IGNORE_SPEED) [rad/s]."""
PROTECTIVE = 13.0
"""Mean deceleration of a UR5's base in a category 0 stop (maker's stopping times) [rad/s^2]."""
UNLOCK_AFTER = 5.0
"""A protective stop cannot be unlocked earlier (dashboard server) [s]."""


class UrDouble(LatchingDriver):
    """What the external control program makes of joint position commands.

    While commands are missing it goes on at the target's velocity for `robot_receive_timeout`, then stops
    with stopj and ends; the driver reports the program as not running, its controllers are deactivated, and
    nothing follows until the program is sent again.  Before the first command it waits for ever.  Commands
    are held against the grid of the controller's rate, not against the time of their arrival.

    Behind ros2_control the last command is repeated at the driver's own rate, so on the real robot the
    timeout is that of the driver's process and the network, and a silent controller means a target that
    stands.  Here a silent controller counts as a silent driver, which is the stricter of the two.

    The speed slider is reported and changes nothing: forward_position_controller ignores speed scaling.
    """

    def __init__(self, spec: RobotSpec, patience: float) -> None:
        """`patience` times the receive timeout passes before the program ends; it brakes at the real time."""
        super().__init__(spec)
        self._timeout = float(str(spec.driver.extra.get("robot_receive_timeout", RECEIVE_TIMEOUT)))
        self._patience, self._fastest = max(1.0, patience), spec.published.velocity
        self.reset(spec.home)

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad], the program running and waiting."""
        super().reset(positions)
        self.robot_mode, self.safety_mode = RobotMode.RUNNING, SafetyMode.NORMAL
        self.program_running = True
        self.speed_slider = 1.0
        self.ignored = 0
        """Commands that came while nothing listened, or that asked for an absurd speed."""
        self._braking: Braking | None = None
        self._first = True
        self._stopped_at = -np.inf
        self._velocity = np.zeros(len(positions))

    @property
    def following(self) -> bool:
        """Whether commands reach the robot."""
        return self.program_running and self.safety_mode is SafetyMode.NORMAL

    @property
    def controller_active(self) -> bool:
        """The driver's controller stopper deactivates the controllers while no program runs."""
        return self.program_running

    # -- what the controller does

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        goal = self._checked(positions)
        if not self.following:
            self.ignored += 1
            return
        before = self._target if self._first else self._goal
        speeds = np.abs(goal - before) / self._period
        if speeds.max() > IGNORED_SPEED:
            # the program also takes what is near the robot, so that an ignored stream can be caught up with
            if (np.abs(goal - self._target) / self._period).max() > IGNORED_SPEED:
                self.ignored += 1
                return
            before, speeds = self._target, np.abs(goal - self._target) / self._period
        late = 1.0 if self._patience <= 1.0 else max(1.0, (time - self._begin) / self._period + 1.0)
        if not self._first and (speeds > self._fastest * (1.0 + 1e-6) * late).any():
            self.protective_stop(time)
            return
        self._velocity = np.zeros_like(goal) if self._first else (goal - before) / self._period
        self._first, self._braking = False, None
        self._from, self._goal, self._begin = self._target, goal, time

    def tick(self, time: float) -> Array:
        """Servo targets (n,) [rad] at `time` [s]; called with growing times."""
        if self.following and not self._first:
            silent = time - self._begin
            if silent > self._patience * self._timeout:
                self.program_running = False
            if self._braking is None and silent > self._timeout:
                self._braking = Braking(self._target, self._velocity, STOPJ, self._begin + self._timeout)
            elif self._braking is None and silent > self._period:
                self._target = self._goal + (silent - self._period) * self._velocity
                return self._target
        if self._braking is not None:
            self._target = self._braking.at(time)
            return self._target
        return super().tick(time)

    # -- what happens to it

    def protective_stop(self, time: float) -> None:
        """The safety system stops the arm, as after a collision or at a speed limit."""
        moving = not self._first and self._braking is None and time - self._begin <= self._timeout
        speed = self._velocity if moving else np.zeros_like(self._target)
        self._braking = Braking(self._target, speed, PROTECTIVE, time)
        self.safety_mode, self.program_running = SafetyMode.PROTECTIVE_STOP, False
        self._stopped_at = time

    def stop_program(self, time: float) -> None:
        """Dashboard service stop: the program ends, and with it the motion."""
        if self.following and not self._first and self._braking is None:
            moving = time - self._begin <= self._timeout
            speed = self._velocity if moving else np.zeros_like(self._target)
            self._braking = Braking(self._target, speed, STOPJ, time)
        self.program_running = False

    # -- the way back

    def unlock_protective_stop(self, time: float) -> tuple[bool, str]:
        """Dashboard service; the program does not go on by itself."""
        if self.safety_mode is not SafetyMode.PROTECTIVE_STOP:
            return False, "there is no protective stop"
        if time - self._stopped_at < UNLOCK_AFTER:
            return False, "Cannot unlock protective stop until 5s after occurrence."
        self.safety_mode = SafetyMode.NORMAL
        return True, "Protective stop releasing"

    def resend_program(self, measured: Array) -> bool:
        """Service of the driver: the program begins anew at the measured posture (n,) [rad]."""
        if self.safety_mode is not SafetyMode.NORMAL or self.robot_mode is not RobotMode.RUNNING:
            return False
        super().reset(measured)
        self._velocity = np.zeros_like(measured)
        self._braking, self._first, self.program_running = None, True, True
        return True
