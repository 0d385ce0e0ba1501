"""Node `lifecycle_manager`: walks the managed nodes up in order, and down again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.parameters import Parameter

ROSOUT = QoSProfile(
    depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
REFUSED = 2
"""Exit status when a node refused a transition."""
ANSWER_WAIT, STEP_WAIT = 0.15, 0.5
"""Seconds for a node to tell its state, and to go down one step, when the graph ends."""
ASK_AGAIN = 0.5
"""Seconds without an answer after which a node is asked where it is."""
LOST_AFTER = 4
"""Answers in a row that a node is not there yet after which it is asked for the transition again."""
REACHED = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
}
SENTENCE_WAIT = 0.3
"""Seconds to wait for a refusing node's sentence on /rosout."""


class LifecycleManager(VlaNode):
    """Configures all nodes, then activates them in order; when one refuses, says which and why, and ends."""

    PARAMETERS = (
        Parameter(
            "nodes",
            ["ingester", "inference", "chunker", "safety_controller"],
            "Lifecycle nodes in the order in which they are brought up.",
        ),
        Parameter("autostart", True, "Whether to bring the nodes up at start."),
        Parameter("patience", 120.0, "A node that does not answer for longer has failed [s].", 0.5, 600.0),
    )

    def __init__(self) -> None:
        super().__init__("lifecycle_manager")
        self._names: list[str] = list(self.value("nodes"))
        self._change = {n: self.create_client(ChangeState, f"/{n}/change_state") for n in self._names}
        self._state = {n: self.create_client(GetState, f"/{n}/get_state") for n in self._names}
        self._sentences: dict[str, str] = {}
        self.create_subscription(Log, "/rosout", self._on_log, ROSOUT)
        self._waiting: dict[str, float] = {}
        """When each node under way was last heard of or asked."""
        self._pending: dict[str, Future] = {}
        self._not_there: Counter[str] = Counter()
        self._asked_state: dict[str, tuple[Future, float]] = {}
        self._configured: set[str] = set()
        self._active: list[str] = []
        self._begun = time.monotonic()
        self._refused: tuple[str, float] | None = None
        self.up = False
        self.create_service(Trigger, "~/is_active", self._on_is_active)
        if self.value("autostart"):
            self.create_timer(0.02, self._walk_up, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_log(self, message: Log) -> None:
        if message.level >= Log.ERROR:
            self._sentences[message.name] = message.msg

    def _on_is_active(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.up and not self.stopping
        missing = [name for name in self._names if name not in self._active]
        response.message = f"waiting for {', '.join(missing)}" if missing else ""
        return response

    def _walk_up(self) -> None:
        if self._refused is not None:
            self._explain(*self._refused)
        if self.up or self._refused is not None:
            return
        # all are configured side by side, then activated one after the other
        if len(self._configured) < len(self._names):
            for name in self._names:
                if name not in self._configured and self._step(name, Transition.TRANSITION_CONFIGURE):
                    self._configured.add(name)
        elif len(self._active) < len(self._names):
            name = self._names[len(self._active)]
            if self._step(name, Transition.TRANSITION_ACTIVATE):
                self._active.append(name)
                self._walk_up()
        else:
            self.up = True
            self.get_logger().info(f"Up: {', '.join(self._names)}.")

    def _step(self, name: str, transition: int) -> bool:
        """Ask `name` for a transition, once; whether it has been made."""
        if self._refused is not None or self.up:
            return False
        pending = self._pending.get(name)
        if pending is None:
            if not self._twice(name) and self._change[name].service_is_ready():
                request = ChangeState.Request(transition=Transition(id=transition))
                self._pending[name] = self._change[name].call_async(request)
                self._waiting[name] = time.monotonic()
        elif pending.done():
            del self._pending[name]
            self._asked_state.pop(name, None)
            self._waiting[name] = time.monotonic()
            if pending.result().success:
                return True
            self._refused = (name, time.monotonic())
            return False
        elif (reached := self._reached(name, transition)) is not None:
            # the answer was lost, or the request was: then it is made again
            del self._pending[name]
            return reached
        if time.monotonic() - self._waiting.get(name, self._begun) > self.value("patience"):
            self._give_up(f"Node '{name}' has not answered for {self.value('patience'):g} s.")
        return False

    def _reached(self, name: str, transition: int) -> bool | None:
        """Whether a node that has not answered for long is where it was asked to go all the same.

        The middleware loses the answer to a request that comes before the server knows the client's reader.
        None: not known yet.
        """
        asked = self._asked_state.get(name)
        if asked is None or time.monotonic() - asked[1] > ASK_AGAIN:
            if time.monotonic() - self._waiting[name] > ASK_AGAIN:
                future = self._state[name].call_async(GetState.Request())
                self._asked_state[name] = (future, time.monotonic())
            return None
        if not asked[0].done():
            return None
        del self._asked_state[name]
        if asked[0].result().current_state.id == REACHED[transition]:
            self._not_there[name] = 0
            return True
        # one such answer may have overtaken the transition; several in a row mean that it was lost
        self._not_there[name] += 1
        if self._not_there[name] < LOST_AFTER:
            return None
        self._not_there[name] = 0
        return False

    def _twice(self, name: str) -> bool:
        """Another graph in the same domain would take half of the messages: refuse."""
        if self.get_node_names().count(name) < 2:
            return False
        self._give_up(
            f"There are two nodes called '{name}': another vla_ros graph runs in this ROS domain; "
            "stop it or set another ROS_DOMAIN_ID."
        )
        return True

    def _explain(self, name: str, since: float) -> None:
        sentence = self._sentences.get(name)
        if sentence is None and time.monotonic() - since < SENTENCE_WAIT:
            return
        if sentence is None and self._twice(name):
            return
        self._give_up(f"Node '{name}' refused to start: {sentence or 'it gave no reason.'}")

    def _give_up(self, sentence: str) -> None:
        self.get_logger().fatal(sentence)
        self._refused = None
        self.up = True
        self.stop(REFUSED)

    def walk_down(self, executor: Any) -> None:
        """Deactivate and clean up the nodes, last one first; ends when one no longer answers."""
        for name in reversed(self._names):
            for state, transition in (
                (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_DEACTIVATE),
                (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP),
            ):
                now = self._call(executor, self._state[name], GetState.Request(), ANSWER_WAIT)
                if now is None:
                    return
                if now.current_state.id == state:
                    request = ChangeState.Request(transition=Transition(id=transition))
                    self._call(executor, self._change[name], request, STEP_WAIT)

    def _call(self, executor: Any, client: Any, request: Any, patience: float) -> Any:
        if not client.service_is_ready():
            return None
        future = client.call_async(request)
        executor.spin_until_future_complete(future, patience)
        return future.result() if future.done() else None


def main() -> int:
    """Entry point."""
    return run(LifecycleManager, before_end=LifecycleManager.walk_down)


if __name__ == "__main__":
    sys.exit(main())
