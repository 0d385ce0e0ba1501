"""The devices of `teleop` by name: those of the machine, and topics that stand for devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import JointState, Joy

from vla_ros.contract import Contract
from vla_ros.errors import ConfigurationError, unknown
from vla_ros.nodes import topics
from vla_ros.robots.spec import RobotSpec
from vla_ros.teleop.command import Command, Device, Press
from vla_ros.teleop.devices import DEVICES
from vla_ros.teleop.devices.joystick import JOY, KEYS, command_of
from vla_ros.teleop.devices.leader import Leader, check_device_options, leader_layout
from vla_ros.teleop.devices.twist import TwistState
from vla_ros.types import Array

if TYPE_CHECKING:
    from vla_ros.sim.expert import View

TOPICS = {"leader": "/leader/joint_states", "joy": "/joy", "twist": "/teleop/twist"}
"""Default topics."""
STALE = 0.5
"""A Joy message older than this lets go [s]; joy_node repeats at 20 Hz (`autorepeat_rate`)."""


class JoyTopic:
    """sensor_msgs/Joy; see `Device`."""

    name, dead_man, keys = "joy", True, KEYS

    def __init__(self, node: Any, topic: str) -> None:
        """Listen on `topic`."""
        self._node, self._topic = node, topic
        self._command, self._heard = Command(), float("-inf")
        self._buttons: list[int] = []
        self._presses: list[Press] = []

    def open(self) -> None:
        """See `Device`."""
        self._subscription = self._node.create_subscription(Joy, self._topic, self._take, topics.SENSOR)

    def _take(self, message: Joy) -> None:
        buttons = [int(value) for value in message.buttons]
        before = self._buttons + [0] * (len(buttons) - len(self._buttons))
        pressed = [n for n, value in enumerate(buttons) if value and not before[n]]
        self._buttons, self._heard = buttons, time.monotonic()
        self._command = command_of(list(message.axes), buttons, pressed, JOY)
        self._presses += self._command.presses

    def read(self, now: float) -> Command:
        """See `Device`."""
        presses, self._presses = tuple(self._presses), []
        if now - self._heard > STALE:
            return Command(presses=presses)
        return replace(self._command, presses=presses)

    def close(self) -> None:
        """See `Device`."""
        self._node.destroy_subscription(self._subscription)


class TwistTopic:
    """geometry_msgs/TwistStamped in the base frame; see `Device`."""

    name, dead_man = "twist", True
    keys = (("topic", "the tool moves for as long as a twist comes"),)

    def __init__(self, node: Any, topic: str, robot: RobotSpec) -> None:
        """Listen on `topic`."""
        self._node, self._topic, self._state = node, topic, TwistState()
        self._frames = ("", robot.base_frame)
        self.trouble = ""

    def open(self) -> None:
        """See `Device`."""
        self._subscription = self._node.create_subscription(
            TwistStamped, self._topic, self._take, topics.SENSOR
        )

    def _take(self, message: TwistStamped) -> None:
        if message.header.frame_id not in self._frames:
            self.trouble = (
                f"A twist in frame '{message.header.frame_id}' came on {self._topic}, "
                f"but it must be in '{self._frames[1]}'; nothing moves."
            )
            self._state.take((0.0,) * 3, (0.0,) * 3, time.monotonic())
            return
        linear, angular = message.twist.linear, message.twist.angular
        self._state.take((linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z), time.monotonic())
        self.trouble = self._state.trouble

    def read(self, now: float) -> Command:
        """See `Device`."""
        return self._state.command(now)

    def close(self) -> None:
        """See `Device`."""
        self._node.destroy_subscription(self._subscription)


class LeaderTopic:
    """sensor_msgs/JointState of a leader arm; see `Device`."""

    name, dead_man = "leader", True
    keys = (("e", "engage when the leader is near the robot's posture, or let it go"),)

    def __init__(
        self, node: Any, topic: str, robot: RobotSpec, options: Mapping[str, Any], joints: Callable[[], Array]
    ) -> None:
        """`joints` answers the robot's measured joints (n,) [rad].  Raises `ConfigurationError`."""
        self._node, self._topic, self._robot_joints = node, topic, joints
        self._leader = Leader(leader_layout(options, robot), robot)

    @property
    def trouble(self) -> str:
        """Why it does not lead."""
        return self._leader.trouble

    def open(self) -> None:
        """See `Device`."""
        self._subscription = self._node.create_subscription(
            JointState, self._topic, self._take, topics.SENSOR
        )

    def _take(self, message: JointState) -> None:
        self._leader.take(list(message.name), list(message.position), time.monotonic())

    def toggle(self) -> None:
        """The key that engages was pressed."""
        self._leader.toggle(self._robot_joints(), time.monotonic())

    def let_go(self) -> None:
        """Disengage: somebody else moves the robot."""
        self._leader.engaged = False

    def read(self, now: float) -> Command:
        """See `Device`."""
        joints = self._leader.joints(now)
        if joints is None:
            return Command()
        return Command(engaged=True, joints=joints, width=self._leader.width)

    def close(self) -> None:
        """See `Device`."""
        self._node.destroy_subscription(self._subscription)


def make_device(
    node: Any, name: str, path: str, options: Mapping[str, Any], terminal: Any, contract: Contract,
    joints: Callable[[], Array], look: Callable[[], View | None],
) -> Device:  # fmt: skip
    """The named device, not yet opened.

    Args:
        node: that the device's topics are of.
        name: one of `DEVICES`.
        path: of the device's file, or its topic; empty: looked for, or the default topic.
        options: of the device.
        terminal: for a keyboard.
        contract: of the run.
        joints: answers the robot's measured joints (n,) [rad].
        look: answers what the scripted expert sees, None while it is not its turn.

    Raises `ConfigurationError`.
    """
    robot = contract.robot
    check_device_options(name, options, robot)
    if name == "keyboard":
        from vla_ros.teleop.devices.keyboard import Keyboard

        if terminal is None:
            raise ConfigurationError(
                "Device 'keyboard' needs a terminal; name one with parameter 'terminal'."
            )
        return Keyboard(terminal)
    if name == "gamepad":
        from vla_ros.teleop.devices.joystick import Gamepad

        return Gamepad(path)
    if name == "spacemouse":
        from vla_ros.teleop.devices.spacemouse import SpaceMouse

        return SpaceMouse(path)
    if name == "leader":
        return LeaderTopic(node, path or TOPICS[name], robot, options, joints)
    if name == "joy":
        return JoyTopic(node, path or TOPICS[name])
    if name == "twist":
        return TwistTopic(node, path or TOPICS[name], robot)
    if name == "scripted":
        from vla_ros.nodes.teleop_scripted import Scripted

        return Scripted(node, contract, look)
    raise ConfigurationError(unknown("Device", name, DEVICES))
