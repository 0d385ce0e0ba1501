"""franka_ros2 around the Franka double: robot state, error recovery, hardware and controller."""

from __future__ import annotations

import threading
from typing import Any

from controller_manager_msgs.srv import SetHardwareComponentState
from franka_msgs.action import ErrorRecovery
from franka_msgs.msg import Errors, FrankaRobotState
from rclpy.action import ActionServer
from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_ros.nodes import topics
from vla_ros.nodes.conversions import doubles
from vla_ros.nodes.simulated_driver import LOOK_PERIOD, ControllerManager
from vla_ros.robots.drivers.condition import CONTROLLER_MANAGER
from vla_ros.robots.drivers.franka import CONTROLLER, HARDWARE, RECOVERY_ACTION, STATE_TOPIC, RobotMode
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.world import World

LOST_PACKETS = 400
"""What `~/lose_packets` loses: 0.4 s, more than any patience."""


class FrankaSurface:
    """Reports a `FrankaDouble` and brings it back."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        """`world.driver` is a `FrankaDouble`."""
        self._node, self._world, self._lock = node, world, lock
        self._double: Any = world.driver
        extra = spec.driver.extra
        self._state = node.create_publisher(
            FrankaRobotState, str(extra.get("robot_state_topic", STATE_TOPIC)), topics.RELIABLE
        )
        self._message = FrankaRobotState()
        self._errors = ("", "")
        for joints in (self._message.measured_joint_state, self._message.desired_joint_state):
            joints.name = list(spec.driver.joint_names)
        self._manager = ControllerManager(
            node,
            str(extra.get("controller", CONTROLLER)),
            str(extra.get("hardware_component", HARDWARE)),
            self._switch,
        )
        node.create_service(
            SetHardwareComponentState, f"{CONTROLLER_MANAGER}/set_hardware_component_state", self._on_hardware
        )
        self._recovery = ActionServer(
            node, ErrorRecovery, str(extra.get("error_recovery_action", RECOVERY_ACTION)), self._on_recovery
        )
        node.create_service(Trigger, "~/trigger_reflex", self._on_trigger)
        node.create_service(Trigger, "~/lose_packets", self._on_lose)
        self._timer = node.create_timer(LOOK_PERIOD, self._look)

    def _look(self) -> None:
        with self._lock:
            double, world = self._double, self._world
            error, last, subject = double.error, double.last_error, double.subject
            controller, hardware, following = (
                double.controller_active,
                double.hardware_active,
                double.following,
            )
            measured, target, time = world.joint_positions(), world.joint_target(), world.sim_time
        message = self._message
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.measured_joint_state.position, message.desired_joint_state.position = (
            doubles(measured),
            doubles(target),
        )
        message.time = time
        message.robot_mode = int(
            RobotMode.REFLEX if error else RobotMode.MOVE if following else RobotMode.IDLE
        )
        if error and error != self._errors[0]:
            self._node.get_logger().warning(
                f"The simulated Franka stopped by reflex: {error} {subject}".strip()
            )
        if (error, last) != self._errors:
            self._errors = error, last
            message.current_errors, message.last_motion_errors = (
                Errors(**{name: True}) if name else Errors() for name in self._errors
            )
        self._state.publish(message)
        self._manager.look(controller, hardware)

    def _switch(self, active: bool) -> bool:
        with self._lock:
            return bool(self._double.set_controller(active, self._world.joint_positions()))

    def _on_hardware(self, request: Any, response: Any) -> Any:
        with self._lock:
            active = request.target_state.id == 3 or request.target_state.label == "active"
            response.ok = self._double.set_hardware(active)
            now = self._double.hardware_active
        response.state.id, response.state.label = (3, "active") if now else (1, "unconfigured")
        return response

    def _on_recovery(self, handle: Any) -> Any:
        with self._lock:
            done, _ = self._double.recover(self._world.sim_time)
        if done:
            handle.succeed()
        else:
            handle.abort()
        return ErrorRecovery.Result()

    def _on_trigger(self, request: Any, response: Any) -> Any:
        with self._lock:
            self._double.trip("cartesian_reflex", self._world.sim_time)
        response.success, response.message = True, "the hand felt a collision"
        return response

    def _on_lose(self, request: Any, response: Any) -> Any:
        with self._lock:
            self._double.lose_packets(LOST_PACKETS, self._world.sim_time)
        response.success, response.message = True, f"{LOST_PACKETS} packets are lost"
        return response

    def close(self) -> None:
        """Take the action server and the timer down; services go with the node."""
        self._node.destroy_timer(self._timer)
        self._recovery.destroy()
