"""franka_ros2: robot mode, errors, controller; error recovery after a reflex.

Sources: franka_ros2 (franka_hardware/doc, "Error Recovery"; franka_msgs/FrankaRobotState), libfranka
(include/franka/errors.h, robot_state.h).
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
from vla_ros.robots.drivers.franka_state import read_state
from vla_ros.robots.spec import RobotSpec

STATE_TOPIC = "/franka_robot_state_broadcaster/robot_state"
RECOVERY_ACTION = "/action_server/error_recovery"
CONTROLLER = "forward_position_controller"
HARDWARE = "FrankaHardwareInterface"
STALE = 3.0
"""Seconds without a robot state, which comes at 1 kHz, after which nothing is known any more."""


class RobotMode(IntEnum):
    """FrankaRobotState.robot_mode."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


_PLAIN = {
    "joint_reflex": "a joint felt a collision",
    "cartesian_reflex": "the hand felt a collision",
    "communication_constraints_violation": "too many packets were late or lost",
    "joint_position_motion_generator_start_pose_invalid": "the first command was not where the robot stood",
    "joint_motion_generator_position_limits_violation": "a joint was commanded beyond its limits",
    "joint_motion_generator_velocity_limits_violation": "a joint was commanded too fast",
    "joint_motion_generator_velocity_discontinuity": "the commanded acceleration was too high",
    "joint_motion_generator_acceleration_discontinuity": "the commanded jerk was too high",
}
_MODES = {
    RobotMode.OTHER: "is in no known mode",
    RobotMode.GUIDING: "is being guided by hand",
    RobotMode.USER_STOPPED: "is stopped by the user stop or its activation device; release it",
    RobotMode.AUTOMATIC_ERROR_RECOVERY: "is recovering from an error",
}


class FrankaAdapter:
    """What franka_ros2 says and needs."""

    def __init__(self, spec: RobotSpec) -> None:
        """Names of `driver.extra`, else those of franka_ros2's launch files."""
        extra = spec.driver.extra
        self._state_topic = str(extra.get("robot_state_topic", STATE_TOPIC))
        self._recovery = str(extra.get("error_recovery_action", RECOVERY_ACTION))
        self._controllers = Controllers(
            str(extra.get("controller", CONTROLLER)), str(extra.get("hardware_component", HARDWARE))
        )
        self._mode: RobotMode | None = None
        self._errors: tuple[str, ...] = ()
        self._seen = 0.0
        self._commanded: tuple[float, ...] = ()

    @property
    def topics(self) -> tuple[StatusTopic, ...]:
        """The robot's state and the controllers'."""
        return (
            StatusTopic(self._state_topic, "franka_msgs/msg/FrankaRobotState", raw=True),
            self._controllers.topic,
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Error recovery, and ros2_control's services."""
        return "franka_msgs/action/ErrorRecovery", *Controllers.KINDS

    @property
    def questions(self) -> tuple[Request, ...]:
        """Nothing: topics tell it all."""
        return ()

    def take(self, topic: str, message: Any, time: float) -> None:
        """A serialised FrankaRobotState, or a ControllerManagerActivity."""
        if topic == self._controllers.topic.name:
            self._controllers.take(message)
            return
        state = read_state(message)
        known = state.mode in RobotMode.__members__.values()
        self._mode = RobotMode(state.mode) if known else RobotMode.OTHER
        self._commanded = state.commanded
        # after the reflex the present errors may be gone while the last motion's still say why
        self._errors = state.errors or (state.last_errors if self._mode is RobotMode.REFLEX else ())
        self._seen = time

    def answered(self, request: Request, response: Any, time: float) -> None:
        """Nothing is learnt from answers."""

    def condition(self, time: float) -> DriverCondition:
        """Ready in mode MOVE with the controller active."""
        if self._mode is None or not self._controllers.known:
            missing = self._state_topic if self._mode is None else self._controllers.topic.name
            return DriverCondition(False, f"nothing has come on {missing}", known=False)
        if time - self._seen > STALE:
            return DriverCondition(False, f"no robot state on {self._state_topic} for {STALE:g} s")
        if self._mode is RobotMode.REFLEX or self._errors:
            why = ", ".join(f"{_PLAIN[e]} ({e})" if e in _PLAIN else e for e in self._errors)
            return DriverCondition(False, f"the Franka stopped by reflex: {why or 'no error is named'}", True)
        if self._mode in _MODES:
            return DriverCondition(False, f"the Franka {_MODES[self._mode]}")
        if sentence := self._controllers.sentence:
            return DriverCondition(False, sentence, True)
        if self._mode is not RobotMode.MOVE:
            return DriverCondition(False, "the Franka is idle: no motion has been started on it", True)
        return READY

    @property
    def commanded(self) -> tuple[float, ...]:
        """q_d.

        The hardware interface begins at the measured posture and repeats it, and the first command has to
        follow on from that; what is measured later differs by more than the jerk limit lets pass in 1 ms.
        """
        return self._commanded

    def start_up(self, time: float) -> tuple[Request, ...]:
        """Nothing: whoever started the driver activates its controller."""
        return ()

    def recovery(self, time: float) -> tuple[Request, ...]:
        """Error recovery, then hardware and controller, in this order (franka_hardware/doc)."""
        if self._mode is None or self._mode in _MODES:
            return ()
        requests: tuple[Request, ...] = ()
        if self._mode is RobotMode.REFLEX or self._errors:
            kind = "franka_msgs/action/ErrorRecovery"
            requests = (Request(self._recovery, kind, saying="clearing the reflex"),)
        return requests + self._controllers.activation()
