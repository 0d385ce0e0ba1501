"""The robot's joints, gripper and wrist force, taken by the control thread itself at every tick."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState as JointStateMessage

from vla_ros.errors import ObservationError
from vla_ros.ingest import gripper_width_of
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import to_joint_state
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, JointState

SAY_AGAIN_AFTER = 2.0
"""Seconds before a complaint is repeated."""


class JointInput:
    """Polled, so that states at up to 1000 Hz wake no executor that would compete for the interpreter."""

    def __init__(self, node: Any, spec: RobotSpec, complain: Callable[[str], None]) -> None:
        """`complain` gets a sentence when a state does not fit the robot."""
        self._spec, self._complain = spec, complain
        driver = spec.driver
        self._names = frozenset(driver.joint_names)
        self._grip_names = tuple(str(name) for name in driver.gripper["joint_names"])  # type: ignore[attr-defined]
        self._grip_topic = str(driver.gripper["joint_state_topic"])
        self._complained = -SAY_AGAIN_AFTER
        group = Polled()
        self._subscriptions = [
            node.create_subscription(JointStateMessage, topic, unused, topics.SENSOR, callback_group=group)
            for topic in dict.fromkeys([driver.joint_state_topic, self._grip_topic])
        ]
        self._wrench = None
        if "wrench_topic" in driver.extra:
            self._wrench = node.create_subscription(
                WrenchStamped, str(driver.extra["wrench_topic"]), unused, topics.SENSOR, callback_group=group
            )
        self.width = spec.gripper.max_width
        """Newest measured opening [m]; the widest until one has come."""

    def take(self) -> list[JointState]:
        """The joint states that have come since the last call, newest last; updates `width`."""
        arms: list[JointStateMessage] = []
        grip = None
        for subscription in self._subscriptions:
            for message, _ in taken(subscription):
                names = set(message.name)
                # joints and gripper may come on one topic, in one message or in messages of their own
                if not names.isdisjoint(self._names):
                    arms.append(message)
                if names.issuperset(self._grip_names):
                    grip = message
        try:
            if grip is not None:
                positions = to_joint_state(grip, self._grip_names, self._grip_topic).positions
                self.width = gripper_width_of(float(positions[0]), self._spec)
            driver = self._spec.driver
            return [to_joint_state(arm, driver.joint_names, driver.joint_state_topic) for arm in arms]
        except ObservationError as error:
            if time.monotonic() - self._complained > SAY_AGAIN_AFTER:
                self._complained = time.monotonic()
                self._complain(str(error))
        return []

    def take_force(self) -> Array | None:
        """The newest force at the wrist (3,) [N], sensor frame, since the last call; None: none has come."""
        if self._wrench is None:
            return None
        force = None
        for message, _ in taken(self._wrench):
            given = message.wrench.force
            force = np.array([given.x, given.y, given.z])
        return force

    def destroy(self, node: Any) -> None:
        """Give the subscriptions back."""
        if self._wrench is not None:
            node.destroy_subscription(self._wrench)
        for subscription in self._subscriptions:
            node.destroy_subscription(subscription)
