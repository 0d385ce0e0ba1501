"""A node's sign of life on `/vla/heartbeat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType

from vla_ros import msg
from vla_ros.nodes import topics

PERIOD = 0.1
"""Seconds between two beats."""


class Heartbeat:
    """Beats from the node's executor for as long as `lives` says that its work goes on."""

    def __init__(self, node: Any, source: str, lives: Callable[[], bool] = lambda: True) -> None:
        """Create publisher and timer."""
        self._node, self._lives = node, lives
        self._message = msg.Heartbeat(source=source)
        self._publisher = node.create_publisher(msg.Heartbeat, topics.HEARTBEAT, topics.RELIABLE)
        self._timer = node.create_timer(PERIOD, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy(self) -> None:
        """Fall silent."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _beat(self) -> None:
        if not self._lives():
            return
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        self._message.count += 1
        self._publisher.publish(self._message)
