"""Node `watchdog`, in a process of its own: listens for signs of life and acts when one is missing."""

from __future__ import annotations

import sys
import time
from typing import Any

from lifecycle_msgs.msg import State, TransitionEvent
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.control.driver_stop import DRIVER_STOPS
from vla_ros.control.enforcer import Enforcer, Report, Request
from vla_ros.control.watchdog import Order, Rule, Verdict, Watchdog
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.heartbeat import Heartbeat
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.types import SafetyState

INTERVAL = 0.05
"""Seconds between two checks."""
DIAGNOSTICS_PERIOD = 0.5
ASK_AGAIN = 0.25
"""Seconds after which a request without an effect is made again."""
CONTROLLER, STATUS, POLICY, OPERATOR = "safety_controller", "safety_status", "inference", "operator"
PAUSED = "watchdog"
"""Whom the controller names in its message while a pause of the watchdog holds it."""
LAST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SERVICES = {
    Request.PAUSE: "watchdog_pause",
    Request.RESUME: "watchdog_resume",
    Request.EMERGENCY_STOP: "emergency_stop",
}


class WatchdogNode(VlaNode):
    """Wires `Watchdog` and `Enforcer` to the graph."""

    PARAMETERS = (
        Parameter("policy_timeout", 0.5, "Silence of the policy that pauses the robot [s].", 0.15, 30.0),
        Parameter("operator_timeout", 0.3, "Silence of the operator that stops it [s].", 0.15, 30.0),
        Parameter(
            "controller_timeout", 0.3, "Silence of the controller's loop that stops it [s].", 0.15, 30.0
        ),
        Parameter("status_timeout", 1.0, "Silence of the controller's status that stops it [s].", 0.2, 30.0),
        Parameter(
            "operator_required", False, "Whether the operator's heartbeat (a dead-man switch) is needed."
        ),
        Parameter(
            "resume_after",
            1.0,
            "A source that is back for so long ends the pause it caused [s]; 0: a person resumes.",
            0.0,
            60.0,
        ),
        Parameter(
            "stall_allowance",
            1.0,
            "Part of a silence that is excused because the watchdog itself did not run [s].",
            0.0,
            10.0,
        ),
        Parameter("driver", "simulated", "Kind of the robot's driver.", choices=tuple(DRIVER_STOPS)),
    )

    def __init__(self) -> None:
        super().__init__("watchdog")
        rules = [
            Rule(POLICY, "the policy", self.value("policy_timeout"), Order.HOLD),
            Rule(CONTROLLER, "the control loop", self.value("controller_timeout"), Order.DRIVER_STOP),
            # it speaks from the thread that would have to answer a request to stop
            Rule(STATUS, "the safety controller", self.value("status_timeout"), Order.DRIVER_STOP),
        ]
        if self.value("operator_required"):
            rules.append(
                Rule(OPERATOR, "the operator", self.value("operator_timeout"), Order.STOP, Order.HOLD)
            )
        self._watchdog = Watchdog(rules, INTERVAL, self.value("stall_allowance"))
        self._watchdog.need(POLICY, False)
        self._enforcer = Enforcer(self.value("resume_after"))
        self._driver_stop = DRIVER_STOPS[self.value("driver")]
        self._report: Report | None = None
        self._statuses, self._order = 0, Order.NONE
        self._asked: dict[Request, tuple[Any, float]] = {}
        self._clients_of = {
            request: self.create_client(Trigger, f"/{CONTROLLER}/{name}")
            for request, name in SERVICES.items()
        }
        if self._driver_stop.service:
            self._clients_of[Request.DRIVER_STOP] = self.create_client(Trigger, self._driver_stop.service)
        # polled: only the check wakes this process, and what came during a stall is heard before it judges
        self._heartbeats, self._status, self._setpoints = (
            self.create_subscription(kind, topic, unused, quality, callback_group=Polled())
            for kind, topic, quality in (
                (msg.Heartbeat, topics.HEARTBEAT, topics.RELIABLE),
                (msg.SafetyStatus, topics.SAFETY_STATUS, topics.RELIABLE),
                (msg.JointSetpoint, topics.JOINT_SETPOINT, LAST),
            )
        )
        self.create_subscription(String, topics.INSTRUCTION, self._on_instruction, topics.LATCHED)
        for source in (POLICY, CONTROLLER):
            self.create_subscription(
                TransitionEvent,
                f"/{source}/transition_event",
                lambda event, source=source: self._on_transition(source, event),
                topics.RELIABLE,
            )
        self._heartbeat = Heartbeat(self, "watchdog")
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._verdict = self._watchdog.check(time.monotonic())
        self._longest_stall = 0.0
        self.create_timer(INTERVAL, self._check, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)

    # What is heard.

    def _listen(self, now: float) -> None:
        """Everything that has come since the last check."""
        for heartbeat, _ in taken(self._heartbeats):
            if heartbeat.source not in (CONTROLLER, STATUS):
                self._watchdog.beat(heartbeat.source, heartbeat.count, now)
        for status, _ in taken(self._status):
            state = SafetyState(status.state)
            paused = state is SafetyState.HOLDING and PAUSED in status.message
            self._report = Report(now, state, paused)
            self._statuses += 1
            self._watchdog.beat(STATUS, self._statuses, now)
        for setpoint, _ in taken(self._setpoints):
            self._watchdog.beat(CONTROLLER, setpoint.tick, now)

    def _on_instruction(self, message: String) -> None:
        # without an instruction nobody waits for the policy: the robot may go home while one is loaded
        self._watchdog.need(POLICY, bool(message.data.strip()))

    def _on_transition(self, source: str, event: TransitionEvent) -> None:
        for part in (CONTROLLER, STATUS) if source == CONTROLLER else (source,):
            if event.goal_state.id == State.PRIMARY_STATE_ACTIVE:
                self._watchdog.engage(part)
            else:
                self._watchdog.dismiss(part, time.monotonic())

    # What is done.

    def _check(self) -> None:
        now = time.monotonic()
        self._listen(now)
        verdict = self._verdict = self._watchdog.check(now)
        self._longest_stall = max(self._longest_stall, verdict.stall)
        if verdict.order is not self._order:
            self._order = verdict.order
            self._say(verdict)
            self._diagnose()
        for request in self._enforcer.requests(verdict, self._report, now):
            self._ask(request, now)

    def _say(self, verdict: Verdict) -> None:
        if verdict.order is Order.NONE:
            self.get_logger().info("Every sign of life is back.")
        else:
            self.get_logger().error(self._sentence(verdict))

    def _sentence(self, verdict: Verdict) -> str:
        consequence = {
            Order.NONE: "",
            Order.HOLD: "the robot is paused",
            Order.STOP: "the robot is stopped until a person resets it",
            Order.DRIVER_STOP: self._driver_stop.sentence,
        }[verdict.order]
        missing = "; ".join(verdict.sentences)
        return f"{missing[:1].upper()}{missing[1:]}: {consequence}." if missing else ""

    def _ask(self, request: Request, now: float) -> None:
        """One request at a time to each service, and again when it has no effect."""
        client = self._clients_of.get(request)
        if client is None:
            self._enforcer.driver_told()
            return
        pending = self._asked.get(request)
        # a controller that refuses is not active yet: it must not have moved before it is asked again
        refused = pending is not None and pending[0].done() and not pending[0].result().success
        if pending is not None and not refused and now - pending[1] < ASK_AGAIN:
            return
        if not client.service_is_ready():
            return
        if pending is not None and not pending[0].done():
            if request is Request.EMERGENCY_STOP and self._order is Order.DRIVER_STOP:
                # one that waits for a stopped process to go on is enough
                return
            client.remove_pending_request(pending[0])
        future = client.call_async(Trigger.Request())
        self._asked[request] = (future, now)
        if request is Request.DRIVER_STOP:
            future.add_done_callback(lambda done: self._on_driver_answer(done.result()))

    def _on_driver_answer(self, response: Trigger.Response) -> None:
        if response.success:
            self._enforcer.driver_told()
        self.get_logger().warning(f"{self._driver_stop.service}: {response.message or response.success}")

    def _diagnose(self) -> None:
        verdict = self._verdict
        error = self._sentence(verdict)
        if not error and self._enforcer.owed_since is not None:
            error = "The safety controller was lost and is to be stopped as soon as it answers."
        lives = {source: life.name.lower() for source, life in verdict.lives.items()}
        values = {**lives, "order": verdict.order.name, "longest stall": f"{self._longest_stall:.3f} s"}
        self.diagnose(error, values)
        self._longest_stall = 0.0


def main() -> int:
    """Entry point."""
    return run(WatchdogNode)


if __name__ == "__main__":
    sys.exit(main())
