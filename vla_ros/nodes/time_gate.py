"""How a simulation whose time is not real time lets it go on: no faster than those who follow it can act."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from std_msgs.msg import Float64

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.types import NANOSECONDS

PATIENCE = 2.0
"""Seconds that time waits for somebody; then it goes on without them until they are heard again."""
ROUNDING = 1e-6
"""Times that differ by less are the same [s]: one is a sum of periods, the other one of time steps."""
POLL, AGAIN = 0.0002, 0.005
"""Seconds between two looks, and after which the time that stands is told again: /clock may be lost."""


class TimeGate:
    """Waits for the controller's last tick, and for who asked that time stand at a moment."""

    def __init__(self, node: Any, tell: Callable[[], None]) -> None:
        """`tell` says on `/clock` what time it is."""
        self._tell = tell
        group = Polled()
        self._setpoints = node.create_subscription(
            msg.JointSetpoint, topics.JOINT_SETPOINT, unused, topics.RELIABLE, callback_group=group
        )
        self._holds = node.create_subscription(
            Float64, topics.HOLD_TIME, unused, topics.RELIABLE, callback_group=group
        )
        self._last: tuple[float, int] | None = None
        """Time [s] and number of the newest tick; None: no controller."""
        self._period = 0.0
        self._hold = math.inf
        """Simulated time that is not gone beyond [s]."""

    def wait(self, now: float, batch: float) -> None:
        """Wait until time may go on from `now` by `batch`, both simulated [s]."""
        told = time.monotonic()
        deadline = told + PATIENCE
        self._take()
        while self._behind(now, batch) or now + ROUNDING >= self._hold:
            if time.monotonic() > deadline:
                self._last, self._hold = None, math.inf
                return
            if time.monotonic() - told > AGAIN:
                self._tell()
                told = time.monotonic()
            time.sleep(POLL)
            self._take()

    def _behind(self, now: float, batch: float) -> bool:
        """Whether the controller has not yet done what is due."""
        return self._last is not None and now - self._last[0] > self._period + 0.5 * batch

    def _take(self) -> None:
        for message, _ in taken(self._setpoints):
            stamp, before = to_stamp(message.header.stamp) / NANOSECONDS, self._last
            if before is not None and message.tick > before[1]:
                self._period = (stamp - before[0]) / (message.tick - before[1])
            self._last = stamp, message.tick
        for message, _ in taken(self._holds):
            self._hold = message.data
