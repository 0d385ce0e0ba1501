"""ur_robot_driver: robot mode, safety mode, program, controller, speed; the way out of a protective stop.

Sources: Universal_Robots_ROS2_Driver (ur_dashboard_msgs; doc/robot_state_helper.rst; usage/startup.rst),
Universal_Robots_Client_Library (resources/external_control.urscript).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from vla_ros.robots.drivers.condition import (
    READY,
    Controllers,
    DriverCondition,
    Request,
    StatusTopic,
)
from vla_ros.robots.spec import RobotSpec

STATUS = "/io_and_status_controller"
DASHBOARD = "/dashboard_client"
SPEED_TOPIC = "/speed_scaling_state_broadcaster/speed_scaling"
CONTROLLER = "forward_position_controller"
UNLOCK_AFTER = 5.5
"""Seconds from a protective stop to the request to unlock it; the robot refuses within the first 5."""
FULL_SPEED = 0.95
"""Least speed scaling at which commands that ignore it are sent."""


class RobotMode(IntEnum):
    """ur_dashboard_msgs/RobotMode."""

    NO_CONTROLLER = -1
    DISCONNECTED = 0
    CONFIRM_SAFETY = 1
    BOOTING = 2
    POWER_OFF = 3
    POWER_ON = 4
    IDLE = 5
    BACKDRIVE = 6
    RUNNING = 7
    UPDATING_FIRMWARE = 8


class SafetyMode(IntEnum):
    """ur_dashboard_msgs/SafetyMode."""

    NORMAL = 1
    REDUCED = 2
    PROTECTIVE_STOP = 3
    RECOVERY = 4
    SAFEGUARD_STOP = 5
    SYSTEM_EMERGENCY_STOP = 6
    ROBOT_EMERGENCY_STOP = 7
    VIOLATION = 8
    FAULT = 9
    VALIDATE_JOINT_ID = 10
    UNDEFINED_SAFETY_MODE = 11
    AUTOMATIC_MODE_SAFEGUARD_STOP = 12
    SYSTEM_THREE_POSITION_ENABLING_STOP = 13


class UrAdapter:
    """What the UR driver says and needs."""

    def __init__(self, spec: RobotSpec) -> None:
        """Names of `driver.extra`, else those of ur_robot_driver's launch files."""
        extra = spec.driver.extra
        self._robot_topic = str(extra.get("robot_mode_topic", f"{STATUS}/robot_mode"))
        self._safety_topic = str(extra.get("safety_mode_topic", f"{STATUS}/safety_mode"))
        self._program_topic = str(extra.get("program_running_topic", f"{STATUS}/robot_program_running"))
        self._speed_topic = str(extra.get("speed_scaling_topic", SPEED_TOPIC))
        self._restart = str(extra.get("program_restart_service", f"{STATUS}/resend_robot_program"))
        self._dashboard = str(extra.get("dashboard", DASHBOARD))
        self._controllers = Controllers(str(extra.get("controller", CONTROLLER)))
        self._robot: RobotMode | None = None
        self._safety: SafetyMode | None = None
        self._program: bool | None = None
        self._speed = 1.0
        self._stopped_at = 0.0

    @property
    def topics(self) -> tuple[StatusTopic, ...]:
        """Robot, safety, program, speed, controllers."""
        return (
            StatusTopic(self._robot_topic, "ur_dashboard_msgs/msg/RobotMode", True),
            StatusTopic(self._safety_topic, "ur_dashboard_msgs/msg/SafetyMode", True),
            StatusTopic(self._program_topic, "std_msgs/msg/Bool", True),
            StatusTopic(self._speed_topic, "std_msgs/msg/Float64"),
            self._controllers.topic,
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Triggers, and ros2_control's services."""
        return "std_srvs/srv/Trigger", *Controllers.KINDS

    @property
    def questions(self) -> tuple[Request, ...]:
        """Nothing: topics tell it all."""
        return ()

    def take(self, topic: str, message: Any, time: float) -> None:
        """One of the status messages."""
        if topic == self._robot_topic:
            known = message.mode in RobotMode.__members__.values()
            self._robot = RobotMode(message.mode) if known else RobotMode.NO_CONTROLLER
        elif topic == self._safety_topic:
            known = message.mode in SafetyMode.__members__.values()
            mode = SafetyMode(message.mode) if known else SafetyMode.UNDEFINED_SAFETY_MODE
            if mode is SafetyMode.PROTECTIVE_STOP and self._safety is not mode:
                self._stopped_at = time
            self._safety = mode
        elif topic == self._program_topic:
            self._program = bool(message.data)
        elif topic == self._speed_topic:
            self._speed = float(message.data)
        else:
            self._controllers.take(message)

    def answered(self, request: Request, response: Any, time: float) -> None:
        """Nothing is learnt from answers."""

    def condition(self, time: float) -> DriverCondition:
        """Ready when nothing stops the robot, its program runs, and it runs at full speed."""
        for topic, value in (
            (self._robot_topic, self._robot),
            (self._safety_topic, self._safety),
            (self._program_topic, self._program),
            (self._controllers.topic.name, self._controllers.known or None),
        ):
            if value is None:
                return DriverCondition(False, f"nothing has come on {topic}", known=False)
        if self._safety is SafetyMode.PROTECTIVE_STOP:
            why = "the UR is in a protective stop; find out why and clear the way first"
            return DriverCondition(False, why, True)
        if self._safety is not SafetyMode.NORMAL:
            why = f"the UR's safety mode is {_words(self._safety)}; clear it at the robot"
            return DriverCondition(False, why)
        if self._robot is not RobotMode.RUNNING:
            powered = self._robot in (RobotMode.POWER_OFF, RobotMode.POWER_ON, RobotMode.IDLE)
            return DriverCondition(False, f"the UR's robot mode is {_words(self._robot)}", powered)
        if not self._program:
            return DriverCondition(False, "the external control program does not run on the UR", True)
        if sentence := self._controllers.sentence:
            return DriverCondition(False, sentence, True)
        if self._speed < FULL_SPEED:
            # this controller's commands ignore the slider: who turned it down must not be ignored as well
            return DriverCondition(False, f"the UR's speed is scaled to {self._speed:.0%}; set it to 100 %")
        return READY

    @property
    def commanded(self) -> tuple[float, ...]:
        """Does not matter: the driver begins at the measured posture, and servoj takes small steps."""
        return ()

    def start_up(self, time: float) -> tuple[Request, ...]:
        """The program, when nothing else is missing: it ends whenever commands stop coming."""
        stopped = self._safety is not SafetyMode.NORMAL or self._robot is not RobotMode.RUNNING
        if stopped or self._program is not False:
            return ()
        return (self._trigger(self._restart, "starting the external control program"),)

    def recovery(self, time: float) -> tuple[Request, ...]:
        """Unlock, brakes, program, controller, as far as needed.

        A protective stop only pauses the program, which would go on with what it was doing: it is stopped and
        sent anew (robot_state_helper.rst).
        """
        if self._safety not in (SafetyMode.NORMAL, SafetyMode.PROTECTIVE_STOP) or self._robot is None:
            return ()
        requests = []
        if self._safety is SafetyMode.PROTECTIVE_STOP:
            wait = max(0.0, UNLOCK_AFTER - (time - self._stopped_at))
            requests.append(self._dashboard_call("close_safety_popup", "closing the popup", wait))
            requests.append(self._dashboard_call("unlock_protective_stop", "unlocking the protective stop"))
            requests.append(self._dashboard_call("stop", "ending the paused program"))
        if self._robot in (RobotMode.POWER_OFF, RobotMode.POWER_ON, RobotMode.IDLE):
            requests.append(self._dashboard_call("brake_release", "powering on and releasing the brakes"))
        if requests or not self._program:
            requests.append(self._trigger(self._restart, "starting the external control program"))
        # the driver's controller stopper brings its controllers back with the program
        return tuple(requests) if requests else self._controllers.activation()

    def _dashboard_call(self, name: str, saying: str, delay: float = 0.0) -> Request:
        return Request(f"{self._dashboard}/{name}", "std_srvs/srv/Trigger", saying=saying, delay=delay)

    @staticmethod
    def _trigger(name: str, saying: str) -> Request:
        return Request(name, "std_srvs/srv/Trigger", saying=saying)


def _words(mode: IntEnum | None) -> str:
    return "unknown" if mode is None else mode.name.lower().replace("_", " ")
