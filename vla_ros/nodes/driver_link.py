"""The safety controller's line to the driver: its condition, what to set before streaming, the way back.

What a driver says and needs is the adapter's business (`vla_ros.robots.drivers`); this class only listens,
asks, and waits for answers, all from the executor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from vla_ros.errors import ObservationError
from vla_ros.nodes import topics
from vla_ros.nodes.driver_commands import import_type
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.robots.drivers import DriverCondition, Request, StatusTopic, make_adapter
from vla_ros.robots.drivers.condition import READY
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import JointState

LOOK_PERIOD = 0.04
"""Seconds between two looks at the status topics, some of which speak at 1 kHz."""
ASK_PERIOD = 2.0
"""Seconds between two rounds of questions to a driver without status topics."""
ANSWER_TIMEOUT = 10.0
"""Seconds a driver may take to answer one request; error recovery and brakes take seconds."""
SETTLE_TIMEOUT = 3.0
"""Seconds after the last request within which the driver must say that it is ready."""
FRESH = 0.3
"""Seconds to listen after `open` before anything is believed: what was heard before may be out of date."""
START_UP_EVERY = 2.0
"""Seconds between two attempts to set the driver up at activation."""

_NEAR = 0.1
"""A robot whose driver holds it is within this of the driver's command [rad]."""
_NEWEST_OF_ANY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class Unchecked:
    """In place of a link: a driver that nobody asks counts as ready."""

    def condition(self) -> DriverCondition:
        """Ready."""
        return READY

    def start(self, measured: JointState) -> JointState:
        """Where the robot is measured to be."""
        return measured

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def destroy(self, node: Any) -> None:
        """Nothing to do."""

    async def recover(self) -> tuple[bool, str]:
        """Not possible."""
        return False, "the driver is not checked (parameter check_driver), so it cannot be recovered either"


class DriverLink:
    """One robot's driver.  `condition` may be asked from any thread."""

    def __init__(self, node: Any, spec: RobotSpec, say: Callable[[str], None]) -> None:
        """`say` gets sentences for the log.

        Raises:
            MachineError: a message package of the driver is not installed here.
        """
        self._node, self._say = node, say
        self._adapter = make_adapter(spec)
        self._group = ReentrantCallbackGroup()
        # all now: what is missing must refuse to configure, and an import would hold the executor up later
        self._kinds = {kind: import_type(kind, spec.name) for kind in self._adapter.kinds}
        self._subscriptions = {topic: self._subscribe(topic, spec.name) for topic in self._adapter.topics}
        self._clients: dict[str, Any] = {}
        self._condition = self._adapter.condition(time.monotonic())
        self._busy = self._set_up = False
        self._asked_at = self._tried_at = self._opened_at = 0.0
        self._waiting: set[Future] = set()
        self._timer: Any = None

    def _subscribe(self, topic: StatusTopic, robot: str) -> Any:
        kind = import_type(topic.kind, robot)
        qos = topics.LATCHED if topic.latched else _NEWEST_OF_ANY
        return self._node.create_subscription(
            kind, topic.name, unused, qos, callback_group=Polled(), raw=topic.raw
        )

    # -- what the controller sees

    def condition(self) -> DriverCondition:
        """The driver's condition a moment ago."""
        return self._condition

    def start(self, measured: JointState) -> JointState:
        """The state at rest that commands have to begin from: the driver's own command where that matters."""
        commanded = np.array(self._adapter.commanded)
        if commanded.shape != measured.positions.shape:
            return measured
        # further away the driver's command is not that of a robot that stands there
        near = np.abs(commanded - measured.positions).max() < _NEAR
        return replace(measured, positions=commanded) if near else measured

    def open(self) -> None:
        """Begin to listen, and to set up what streaming needs, until the driver is ready once."""
        self._set_up = False
        self._tried_at = self._asked_at = 0.0
        self._opened_at = time.monotonic()
        self._condition = DriverCondition(False, "the driver's status is awaited", known=False)
        self._timer = self._node.create_timer(
            LOOK_PERIOD, self._look, callback_group=self._group, clock=_STEADY
        )

    def close(self) -> None:
        """Listen no more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def destroy(self, node: Any) -> None:
        """Give everything back."""
        self.close()
        for subscription in self._subscriptions.values():
            node.destroy_subscription(subscription)
        for client in self._clients.values():
            if isinstance(client, ActionClient):
                client.destroy()
            else:
                node.destroy_client(client)

    async def recover(self) -> tuple[bool, str]:
        """Bring the driver back, which only a person may decide.  Returns whether it worked, and why not."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while self._busy:
            if time.monotonic() > deadline:
                return False, "the driver is being set up or recovered already"
            await self._sleep(LOOK_PERIOD)
        self._look()
        if self._condition.ready:
            return True, "the driver is ready; nothing to recover"
        requests = self._adapter.recovery(time.monotonic())
        if not requests:
            return False, f"{self._condition.sentence}; that cannot be recovered from here"
        self._busy = True
        try:
            failure = await self._do(requests)
        finally:
            self._busy = False
        if failure:
            return False, failure
        return True, "the driver is ready again; reset when the way is clear"

    # -- the executor's

    def _look(self) -> None:
        now = time.monotonic()
        for topic, subscription in self._subscriptions.items():
            for message, _ in taken(subscription):
                try:
                    self._adapter.take(topic.name, message, now)
                except ObservationError as error:
                    self._say(str(error))
        if now - self._opened_at < FRESH:
            return
        self._condition = self._adapter.condition(now)
        if self._busy:
            return
        if self._adapter.questions and now - self._asked_at > ASK_PERIOD:
            self._asked_at = now
            self._start(self._adapter.questions)
        elif not self._set_up and self._condition.ready:
            self._set_up = True
        elif not self._set_up and self._condition.known and now - self._tried_at > START_UP_EVERY:
            self._tried_at = now
            self._start(self._adapter.start_up(now))

    def _start(self, requests: tuple[Request, ...]) -> None:
        """Ask without anybody waiting for it."""
        if not requests:
            return

        async def ask() -> None:
            try:
                failure = await self._do(requests, settle=False)
            finally:
                self._busy = False
            if failure:
                self._say(f"driver: {failure}")

        self._busy = True
        self._node.executor.create_task(ask)

    async def _do(self, requests: tuple[Request, ...], settle: bool = True) -> str:
        """Ask one after the other, then wait for the driver to be ready; what went wrong, empty: nothing."""
        for request in requests:
            if request.saying:
                self._say(f"driver: {request.saying}")
            if request.delay > 0.0:
                await self._sleep(request.delay)
            failure = await self._ask(request)
            if failure:
                return failure
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while settle and not self._condition.ready:
            if time.monotonic() > deadline:
                return self._condition.sentence
            await self._sleep(2 * LOOK_PERIOD)
            self._look()
        return ""

    async def _ask(self, request: Request) -> str:
        kind = self._kinds[request.kind]
        action = "/action/" in request.kind
        client = self._clients.get(request.name)
        if client is None:
            client = (
                ActionClient(self._node, kind, request.name, callback_group=self._group)
                if action
                else self._node.create_client(kind, request.name, callback_group=self._group)
            )
            self._clients[request.name] = client
        ready = client.server_is_ready if action else client.service_is_ready
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while not ready():
            if time.monotonic() > deadline:
                return f"{request.name} is not offered"
            await self._sleep(LOOK_PERIOD)
        message = _filled(kind.Goal() if action else kind.Request(), request.values)
        future = client.send_goal_async(message) if action else client.call_async(message)
        answer = await self._within(future)
        if action and answer is not None:
            answer = await self._within(answer.get_result_async()) if answer.accepted else answer
        if answer is None:
            return f"{request.name} has not answered for {ANSWER_TIMEOUT:g} s"
        self._adapter.answered(request, answer, time.monotonic())
        return _refusal(request, answer, action)

    async def _within(self, future: Future) -> Any:
        """The future's result, or None when it takes too long."""
        done = self._future()
        future.add_done_callback(lambda _: done.done() or done.set_result(True))
        timer = self._once(ANSWER_TIMEOUT, done)
        await done
        self._node.destroy_timer(timer)
        self._waiting.discard(done)
        return future.result() if future.done() else None

    async def _sleep(self, seconds: float) -> None:
        done = self._future()
        timer = self._once(seconds, done)
        await done
        self._node.destroy_timer(timer)
        self._waiting.discard(done)

    def _future(self) -> Future:
        """One that wakes the executor when it is done."""
        future = Future(executor=self._node.executor)
        self._waiting.add(future)
        return future

    def _once(self, seconds: float, future: Future) -> Any:
        return self._node.create_timer(
            seconds,
            lambda: future.done() or future.set_result(True),
            callback_group=self._group,
            clock=_STEADY,
        )


def _filled(message: Any, values: Mapping[str, Any]) -> Any:
    """The message with fields set, nested as `values` are."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            _filled(getattr(message, name), value)
        else:
            setattr(message, name, value)
    return message


def _refusal(request: Request, answer: Any, action: bool) -> str:
    """Why the driver did not do it; empty when it did, or does not say."""
    if action:
        # 4: GoalStatus.STATUS_SUCCEEDED
        return "" if getattr(answer, "status", 0) == 4 else f"{request.name} did not succeed"
    done = getattr(answer, "success", getattr(answer, "ok", True))
    return (
        "" if done else f"{request.name} was refused: {getattr(answer, 'message', '') or 'no reason given'}"
    )
