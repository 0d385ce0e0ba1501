"""What an adapter says about its driver, and what it wants to have asked of it.

No ROS here: messages are read by the names of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

CONTROLLER_MANAGER = "/controller_manager"
STRICT = 2
"""SwitchController: all or nothing."""
ACTIVE = 3
"""lifecycle_msgs/State PRIMARY_STATE_ACTIVE."""


@dataclass(frozen=True)
class DriverCondition:
    """Whether commands would be followed; if not, why, and whether `recover` can help."""

    ready: bool
    sentence: str = ""
    recoverable: bool = False
    known: bool = True
    """False until the driver has said anything."""


READY = DriverCondition(True)


@dataclass(frozen=True)
class StatusTopic:
    """A topic of the driver that is listened to."""

    name: str
    kind: str
    """As "std_msgs/msg/Bool"."""
    latched: bool = False
    raw: bool = False
    """The adapter takes the serialised bytes."""


@dataclass(frozen=True)
class Request:
    """A service call or an action goal."""

    name: str
    kind: str
    """As "std_srvs/srv/Trigger"."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request or goal, nested as in the message."""
    saying: str = ""
    """What is done, for the log."""
    delay: float = 0.0
    """Seconds to wait first."""


class DriverAdapter(Protocol):
    """Reads a driver's status and knows the way into and out of trouble."""

    @property
    def topics(self) -> tuple[StatusTopic, ...]:
        """What to listen to."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Types of everything that may be asked."""
        ...

    @property
    def questions(self) -> tuple[Request, ...]:
        """What to ask again and again, because no topic tells it."""
        ...

    def take(self, topic: str, message: Any, time: float) -> None:
        """A message has come, at `time` [s] of a steady clock."""
        ...

    def answered(self, request: Request, response: Any, time: float) -> None:
        """A question or request was answered."""
        ...

    def condition(self, time: float) -> DriverCondition:
        """Cheap: asked at every tick."""
        ...

    @property
    def commanded(self) -> tuple[float, ...]:
        """Joint positions the first command has to follow on from [rad]; empty where the measured ones do."""
        ...

    def start_up(self, time: float) -> tuple[Request, ...]:
        """What to ask before streaming begins; nothing when all is set."""
        ...

    def recovery(self, time: float) -> tuple[Request, ...]:
        """What to ask, in order, when a person wants the driver back; nothing when it cannot be helped."""
        ...


class Controllers:
    """The states of ros2_control's controllers and hardware, from `controller_manager`'s activity."""

    KINDS = (
        "controller_manager_msgs/srv/SetHardwareComponentState",
        "controller_manager_msgs/srv/SwitchController",
    )

    def __init__(self, controller: str, hardware: str = "") -> None:
        self.controller, self.hardware = controller, hardware
        self.topic = StatusTopic(
            f"{CONTROLLER_MANAGER}/activity", "controller_manager_msgs/msg/ControllerManagerActivity", True
        )
        self.known = False
        self._states: dict[str, str] = {}
        self._hardware: dict[str, str] = {}

    def take(self, message: Any) -> None:
        """A ControllerManagerActivity."""
        self._states = {item.name: item.state.label for item in message.controllers}
        self._hardware = {item.name: item.state.label for item in message.hardware_components}
        self.known = True

    @property
    def active(self) -> bool:
        """Whether the controller takes commands."""
        return self._states.get(self.controller) == "active"

    @property
    def hardware_active(self) -> bool:
        """Whether the hardware component works; true when it is not listed."""
        return self._hardware.get(self.hardware, "active") == "active"

    @property
    def sentence(self) -> str:
        """Why no command would be followed; empty when all is well."""
        if not self.hardware_active:
            return f"hardware component {self.hardware} is {self._hardware[self.hardware]}"
        if not self.active:
            return f"{self.controller} is {self._states.get(self.controller, 'not loaded')}"
        return ""

    def activation(self) -> tuple[Request, ...]:
        """What makes the controller active again."""
        requests = []
        if not self.hardware_active:
            requests.append(
                Request(
                    f"{CONTROLLER_MANAGER}/set_hardware_component_state",
                    "controller_manager_msgs/srv/SetHardwareComponentState",
                    {"name": self.hardware, "target_state": {"id": ACTIVE, "label": "active"}},
                    f"activating {self.hardware}",
                )
            )
        if not self.active:
            requests.append(
                Request(
                    f"{CONTROLLER_MANAGER}/switch_controller",
                    "controller_manager_msgs/srv/SwitchController",
                    {"activate_controllers": [self.controller], "strictness": STRICT, "activate_asap": True},
                    f"activating {self.controller}",
                )
            )
        return tuple(requests)
