"""ros2_control around the double of a forward position controller: the controller manager."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.node import Node

from vla_ros.nodes.simulated_driver import LOOK_PERIOD, ControllerManager
from vla_ros.robots.drivers.ros2_control import CONTROLLER
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.world import World


class Ros2ControlSurface:
    """Reports a `ForwardDouble` and switches its controller."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        """`world.driver` is a `ForwardDouble`."""
        self._node, self._world, self._lock = node, world, lock
        self._double: Any = world.driver
        extra = spec.driver.extra
        self._manager = ControllerManager(
            node, str(extra.get("controller", CONTROLLER)),
            str(extra.get("hardware_component", spec.name)), self._switch,
        )  # fmt: skip
        self._timer = node.create_timer(LOOK_PERIOD, self._look)

    def _look(self) -> None:
        with self._lock:
            active = self._double.controller_active
        self._manager.look(active, True)

    def _switch(self, active: bool) -> bool:
        with self._lock:
            self._double.switch(active, self._world.joint_positions())
        return True

    def close(self) -> None:
        """Take the timer down; services go with the node."""
        self._node.destroy_timer(self._timer)
