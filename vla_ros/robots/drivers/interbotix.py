"""interbotix_xs_sdk: operating mode, profile and torque of the Dynamixels.

Sources: interbotix_xs_msgs (OperatingModes.srv, RegisterValues.srv, TorqueEnable.srv), ROBOTIS e-Manual
(control table of the X series).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.robots.drivers.condition import READY, DriverCondition, Request, StatusTopic
from vla_ros.robots.spec import RobotSpec

POSITION_MODE, GRIPPER_MODE = "position", "linear_position"
OPERATING_MODES = {
    "current": 0,
    "velocity": 1,
    POSITION_MODE: 3,
    GRIPPER_MODE: 3,
    "ext_position": 4,
    "pwm": 16,
}
"""Values of register Operating_Mode."""
TIMED = 0b100
"""Bit of register Drive_Mode: the profile counts in time."""
_SPEED_UNIT = 0.229 * 2.0 * np.pi / 60.0
"""Of register Profile_Velocity [rad/s]."""


@dataclass(frozen=True)
class Profile:
    """How a Dynamixel goes to a goal."""

    timed: bool
    """True: the values are times [ms]; false: velocity [0.229 rpm] and acceleration [214.577 rev/min^2]."""
    velocity: int
    acceleration: int

    @property
    def kind(self) -> str:
        """The service's word for it."""
        return "time" if self.timed else "velocity"

    @property
    def seconds(self) -> float:
        """Of a motion with a time profile; 0: at once."""
        return 0.001 * self.velocity

    @property
    def speed(self) -> float:
        """Greatest speed with a velocity profile [rad/s]; infinite for 0."""
        return self.velocity * _SPEED_UNIT if self.velocity else np.inf


DEFAULT_PROFILE = Profile(True, 2000, 300)
"""What interbotix_xsarm_control's modes.yaml sets."""
STREAMING_PROFILE = Profile(False, 131, 15)
"""3.14 rad/s and 5.6 rad/s^2, the values OperatingModes.srv explains."""
REGISTERS = ("Torque_Enable", "Operating_Mode", "Drive_Mode", "Profile_Velocity", "Profile_Acceleration")
_ASKED = (*REGISTERS, "gripper")


class InterbotixAdapter:
    """What the xs_sdk says when asked, and what must be set before goals are streamed."""

    def __init__(self, spec: RobotSpec) -> None:
        """Names of `driver.extra`, else those next to the command topic."""
        extra = spec.driver.extra
        space = spec.driver.command_topic.split("/commands/")[0]
        self._group = str(extra.get("group", "arm"))
        self._gripper = str(spec.driver.gripper.get("command_joint", "gripper"))
        self._modes_service = str(extra.get("operating_modes_service", f"{space}/set_operating_modes"))
        self._torque_service = str(extra.get("torque_enable_service", f"{space}/torque_enable"))
        self._set_service = str(extra.get("set_registers_service", f"{space}/set_motor_registers"))
        self._get_service = str(extra.get("get_registers_service", f"{space}/get_motor_registers"))
        self._profile = STREAMING_PROFILE
        self._values: dict[str, tuple[int, ...]] = {}

    @property
    def topics(self) -> tuple[StatusTopic, ...]:
        """None: the driver has no status topic."""
        return ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The driver's services."""
        names = ("RegisterValues", "OperatingModes", "TorqueEnable")
        return tuple(f"interbotix_xs_msgs/srv/{name}" for name in names)

    @property
    def questions(self) -> tuple[Request, ...]:
        """The registers that matter.  Each is read over the servos' bus, so they are asked seldom."""
        of_gripper = {"cmd_type": "single", "name": self._gripper, "reg": "Operating_Mode"}
        return (
            *(self._question(name) for name in REGISTERS),
            Request(self._get_service, "interbotix_xs_msgs/srv/RegisterValues", of_gripper),
        )

    def take(self, topic: str, message: Any, time: float) -> None:
        """Nothing comes."""

    def answered(self, request: Request, response: Any, time: float) -> None:
        """Registers of all motors of the group."""
        if request.name == self._get_service:
            asked = "gripper" if request.values["cmd_type"] == "single" else str(request.values["reg"])
            self._values[asked] = tuple(int(value) for value in response.values)

    def condition(self, time: float) -> DriverCondition:
        """Ready in position mode, with torque, and with the streaming profile."""
        for name in _ASKED:
            if name not in self._values:
                return DriverCondition(False, f"{self._get_service} has not told {name}", known=False)
        if not self._all("Torque_Enable", 1):
            return DriverCondition(
                False, "the WidowX has no torque; support the arm before it is recovered", True
            )
        if not (self._in_position_mode and self._drive_fits):
            return DriverCondition(False, "the WidowX is not in position mode with a velocity profile", True)
        if not self._profile_fits:
            values = f"{self._profile.velocity} and {self._profile.acceleration}"
            return DriverCondition(False, f"the WidowX's profile registers are not {values}", True)
        if not self._gripper_fits:
            return DriverCondition(False, "the WidowX's gripper is not in linear position mode", True)
        return READY

    @property
    def commanded(self) -> tuple[float, ...]:
        """Does not matter: a servo goes to its goal from where it is."""
        return ()

    def start_up(self, time: float) -> tuple[Request, ...]:
        """Mode and profile; the mode only when it is another, for that switches the torque off meanwhile."""
        if any(name not in self._values for name in _ASKED) or not self._all("Torque_Enable", 1):
            return ()
        return self._settings()

    def recovery(self, time: float) -> tuple[Request, ...]:
        """Torque, then mode and profile."""
        if any(name not in self._values for name in _ASKED):
            return ()
        if self._all("Torque_Enable", 1):
            return self._settings()
        return (self._torque(), *(self._settings() or self.questions))

    def _settings(self) -> tuple[Request, ...]:
        requests: list[Request] = []
        if not (self._in_position_mode and self._drive_fits):
            saying = "setting position mode and velocity profile; the arm is without torque for a moment"
            requests.append(self._modes("group", self._group, POSITION_MODE, saying))
        elif not self._profile_fits:
            requests.append(self._register("Profile_Velocity", self._profile.velocity))
            requests.append(self._register("Profile_Acceleration", self._profile.acceleration))
        if not self._gripper_fits:
            saying = "setting linear position mode of the gripper"
            requests.append(self._modes("single", self._gripper, GRIPPER_MODE, saying))
        return (*requests, *self.questions) if requests else ()

    def _modes(self, kind: str, name: str, mode: str, saying: str) -> Request:
        values = {
            "cmd_type": kind,
            "name": name,
            "mode": mode,
            "profile_type": self._profile.kind,
            "profile_velocity": self._profile.velocity,
            "profile_acceleration": self._profile.acceleration,
        }
        return Request(self._modes_service, "interbotix_xs_msgs/srv/OperatingModes", values, saying)

    @property
    def _in_position_mode(self) -> bool:
        return self._all("Operating_Mode", OPERATING_MODES[POSITION_MODE])

    @property
    def _gripper_fits(self) -> bool:
        """The register is the same for position and linear position; the difference is the driver's own."""
        return self._all("gripper", OPERATING_MODES[POSITION_MODE])

    @property
    def _drive_fits(self) -> bool:
        return all(bool(value & TIMED) == self._profile.timed for value in self._values["Drive_Mode"])

    @property
    def _profile_fits(self) -> bool:
        return self._all("Profile_Velocity", self._profile.velocity) and self._all(
            "Profile_Acceleration", self._profile.acceleration
        )

    def _all(self, register: str, value: int) -> bool:
        values = self._values[register]
        return bool(values) and all(one == value for one in values)

    def _question(self, register: str) -> Request:
        values = {"cmd_type": "group", "name": self._group, "reg": register}
        return Request(self._get_service, "interbotix_xs_msgs/srv/RegisterValues", values)

    def _register(self, name: str, value: int) -> Request:
        values = {"cmd_type": "group", "name": self._group, "reg": name, "value": value}
        return Request(
            self._set_service, "interbotix_xs_msgs/srv/RegisterValues", values, f"setting {name} to {value}"
        )

    def _torque(self) -> Request:
        values = {"cmd_type": "group", "name": self._group, "enable": True}
        kind = "interbotix_xs_msgs/srv/TorqueEnable"
        return Request(self._torque_service, kind, values, "switching the torque on")
