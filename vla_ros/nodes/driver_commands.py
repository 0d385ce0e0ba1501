"""What each driver wants to hear: joint commands on its topic, the gripper by topic or action.

Driver messages are imported only when the robot needs them, with a plain sentence when they are missing.
"""

from __future__ import annotations

import importlib
from collections import deque
from typing import Any

from rclpy.action import ActionClient

from vla_ros.errors import MachineError
from vla_ros.nodes.conversions import writable
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

REMEMBERED = 1000
"""Commands that are still known as one's own."""
_CHANGE = 1e-4
"""Openings closer than this are the same command [m]."""


def import_type(name: str, robot: str) -> Any:
    """Class of a message or action such as "franka_msgs/action/Move" or "std_msgs/Float64MultiArray".

    Raises:
        MachineError: the package is not installed here.
    """
    parts = name.split("/")
    package, kind, leaf = parts[0], parts[1] if len(parts) == 3 else "msg", parts[-1]
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), leaf)
    except (ImportError, AttributeError):
        raise MachineError(
            f"Robot '{robot}' needs {name}, but package {package} is not installed here; "
            "install the robot's ROS 2 driver."
        ) from None


class ArmCommands:
    """Publishes joint positions in the driver's own type, with one message used again every tick."""

    def __init__(self, node: Any, spec: RobotSpec) -> None:
        """Raises `MachineError` when the driver's message package is missing."""
        driver = spec.driver
        self.topic, self.type = driver.command_topic, import_type(driver.command_type, spec.name)
        self._message = self.type()
        grouped = driver.command_type.endswith("JointGroupCommand")
        self._field, kind = ("cmd", "f") if grouped else ("data", "d")
        if grouped:
            self._message.name = str(driver.extra.get("group", "arm"))
        self._values = writable(self._message, self._field, spec.dof, kind)
        self._sent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._publisher = node.create_publisher(self.type, self.topic, 1)

    def send(self, positions: Array) -> None:
        """Publish joint positions (n,) [rad]."""
        self._values[:] = positions
        self._sent.append(self._values.tobytes())
        self._publisher.publish(self._message)

    def values_of(self, message: Any) -> Any:
        """The joint positions in a message of `type`."""
        return getattr(message, self._field)

    def sent(self, values: Array) -> bool:
        """Whether values (n,) as received are among the last that were sent."""
        return values.astype(self._values.dtype).tobytes() in self._sent

    def destroy(self, node: Any) -> None:
        """Give the publisher back."""
        node.destroy_publisher(self._publisher)


class GripperCommands:
    """Tells the gripper its opening, once per change."""

    def __init__(self, node: Any, spec: RobotSpec) -> None:
        """Raises `MachineError` when the driver's message package is missing."""
        self._spec = spec
        self._settings = spec.driver.gripper
        self._last: float | None = None
        self._grasp: ActionClient | None = None
        self._type = import_type(str(self._settings["type"]), spec.name)
        name = str(self._settings["name"])
        if self._settings["kind"] == "topic":
            self._publisher = node.create_publisher(self._type, name, 1)
            self._client = None
            return
        self._client = ActionClient(node, self._type, name)
        if "grasp_name" in self._settings:
            self._grasp_type = import_type(str(self._settings["grasp_type"]), spec.name)
            self._grasp = ActionClient(node, self._grasp_type, str(self._settings["grasp_name"]))

    def send(self, width: float) -> None:
        """Command an opening [m] when it differs from the last one; closing grasps with the force cap."""
        if self._last is not None and abs(width - self._last) < _CHANGE:
            return
        closing = self._last is None or width < self._last
        if self._client is None:
            message = self._type()
            message.name = str(self._settings.get("command_joint", "gripper"))
            message.cmd = self._reported(width)
            self._publisher.publish(message)
        elif self._grasp is not None and closing and width < 0.5 * self._spec.gripper.max_width:
            goal = self._grasp_type.Goal(
                width=width, speed=self._spec.gripper.speed, force=self._spec.gripper.max_force
            )
            # any width held between the fingers is a grasp: what is there is the policy's business
            goal.epsilon.inner = goal.epsilon.outer = self._spec.gripper.max_width
            if not self._send(self._grasp, goal):
                return
        elif not self._send(self._client, self._goal(width)):
            return
        self._last = width

    def destroy(self, node: Any) -> None:
        """Give publisher and clients back."""
        if self._client is None:
            node.destroy_publisher(self._publisher)
            return
        self._client.destroy()
        if self._grasp is not None:
            self._grasp.destroy()

    @staticmethod
    def _send(client: ActionClient, goal: Any) -> bool:
        """False while the server is not there yet; the command is then sent again at the next tick."""
        if not client.server_is_ready():
            return False
        client.send_goal_async(goal)
        return True

    def _goal(self, width: float) -> Any:
        goal = self._type.Goal()
        if hasattr(goal, "width"):
            goal.width, goal.speed = width, self._spec.gripper.speed
            return goal
        if hasattr(goal.command, "max_effort"):
            goal.command.position = self._reported(width)
            goal.command.max_effort = self._spec.gripper.max_force
            return goal
        goal.command.name = [str(name) for name in self._settings["joint_names"]][:1]  # type: ignore[attr-defined]
        goal.command.position = [self._reported(width)]
        goal.command.velocity = [self._spec.gripper.speed]
        goal.command.effort = [self._spec.gripper.max_force]
        return goal

    def _reported(self, width: float) -> float:
        """Opening [m] in the driver's own unit, linear between the YAML's ends."""
        gripper = self._spec.gripper
        share = (width - gripper.min_width) / (gripper.max_width - gripper.min_width)
        closed = float(str(self._settings["state_at_min_width"]))
        opened = float(str(self._settings["state_at_max_width"]))
        return closed + share * (opened - closed)
