"""Messages taken when somebody wants them, without a wake-up of the executor for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup


class Polled(CallbackGroup):
    """Keeps its subscriptions out of the executor, which would wake up for every single message."""

    def can_execute(self, entity: Any) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing to do."""


def unused(message: Any) -> None:
    """In place of the callback of a polled subscription."""


def taken(subscription: Any) -> Iterator[tuple[Any, Any]]:
    """Every message that has come on a polled subscription, with its info; raw ones as bytes."""
    handle, kind, raw = subscription.handle, subscription.msg_type, subscription.raw
    with handle:
        while (found := handle.take_message(kind, raw)) is not None:
            yield found
