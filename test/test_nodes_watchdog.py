"""The watchdog's node on a real graph, with doubles of those it watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, TransitionEvent
from node_bench import Bench, bench, domain
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.inference import Inference
from vla_ros.nodes.watchdog import WatchdogNode
from vla_ros.nodes.watchdog_line import WatchdogLine
from vla_ros.types import SafetyState

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures


class Watched:
    """Policy, operator and controller, each beating while it is in `alive`."""

    def __init__(self, made: Bench) -> None:
        self.bench = bench = made
        self.alive = {"inference", "operator", "safety_controller", "safety_status"}
        self.state, self.message = SafetyState.RUNNING, ""
        self.calls: list[str] = []
        self.diagnostics = bench.listen(DiagnosticArray, topics.DIAGNOSTICS)
        self.heartbeats = bench.listen(msg.Heartbeat, topics.HEARTBEAT)
        probe = bench.probe
        self._beats = {
            source: (bench.talk(msg.Heartbeat, topics.HEARTBEAT), msg.Heartbeat(source=source))
            for source in ("inference", "operator")
        }
        self._status = bench.talk(msg.SafetyStatus, topics.SAFETY_STATUS)
        self._setpoint = bench.talk(msg.JointSetpoint, topics.JOINT_SETPOINT)
        self._tick = 0
        self.loop_hangs = False
        """Whether the same tick comes again and again."""
        for name in ("watchdog_pause", "watchdog_resume", "emergency_stop"):
            probe.create_service(Trigger, f"/safety_controller/{name}", self._service(name))
        probe.create_timer(0.05, self._speak)

    def _service(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, response: Any) -> Any:
            self.calls.append(name)
            if name == "watchdog_pause":
                self.state, self.message = SafetyState.HOLDING, "paused by the watchdog"
            elif name == "watchdog_resume":
                self.state, self.message = SafetyState.RUNNING, ""
            else:
                self.state, self.message = SafetyState.STOPPED, "emergency stop by service"
            response.success = True
            return response

        return answer

    def _speak(self) -> None:
        for source, (publisher, message) in self._beats.items():
            if source in self.alive:
                message.count += 1
                publisher.publish(message)
        if "safety_controller" in self.alive:
            self._tick += 10
        if "safety_controller" in self.alive or self.loop_hangs:
            self._setpoint.publish(msg.JointSetpoint(tick=self._tick))
        if "safety_status" in self.alive:
            self._status.publish(msg.SafetyStatus(state=int(self.state), message=self.message))

    def instruct(self, text: str) -> None:
        self.bench.talk(String, topics.INSTRUCTION, topics.LATCHED).publish(String(data=text))

    def life(self, source: str) -> str:
        """What the watchdog last said of a source."""
        values = [
            value.value
            for message in self.diagnostics
            for status in message.status
            if status.name == "watchdog"
            for value in status.values
            if value.key == source
        ]
        return values[-1] if values else ""


def watched(bench: Any, **parameters: Any) -> Watched:
    # the one executor of the bench serves both sides, so its delays are also those of the doubles
    timeouts = {f"{source}_timeout": 1.0 for source in ("policy", "operator", "controller", "status")}
    double = Watched(bench(WatchdogNode, **{**timeouts, "resume_after": 0.3, **parameters}))
    assert double.bench.until(lambda: double.life("inference") == "alive")
    return double


def test_a_lost_policy_pauses_the_robot_and_its_return_ends_the_pause(bench: Any) -> None:
    double = watched(bench)
    double.instruct("pick up the red block")
    assert double.bench.until(lambda: len(double.heartbeats) > 5 and not double.calls)
    assert any(beat.source == "watchdog" for beat in double.heartbeats)
    double.alive.remove("inference")
    assert double.bench.until(lambda: "watchdog_pause" in double.calls)
    assert "The policy has been silent" in double.bench.complaint()
    assert double.life("inference") == "lost"
    double.alive.add("inference")
    assert double.bench.until(lambda: "watchdog_resume" in double.calls)
    assert double.calls == ["watchdog_pause", "watchdog_resume"]


def test_nobody_waits_for_the_policy_without_an_instruction(bench: Any) -> None:
    double = watched(bench)
    double.alive.remove("inference")
    assert double.bench.until(lambda: double.life("inference") == "lost")
    double.bench.until(lambda: False, 0.3)
    assert double.calls == []
    double.instruct("pick up the red block")
    assert double.bench.until(lambda: double.calls == ["watchdog_pause"])
    double.instruct("")
    assert double.bench.until(lambda: double.calls == ["watchdog_pause", "watchdog_resume"])


def test_a_lost_dead_man_switch_stops_the_robot_for_good(bench: Any) -> None:
    double = watched(bench, operator_required=True)
    assert double.bench.until(lambda: double.life("operator") == "alive")
    double.alive.remove("operator")
    assert double.bench.until(lambda: "emergency_stop" in double.calls)
    assert "until a person resets" in double.bench.complaint()
    double.alive.add("operator")
    assert double.bench.until(lambda: double.life("operator") == "alive")
    double.bench.until(lambda: False, 0.5)
    # a request under way may be made twice; nothing resumes
    assert set(double.calls) == {"emergency_stop"} and double.state is SafetyState.STOPPED


def test_without_an_operator_nothing_moves_where_one_is_required(bench: Any) -> None:
    node = bench(WatchdogNode, operator_required=True, resume_after=0.2)
    double = Watched(node)
    double.alive.remove("operator")
    assert node.until(lambda: double.calls == ["watchdog_pause"])
    double.alive.add("operator")
    assert node.until(lambda: double.calls == ["watchdog_pause", "watchdog_resume"])


def test_a_lost_controller_owes_a_stop_and_the_ur_is_told_through_its_dashboard(bench: Any) -> None:
    double = watched(bench, driver="ur_robot_driver")
    told: list[Any] = []

    def stop(request: Any, response: Any) -> Any:
        told.append(request)
        response.success = True
        return response

    double.bench.probe.create_service(Trigger, "/dashboard_client/stop", stop)
    double.alive -= {"safety_controller", "safety_status"}
    assert double.bench.until(lambda: bool(told))
    assert "dashboard" in double.bench.complaint()
    # the service of the silent one is called all the same: it may only be its loop that hangs
    assert double.bench.until(lambda: "emergency_stop" in double.calls)
    double.state = SafetyState.RUNNING
    double.alive |= {"safety_controller", "safety_status"}
    assert double.bench.until(lambda: double.state is SafetyState.STOPPED)
    assert len(told) == 1


@pytest.mark.parametrize("part", ["safety_controller", "safety_status"])
def test_of_a_controller_both_the_loop_and_the_answering_thread_must_live(bench: Any, part: str) -> None:
    double = watched(bench)
    assert double.bench.until(lambda: double.life(part) == "alive")
    double.loop_hangs = True
    double.alive.remove(part)
    assert double.bench.until(lambda: double.life(part) == "lost")
    assert double.bench.until(lambda: "emergency_stop" in double.calls)


def test_a_controller_that_goes_off_duty_is_not_lost(bench: Any) -> None:
    double = watched(bench)
    assert double.bench.until(lambda: double.life("safety_controller") == "alive")
    events = double.bench.talk(TransitionEvent, "/safety_controller/transition_event")
    event = TransitionEvent()
    event.goal_state.id = State.TRANSITION_STATE_DEACTIVATING
    events.publish(event)
    # it brakes and speaks on for a while
    double.bench.until(lambda: False, 0.3)
    double.alive -= {"safety_controller", "safety_status"}
    assert double.bench.until(lambda: double.life("safety_controller") == "awaited")
    double.bench.until(lambda: False, 1.3)
    assert double.calls == []


def test_the_controller_hears_when_a_watchdog_that_was_there_is_lost(bench: Any) -> None:
    made = bench(WatchdogNode)
    line = WatchdogLine(made.probe, 0.5)
    beats = made.talk(msg.Heartbeat, topics.HEARTBEAT)
    # one that never came is not missed, and others' heartbeats are none of its business
    made.executor.remove_node(made.node)
    line.forget()
    beats.publish(msg.Heartbeat(source="inference"))
    begun = time.monotonic()
    made.until(lambda: False, 0.3)
    assert line.silence(begun + 100.0) == 0.0
    beats.publish(msg.Heartbeat(source="watchdog"))
    made.until(lambda: False, 0.3)
    assert line.silence(begun + 200.0) == 0.0
    assert line.silence(begun + 200.4) == 0.0
    assert line.silence(begun + 200.6) == pytest.approx(0.6)
    beats.publish(msg.Heartbeat(source="watchdog", count=2))
    made.until(lambda: False, 0.3)
    assert line.silence(begun + 201.0) == 0.0


def test_a_policy_that_hangs_in_an_answer_does_not_live(bench: Any) -> None:
    node = bench(Inference, max_inference_time=0.5).node
    assert not node._lives()
    node._worker = threading.current_thread()
    assert node._lives()
    node._busy_since = time.monotonic()
    assert node._lives()
    node._busy_since = time.monotonic() - 0.6
    assert not node._lives()
    node._busy_since = None
    dead = threading.Thread()
    node._worker = dead
    assert not node._lives()
    node._worker = None
