"""Any arm behind ros2_control with a forward position controller: is the controller active?

Sources: ros2_control (controller_manager, topic `~/activity`, services `switch_controller` and
`set_hardware_component_state`); ros2_controllers, forward_command_controller.  What the arm itself needs
(brakes, a mode, a program) such a driver does not say, so a person has to see to it.
"""

from __future__ import annotations

from typing import Any

from vla_ros.robots.drivers.condition import READY, Controllers, DriverCondition, Request, StatusTopic
from vla_ros.robots.spec import RobotSpec

CONTROLLER = "forward_position_controller"


class Ros2ControlAdapter:
    """What the controller manager says and needs."""

    def __init__(self, spec: RobotSpec) -> None:
        """Names of `driver.extra`: `controller`, and `hardware_component` where there is one to look at."""
        extra = spec.driver.extra
        self._controllers = Controllers(
            str(extra.get("controller", CONTROLLER)), str(extra.get("hardware_component", ""))
        )

    @property
    def topics(self) -> tuple[StatusTopic, ...]:
        """The controllers' states."""
        return (self._controllers.topic,)

    @property
    def kinds(self) -> tuple[str, ...]:
        """ros2_control's services."""
        return Controllers.KINDS

    @property
    def questions(self) -> tuple[Request, ...]:
        """Nothing: the topic tells it all."""
        return ()

    def take(self, topic: str, message: Any, time: float) -> None:
        """A ControllerManagerActivity."""
        self._controllers.take(message)

    def answered(self, request: Request, response: Any, time: float) -> None:
        """Nothing is learnt from answers."""

    def condition(self, time: float) -> DriverCondition:
        """Ready with the controller, and its hardware, active."""
        if not self._controllers.known:
            return DriverCondition(
                False, f"nothing has come on {self._controllers.topic.name}", known=False
            )
        if sentence := self._controllers.sentence:
            return DriverCondition(False, sentence, True)
        return READY

    @property
    def commanded(self) -> tuple[float, ...]:
        """Not known; commands begin at the measured posture."""
        return ()

    def start_up(self, time: float) -> tuple[Request, ...]:
        """Nothing: whoever started the driver activates its controller."""
        return ()

    def recovery(self, time: float) -> tuple[Request, ...]:
        """Hardware and controller, as far as needed."""
        return self._controllers.activation() if self._controllers.known else ()
