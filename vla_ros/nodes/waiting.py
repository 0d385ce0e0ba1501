"""Coroutines of a node that wait, for a condition or a service, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.task import Future


class Waiting:
    """What the coroutines of one node wait for; the node calls `look` often.

    What awaits here must not keep the caller of `look` from running: a callback needs a reentrant group.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self._entries: list[tuple[Callable[[], bool], float, Future]] = []

    def look(self) -> None:
        """Wake those whose condition has come true or whose time is over."""
        for entry in list(self._entries):
            condition, deadline, future = entry
            met = condition()
            if met or time.monotonic() > deadline:
                self._entries.remove(entry)
                future.set_result(met)

    async def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition` holds; False when `timeout` [s] passes first."""
        if condition():
            return True
        future = Future()
        self._entries.append((condition, time.monotonic() + timeout, future))
        return bool(await future)

    async def pause(self, seconds: float) -> None:
        """Wait so long [s]."""
        await self.until(lambda: False, seconds)

    async def ask(
        self, client: Any, request: Any, timeout: float, settled: Callable[[], bool] = lambda: False
    ) -> Any:
        """A service's answer.

        None when it is not there within `timeout` [s], not there as long after the request, or `settled`
        before: an answer may be lost where the service has not heard of its client yet.
        """
        if not await self.until(client.service_is_ready, timeout):
            return None
        future = client.call_async(request)
        await self.until(lambda: future.done() or settled(), timeout)
        if future.done():
            return future.result()
        client.remove_pending_request(future)
        return None
