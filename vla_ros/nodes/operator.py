"""The operator's side of a running graph: start episodes, watch rates, latencies and the safety state."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.errors import MachineError
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.episode import Outcome
from vla_ros.srv import MoveToJoints, StartEpisode, StopEpisode
from vla_ros.types import NANOSECONDS, SafetyState

RESET_PATIENCE = 1.0
"""Seconds for which a reset is asked for again."""
WINDOW = 2.0
"""Seconds over which rates and latencies are shown."""


@dataclass(frozen=True)
class EpisodeResult:
    """How an episode ended."""

    episode_id: str
    task: str
    instruction: str
    outcome: Outcome
    reason: str
    seconds: float
    steps: int
    interventions: int
    start: int = 0
    """ROS time of its beginning [ns]."""


@dataclass
class Hop:
    """Messages on one topic: when they came and how old their content was [s]."""

    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=2000))

    def add(self, latency: float) -> None:
        """One message came."""
        self.samples.append((time.monotonic(), latency))

    def recent(self) -> tuple[float, float]:
        """(messages per second, median latency [s]) of the last seconds; nan when there are none."""
        since = time.monotonic() - WINDOW
        latencies = [latency for at, latency in list(self.samples) if at >= since]
        return len(latencies) / WINDOW, float(np.median(latencies)) if latencies else float("nan")


class Operator:
    """A client of a running graph; spins in a thread of its own."""

    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("operator")
        self.hops = {"observation": Hop(), "policy": Hop(), "chunk": Hop()}
        self.safety: msg.SafetyStatus | None = None
        self.interventions: deque[msg.Intervention] = deque(maxlen=5)
        self.episode = msg.EpisodeStatus()
        self.first_command: float | None = None
        """When the controller first moved on a chunk, on time.monotonic()'s clock."""
        self.words = ""
        """What the policy last said."""
        self._observations = 0
        for kind, topic, callback in (
            (DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics),
            (msg.PolicyOutput, topics.POLICY_OUTPUT, self._on_output),
            (msg.ActionChunk, topics.ACTION_CHUNK, self._on_chunk),
            (msg.SafetyStatus, topics.SAFETY_STATUS, self._on_safety),
            (msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_episode),
        ):
            self._node.create_subscription(kind, topic, callback, topics.RELIABLE)
        self._start = self._node.create_client(StartEpisode, "/supervisor/start_episode")
        self._replay = self._node.create_client(StartEpisode, "/replayer/start_episode")
        self._stop = self._node.create_client(StopEpisode, "/supervisor/stop_episode")
        self._active = self._node.create_client(Trigger, "/lifecycle_manager/is_active")
        self._move = self._node.create_client(MoveToJoints, "/safety_controller/move_to_joints")
        self._reset = self._node.create_client(Trigger, "/safety_controller/reset")
        self._closing = False
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="operator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and leave the graph."""
        self._closing = True
        self._executor.shutdown(timeout_sec=0.5)
        self._thread.join(timeout=1.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    def is_up(self) -> bool:
        """Whether every node of the graph is active."""
        if not self._active.service_is_ready():
            return False
        try:
            return bool(self.call(self._active, Trigger.Request(), 1.0, _nothing).success)
        except MachineError:
            return False

    def start_episode(
        self, task: str, instruction: str, seed: int, watch: Callable[[], None]
    ) -> StartEpisode.Response:
        """Ask for an episode; returns when it runs or was refused.  `watch` is called while waiting."""
        request = StartEpisode.Request(task=task, instruction=instruction, seed=seed)
        return self.call(self._start, request, 90.0, watch)

    def start_replay(self, number: int, watch: Callable[[], None]) -> StartEpisode.Response:
        """Ask the replayer for one of its episodes; returns when it plays or was refused."""
        return self.call(self._replay, StartEpisode.Request(seed=number), 20.0, watch)

    def stop_episode(self, reason: str) -> None:
        """End the running episode, if any."""
        self.call(self._stop, StopEpisode.Request(reason=reason), 2.0, _nothing)

    def move_to_joints(
        self, positions: list[float], gripper_width: float, watch: Callable[[], None]
    ) -> MoveToJoints.Response:
        """Ask for a limited joint motion; returns when it was accepted or refused."""
        request = MoveToJoints.Request(positions=positions, gripper_width=gripper_width)
        return self.call(self._move, request, 10.0, watch)

    def reset_safety(self) -> str:
        """Release a latched stop, as a person would; why not, or nothing when it was released.

        Asked for a second again and again: a robot that has just come to rest cannot be believed at once.
        """
        end = time.monotonic() + RESET_PATIENCE
        while True:
            answer = self.call(self._reset, Trigger.Request(), 5.0, _nothing)
            if answer.success or time.monotonic() > end:
                return "" if answer.success else str(answer.message)
            time.sleep(0.1)

    @property
    def stands(self) -> bool:
        """Whether the controller reports a robot at rest."""
        return self.safety is not None and not self.safety.moving

    @property
    def latched(self) -> bool:
        """Whether the safety controller waits for a person's reset."""
        return self.safety_state in ("STOPPED", "FAULT")

    def wait_until(self, condition: Callable[[], bool], timeout: float, watch: Callable[[], None]) -> bool:
        """Poll `condition` and `watch`; False when `timeout` seconds passed first."""
        deadline = time.monotonic() + timeout
        while not condition():
            watch()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def client(self, kind: type, name: str) -> Any:
        """A client of a further service, for `call`."""
        return self._node.create_client(kind, name)

    def listen(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        """Have `callback` called, in the operator's thread, with every message of a further topic."""
        self._node.create_subscription(kind, topic, callback, topics.RELIABLE)

    def call(self, client: Any, request: Any, timeout: float, watch: Callable[[], None]) -> Any:
        """A service's answer; `watch` is called while waiting.  Raises `MachineError` without one in time."""
        deadline = time.monotonic() + timeout
        while not client.service_is_ready():
            watch()
            if time.monotonic() > deadline:
                raise MachineError(f"The service {client.srv_name} did not appear within {timeout:g} s.")
            time.sleep(0.02)
        future: Future = client.call_async(request)
        while not future.done():
            watch()
            if time.monotonic() > deadline:
                raise MachineError(f"The service {client.srv_name} did not answer within {timeout:g} s.")
            time.sleep(0.005)
        return future.result()

    def result(self, episode_id: str) -> EpisodeResult | None:
        """How the episode ended; None while it runs."""
        status = self.episode
        outcome = Outcome(status.outcome)
        if status.episode_id != episode_id or outcome in (Outcome.NONE, Outcome.RUNNING):
            return None
        return EpisodeResult(
            status.episode_id, status.task, status.instruction, outcome, status.reason,
            float(status.elapsed), int(status.steps), int(status.interventions),
            to_stamp(status.header.stamp) - round(status.elapsed * NANOSECONDS),
        )  # fmt: skip

    @property
    def safety_state(self) -> str:
        """Name of the safety controller's state."""
        return "unknown" if self.safety is None else SafetyState(self.safety.state).name

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
        except InvalidHandle:
            # the executor's own guard may go while the last callback ends
            if not self._closing:
                raise

    def _age(self, stamp: int) -> float:
        return (self._node.get_clock().now().nanoseconds - stamp) / NANOSECONDS

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """How many observations the ingester made, and how old they were: they themselves hold images."""
        for status in message.status:
            given = {pair.key: pair.value for pair in status.values}
            if status.name == "ingester" and topics.OBSERVATION_AGE in given:
                count = int(given["observations"])
                for _ in range(max(0, count - self._observations)):
                    self.hops["observation"].add(float(given[topics.OBSERVATION_AGE]))
                self._observations = count

    def _on_output(self, message: msg.PolicyOutput) -> None:
        self.words = message.error or message.text
        if not message.error:
            self.hops["policy"].add(self._age(to_stamp(message.header.stamp)))

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        self.hops["chunk"].add(self._age(to_stamp(message.header.stamp)))

    def _on_safety(self, message: msg.SafetyStatus) -> None:
        self.safety = message
        if self.first_command is None and message.chunk_sequence > 0:
            self.first_command = time.monotonic()
        self.interventions.extend(message.interventions)

    def _on_episode(self, message: msg.EpisodeStatus) -> None:
        self.episode = message


def _nothing() -> None:
    return None
