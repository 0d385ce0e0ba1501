"""interbotix_xs_sdk around the WidowX double: operating modes, registers, torque."""

from __future__ import annotations

import threading
from typing import Any

from interbotix_xs_msgs.srv import OperatingModes, RegisterValues, TorqueEnable
from rclpy.node import Node

from vla_ros.robots.drivers.interbotix import OPERATING_MODES, TIMED, Profile
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.world import World


class InterbotixSurface:
    """The services of the driver for the arm's group; it has no status topic."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        """`world.driver` is an `InterbotixDouble`."""
        self._node, self._lock, self._dof = node, lock, spec.dof
        self._double: Any = world.driver
        extra = spec.driver.extra
        self._group = str(extra.get("group", "arm"))
        self._gripper = str(spec.driver.gripper.get("command_joint", "gripper"))
        self._gripper_mode = "pwm"
        """Told to who asks; the simulated gripper takes positions in any mode."""
        space = spec.driver.command_topic.split("/commands/")[0]
        self._services = [
            node.create_service(kind, str(extra.get(key, f"{space}/{name}")), callback)
            for kind, key, name, callback in (
                (OperatingModes, "operating_modes_service", "set_operating_modes", self._on_modes),
                (TorqueEnable, "torque_enable_service", "torque_enable", self._on_torque),
                (RegisterValues, "set_registers_service", "set_motor_registers", self._on_set),
                (RegisterValues, "get_registers_service", "get_motor_registers", self._on_get),
            )
        ]

    def _mine(self, request: Any) -> bool:
        """The driver, too, answers an unknown name and says no more than a line in its log."""
        mine = (request.cmd_type, request.name) == ("group", self._group)
        if not mine:
            self._node.get_logger().error(
                f"{request.cmd_type} '{request.name}' does not exist; the arm is group '{self._group}'."
            )
        return mine

    def _on_modes(self, request: Any, response: Any) -> Any:
        if (request.cmd_type, request.name) == ("single", self._gripper):
            self._gripper_mode = request.mode
        elif self._mine(request):
            profile = Profile(
                request.profile_type == "time", request.profile_velocity, request.profile_acceleration
            )
            with self._lock:
                self._double.set_modes(request.mode, profile)
        return response

    def _on_torque(self, request: Any, response: Any) -> Any:
        if self._mine(request):
            with self._lock:
                self._double.set_torque(request.enable)
        return response

    def _on_set(self, request: Any, response: Any) -> Any:
        if not self._mine(request):
            return response
        with self._lock:
            profile = self._double.profile
            if request.reg == "Profile_Velocity":
                self._double.profile = Profile(profile.timed, request.value, profile.acceleration)
            elif request.reg == "Profile_Acceleration":
                self._double.profile = Profile(profile.timed, profile.velocity, request.value)
        return response

    def _on_get(self, request: Any, response: Any) -> Any:
        if (request.cmd_type, request.name, request.reg) == ("single", self._gripper, "Operating_Mode"):
            response.values = [OPERATING_MODES.get(self._gripper_mode, 0)]
        elif self._mine(request):
            with self._lock:
                double, profile = self._double, self._double.profile
                values = {
                    "Torque_Enable": int(double.torque),
                    "Operating_Mode": OPERATING_MODES.get(double.mode, 0),
                    "Drive_Mode": TIMED if profile.timed else 0,
                    "Profile_Velocity": profile.velocity,
                    "Profile_Acceleration": profile.acceleration,
                }
            if request.reg in values:
                response.values = [values[request.reg]] * self._dof
        return response

    def close(self) -> None:
        """Take the services down."""
        for service in self._services:
            self._node.destroy_service(service)
