"""What real drivers report and offer beside commands and joint states, around the doubles of `sim.drivers`.

Message packages of a driver are imported only when that driver is simulated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.node import Node

from vla_ros.errors import ConfigurationError
from vla_ros.nodes import topics
from vla_ros.robots.drivers.condition import CONTROLLER_MANAGER
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.world import World

LOOK_PERIOD = 0.04
"""Seconds between two looks at the double; a Franka reports its state as often (the real one every ms)."""
_LABELS = {True: (3, "active"), False: (2, "inactive")}
"""lifecycle_msgs/State of a controller."""


class Surface(Protocol):
    """One driver's status topics and services."""

    def close(self) -> None:
        """Take everything down."""
        ...


class Changes:
    """Publishes a latched value when it is another than the last one."""

    def __init__(self, node: Node, kind: type, topic: str) -> None:
        self._publisher = node.create_publisher(kind, topic, topics.LATCHED)
        self._last: Any = None

    def tell(self, value: Any, message: Any) -> None:
        """Publish `message` if `value` has changed."""
        if value != self._last:
            self._last = value
            self._publisher.publish(message)


class ControllerManager:
    """The part of ros2_control's controller manager that adapters look at and ask."""

    def __init__(self, node: Node, controller: str, hardware: str, switch: Callable[[bool], bool]) -> None:
        """`switch` activates or deactivates the controller and says whether that was possible."""
        from controller_manager_msgs.msg import ControllerManagerActivity
        from controller_manager_msgs.srv import SwitchController

        self._controller, self._hardware, self._switch = controller, hardware, switch
        self._activity = Changes(node, ControllerManagerActivity, f"{CONTROLLER_MANAGER}/activity")
        node.create_service(SwitchController, f"{CONTROLLER_MANAGER}/switch_controller", self._on_switch)

    def look(self, controller_active: bool, hardware_active: bool) -> None:
        """Publish what has changed."""
        from controller_manager_msgs.msg import ControllerManagerActivity, NamedLifecycleState
        from lifecycle_msgs.msg import State

        def named(name: str, state: tuple[int, str]) -> Any:
            return NamedLifecycleState(name=name, state=State(id=state[0], label=state[1]))

        # after an error a hardware component is unconfigured, not inactive
        hardware = _LABELS[True] if hardware_active else (1, "unconfigured")
        message = ControllerManagerActivity(
            controllers=[
                named("joint_state_broadcaster", _LABELS[True]),
                named(self._controller, _LABELS[controller_active]),
            ],
            hardware_components=[named(self._hardware, hardware)],
        )
        self._activity.tell((controller_active, hardware_active), message)

    def _on_switch(self, request: Any, response: Any) -> Any:
        unknown = {*request.activate_controllers, *request.deactivate_controllers} - {self._controller}
        if unknown:
            response.ok, response.message = False, f"Could not find controller '{unknown.pop()}'"
            return response
        response.ok = True
        for wanted, names in ((True, request.activate_controllers), (False, request.deactivate_controllers)):
            if names:
                response.ok = self._switch(wanted) and response.ok
        response.message = "" if response.ok else "the hardware is not active"
        return response


def make_surface(node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> Surface:
    """The surface of a robot's driver.  Raises `ConfigurationError` when the driver's messages lack."""
    try:
        if spec.driver.kind == "franka_ros2":
            from vla_ros.nodes.simulated_franka import FrankaSurface

            return FrankaSurface(node, spec, world, lock)
        if spec.driver.kind == "ur_robot_driver":
            from vla_ros.nodes.simulated_ur import UrSurface

            return UrSurface(node, spec, world, lock)
        if spec.driver.kind == "ros2_control":
            from vla_ros.nodes.simulated_ros2_control import Ros2ControlSurface

            return Ros2ControlSurface(node, spec, world, lock)
        from vla_ros.nodes.simulated_interbotix import InterbotixSurface

        return InterbotixSurface(node, spec, world, lock)
    except ImportError as error:
        raise ConfigurationError(
            f"The message package of the driver of '{spec.name}' is missing ({error}); "
            "run 'make env' or install it."
        ) from error
