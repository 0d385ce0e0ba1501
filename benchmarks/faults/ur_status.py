"""What ur_robot_driver says of itself, good or bad."""

from __future__ import annotations

from typing import Any

from controller_manager_msgs.msg import ControllerManagerActivity, NamedLifecycleState
from lifecycle_msgs.msg import State
from std_msgs.msg import Bool, Float64
from ur_dashboard_msgs.msg import RobotMode as RobotModeMessage
from ur_dashboard_msgs.msg import SafetyMode as SafetyModeMessage

from vla_ros.nodes import topics
from vla_ros.robots.drivers.ur import CONTROLLER, SPEED_TOPIC, STATUS, RobotMode, SafetyMode


class UrStatus:
    """Robot mode, safety mode, program, controller and speed, each as it was last set."""

    def __init__(self, node: Any) -> None:
        """Begin with all in order."""
        self._robot = node.create_publisher(RobotModeMessage, f"{STATUS}/robot_mode", topics.LATCHED)
        self._safety = node.create_publisher(SafetyModeMessage, f"{STATUS}/safety_mode", topics.LATCHED)
        self._program = node.create_publisher(Bool, f"{STATUS}/robot_program_running", topics.LATCHED)
        self._activity = node.create_publisher(
            ControllerManagerActivity, "/controller_manager/activity", topics.LATCHED
        )
        self._speed = node.create_publisher(Float64, SPEED_TOPIC, topics.RELIABLE)
        self._robot.publish(RobotModeMessage(mode=int(RobotMode.RUNNING)))
        self.safety(SafetyMode.NORMAL)
        self.program(True)
        self.controller("active")

    def safety(self, mode: SafetyMode) -> None:
        """Set the safety mode."""
        self._safety.publish(SafetyModeMessage(mode=int(mode)))

    def program(self, running: bool) -> None:
        """Whether the external control program runs."""
        self._program.publish(Bool(data=running))

    def controller(self, label: str) -> None:
        """Set the state of the position controller."""
        state = NamedLifecycleState(name=CONTROLLER, state=State(label=label))
        self._activity.publish(ControllerManagerActivity(controllers=[state]))

    def speed(self, share: float) -> None:
        """Set the speed slider."""
        self._speed.publish(Float64(data=share))
