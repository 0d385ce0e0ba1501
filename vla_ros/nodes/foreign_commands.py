"""Whether anybody else commands the arm: two who do pull it to and fro."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy

from vla_ros.nodes.driver_commands import ArmCommands
from vla_ros.nodes.polling import Polled, taken, unused

DEPTH = 200
"""Commands kept between two looks: those of 50 ms at 1 kHz, four times."""


class ForeignCommands:
    """Listens to the driver's command topic as long as there is another publisher on it, and not before:
    at 1 kHz one's own commands would otherwise all come back.

    Publishers alone are no reason to stop: one that was killed is counted until its lease ends.
    """

    def __init__(self, node: Any, arm: ArmCommands) -> None:
        """`arm` remembers what was sent."""
        self._node, self._arm = node, arm
        self._subscription: Any = None

    def look(self) -> str:
        """One plain sentence when commands have come that were not sent here; else empty."""
        topic = self._arm.topic
        others = self._node.count_publishers(topic) - 1
        if others < 1:
            self.close()
            return ""
        if self._subscription is None:
            quality = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._subscription = self._node.create_subscription(
                self._arm.type, topic, unused, quality, callback_group=Polled()
            )
        for message, _ in taken(self._subscription):
            values = np.array(self._arm.values_of(message))
            if not self._arm.sent(values):
                return f"{others} other publisher(s) command the arm on {topic}"
        return ""

    def close(self) -> None:
        """Listen no longer."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
