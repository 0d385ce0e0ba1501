"""The controller's side of the watchdog: who was watched once is not driven on unwatched."""

from __future__ import annotations

from typing import Any

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.polling import Polled, taken, unused

LOOK_PERIOD = 0.02
"""Seconds between two looks at what has come."""


class WatchdogLine:
    """Hears the watchdog's own heartbeat, polled by the control thread."""

    def __init__(self, node: Any, timeout: float) -> None:
        """`timeout` is the silence allowed [s]; 0: the watchdog is not listened to."""
        self._timeout = timeout
        self._subscription = node.create_subscription(
            msg.Heartbeat, topics.HEARTBEAT, unused, topics.RELIABLE, callback_group=Polled()
        )
        self._looked = self._silence = 0.0
        self._heard: float | None = None

    def silence(self, now: float) -> float:
        """How long the watchdog has been silent [s] when that is too long at `now` [s]; else 0.

        A graph without a watchdog, and one whose watchdog has not come yet, counts as well.
        """
        if self._timeout <= 0.0 or now - self._looked < LOOK_PERIOD:
            return self._silence
        # a stall of this process is not the watchdog's silence: what it sent meanwhile lies in the queue
        self._looked = now
        for message, _ in taken(self._subscription):
            if message.source == "watchdog":
                self._heard = now
        silent = 0.0 if self._heard is None else now - self._heard
        self._silence = silent if silent > self._timeout else 0.0
        return self._silence

    def forget(self) -> None:
        """Wait for the watchdog anew (activation)."""
        for _ in taken(self._subscription):
            continue
        self._heard, self._silence = None, 0.0

    def destroy(self, node: Any) -> None:
        """Give the subscription back."""
        node.destroy_subscription(self._subscription)
