"""ur_robot_driver around the UR double: modes, program, speed scaling, dashboard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Bool, Float64
from std_srvs.srv import Trigger
from ur_dashboard_msgs.msg import RobotMode as RobotModeMessage
from ur_dashboard_msgs.msg import SafetyMode as SafetyModeMessage

from vla_ros.nodes import topics
from vla_ros.nodes.simulated_driver import LOOK_PERIOD, Changes, ControllerManager
from vla_ros.robots.drivers.ur import CONTROLLER, DASHBOARD, SPEED_TOPIC, STATUS, RobotMode
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.world import World

HARDWARE = "ur5e"
"""Any name: the driver's hardware component is not looked at."""


class UrSurface:
    """Reports a `UrDouble` and brings it back."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        """`world.driver` is a `UrDouble`."""
        self._node, self._world, self._lock = node, world, lock
        self._double: Any = world.driver
        self._said: Any = None
        extra = spec.driver.extra

        def name(key: str, default: str) -> str:
            return str(extra.get(key, default))

        self._robot = Changes(node, RobotModeMessage, name("robot_mode_topic", f"{STATUS}/robot_mode"))
        self._safety = Changes(node, SafetyModeMessage, name("safety_mode_topic", f"{STATUS}/safety_mode"))
        self._program = Changes(node, Bool, name("program_running_topic", f"{STATUS}/robot_program_running"))
        self._speed = node.create_publisher(
            Float64, name("speed_scaling_topic", SPEED_TOPIC), topics.RELIABLE
        )
        self._manager = ControllerManager(node, name("controller", CONTROLLER), HARDWARE, self._switch)
        restart = name("program_restart_service", f"{STATUS}/resend_robot_program")
        dashboard = name("dashboard", DASHBOARD)
        self._offer(restart, self._resend)
        self._offer(f"{dashboard}/play", self._resend)
        self._offer(f"{dashboard}/stop", self._stop)
        self._offer(f"{dashboard}/unlock_protective_stop", self._unlock)
        self._offer(f"{dashboard}/close_safety_popup", lambda: (True, "closing safety popup"))
        self._offer(f"{dashboard}/brake_release", self._release)
        self._offer("~/trigger_protective_stop", self._trigger)
        node.create_subscription(Float64, "~/speed_slider", self._on_slider, topics.RELIABLE)
        self._timer = node.create_timer(LOOK_PERIOD, self._look)

    def _offer(self, name: str, action: Callable[[], tuple[bool, str]]) -> None:
        def answer(request: Any, response: Any) -> Any:
            with self._lock:
                response.success, response.message = action()
            self._look()
            return response

        self._node.create_service(Trigger, name, answer)

    def _look(self) -> None:
        with self._lock:
            double = self._double
            robot, safety, program = double.robot_mode, double.safety_mode, double.program_running
            speed, controller = double.speed_slider, double.controller_active
        if (safety, program) != self._said:
            self._said = safety, program
            if not program:
                state = safety.name.lower().replace("_", " ")
                self._node.get_logger().warning(
                    f"The simulated UR's program does not run (safety mode {state})."
                )
        self._robot.tell(robot, RobotModeMessage(mode=int(robot)))
        self._safety.tell(safety, SafetyModeMessage(mode=int(safety)))
        self._program.tell(program, Bool(data=program))
        self._speed.publish(Float64(data=speed))
        self._manager.look(controller, True)

    # called with the lock held

    def _resend(self) -> tuple[bool, str]:
        done = self._double.resend_program(self._world.joint_positions())
        return done, "Successfully resent robot program" if done else "Could not resend robot program"

    def _stop(self) -> tuple[bool, str]:
        self._double.stop_program(self._world.sim_time)
        return True, "Stopped"

    def _unlock(self) -> tuple[bool, str]:
        done, sentence = self._double.unlock_protective_stop(self._world.sim_time)
        return bool(done), str(sentence)

    def _release(self) -> tuple[bool, str]:
        self._double.robot_mode = RobotMode.RUNNING
        return True, "Brake releasing"

    def _trigger(self) -> tuple[bool, str]:
        self._double.protective_stop(self._world.sim_time)
        return True, "C153: the position deviates from the path"

    def _switch(self, active: bool) -> bool:
        with self._lock:
            # the driver's controller stopper decides: with the program the controller comes and goes
            return bool(self._double.controller_active) or not active

    def _on_slider(self, message: Float64) -> None:
        with self._lock:
            self._double.speed_slider = min(max(float(message.data), 0.0), 1.0)

    def close(self) -> None:
        """Take the timer down; services go with the node."""
        self._node.destroy_timer(self._timer)
