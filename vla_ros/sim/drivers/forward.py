"""ros2_control's forward position controller: the last command is repeated for as long as it is active."""

from __future__ import annotations

from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.latching import LatchingDriver
from vla_ros.types import Array


class ForwardDouble(LatchingDriver):
    """Follows its commands while the controller is active; there is no timeout.

    Source: ros2_controllers, forward_command_controller (commands are dropped when it is activated, then the
    last one stays).
    """

    def __init__(self, spec: RobotSpec) -> None:
        """Active and waiting for a command."""
        super().__init__(spec)
        self.reset(spec.home)

    def reset(self, positions: Array) -> None:
        """Start over at rest at `positions` (n,) [rad], the controller active."""
        super().reset(positions)
        self.controller_active = True
        self.ignored = 0
        """Commands that came while the controller was not active."""

    @property
    def following(self) -> bool:
        """Whether commands reach the robot."""
        return self.controller_active

    def command(self, positions: Array, time: float) -> None:
        """A command (n,) [rad] arrived at `time` [s].  Raises `ActionError` when it is malformed."""
        goal = self._checked(positions)
        if not self.controller_active:
            self.ignored += 1
            return
        self._from, self._goal, self._begin = self._target, goal, time

    def switch(self, active: bool, measured: Array) -> None:
        """Activate or deactivate the controller; either way the arm holds `measured` (n,) [rad]."""
        ignored = self.ignored
        self.reset(measured)
        self.controller_active, self.ignored = active, ignored
