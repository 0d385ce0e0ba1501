"""Whatever is raised on the control thread, in whichever part of it, is a stop within all limits.

The thread's own loop is replaced by the test, tick by tick, so that nothing here depends on time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.serialization import serialize_message
from std_msgs.msg import Float64MultiArray

from vla_ros import msg
from vla_ros.actions import rotations
from vla_ros.bounds import MAX_CHUNK_BYTES, MAX_STEPS
from vla_ros.contract import load_contract
from vla_ros.nodes import control_thread as module
from vla_ros.nodes.control_thread import ControlThread
from vla_ros.nodes.conversions import action_chunk_message
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, JointState, Reason, SafetyState

CONTRACT = load_contract("ur5", simulated=True)
SPEC = CONTRACT.robot
PERIOD = 0.008
LATCHED = (SafetyState.STOPPED, SafetyState.FAULT)


class Beatless:
    """In the place of the loop: the test says when a tick is."""

    late, error = 0, None

    def __init__(self, period: float, tick: Any, priority: int, warn: Any, prepare: Any, *rest: Any) -> None:
        self.tick, self.prepare = tick, prepare

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Joints:
    """Measured joints are the last command."""

    width = SPEC.gripper.max_width

    def __init__(self, line: Line) -> None:
        self._line = line

    def take(self) -> list[JointState]:
        zero = np.zeros(SPEC.dof)
        return [JointState(self._line.now, self._line.commands[-1], zero, np.zeros(0))]

    def take_force(self) -> None: ...

    def destroy(self, node: Any) -> None: ...


class Line:
    """A control thread whose every tick is this test's, on a clock of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "RealTimeLoop", Beatless)
        # the tests' own thread keeps the scheduling it has
        monkeypatch.setattr(module, "set_priority", lambda priority: None)
        self.node = rclpy.create_node("control")
        self.node.now = lambda: self.now  # type: ignore[attr-defined]
        self.now, self.due = 10 * NANOSECONDS, 0.0
        self.commands = [np.array(SPEC.home)]
        self.control = ControlThread(self.node, CONTRACT, PERIOD, False, 0.0)
        self.control._joints = Joints(self)  # type: ignore[assignment]
        monkeypatch.setattr(self.control, "_ros_time", lambda moment: self.now)
        self.waiting: list[Any] = []
        self.control.open(0)
        monkeypatch.setattr(module, "taken", self._taken)
        self.control._arm.send = lambda positions: self.commands.append(np.array(positions))  # type: ignore[method-assign]
        self.due = self.control._time.now()
        self.sequence = 0

    def _taken(self, subscription: Any) -> Iterator[tuple[Any, Any]]:
        while self.waiting:
            yield self.waiting.pop(0), None

    def chunk(self, steps: int = 12, period: float = 0.1, dy: float = 0.012) -> bytes:
        self.sequence += 1
        chunk = ActionChunk(
            self.now - 50_000_000, self.sequence, ActionKind.CARTESIAN_DELTA, period,
            np.full(steps, SPEC.gripper.max_width), translation=np.tile([0.0, dy, 0.0], (steps, 1)),
            quaternion=np.tile(rotations.IDENTITY, (steps, 1)),
        )  # fmt: skip
        return bytes(serialize_message(action_chunk_message(chunk, SPEC.base_frame)))

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.due += PERIOD
            self.now += round(PERIOD * NANOSECONDS)
            self.control.loop.prepare(self.due)  # type: ignore[union-attr]
            self.control.loop.tick(self.due)  # type: ignore[union-attr]

    @property
    def state(self) -> SafetyState:
        return self.control.controller.state

    @property
    def speed(self) -> float:
        return float(np.abs(self.control.controller._shield.motion.velocities).max())

    def move(self) -> None:
        """Until it moves fast."""
        self.ticks(2)
        self.waiting.append(self.chunk())
        for _ in range(200):
            self.ticks(1)
            if self.speed > 0.1:
                return
        raise AssertionError("it does not move")

    def judge(self) -> None:
        """No step of the commands is beyond the limits of speed, acceleration and jerk."""
        limits, commands = SPEC.applied, np.array(self.commands)
        for order, most in enumerate((limits.velocity, limits.acceleration, limits.jerk), 1):
            steps = np.abs(np.diff(commands, order, axis=0)) / PERIOD**order
            assert (steps <= most * 1.0001 + 1e-4).all(), f"derivative {order}"

    def close(self) -> None:
        self.control.end()
        self.node.destroy_node()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    context_open = not rclpy.ok()
    if context_open:
        rclpy.init()
    made = Line(monkeypatch)
    yield made
    made.close()
    if context_open:
        rclpy.try_shutdown()


def _raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


STAGES: dict[str, Callable[[Line], tuple[Any, str]]] = {
    "polling of joint states": lambda line: (line.control._joints, "take"),
    "polling of forces": lambda line: (line.control._joints, "take_force"),
    "contact": lambda line: (line.control.controller, "observe"),
    "polling of chunks": lambda line: (line.control, "_new_chunks"),
    "clocks": lambda line: (line.control, "_ros_time"),
    "driver": lambda line: (line.control.driver, "condition"),
    "watchdog": lambda line: (line.control._watchdog, "silence"),
    "supervision": lambda line: (line.control.controller.supervision, "look"),
    "reference": lambda line: (line.control.controller.executor, "sample"),
    "inverse kinematics": lambda line: (line.control.controller._pipeline.ik, "follow_pose"),
    "gripper's speed": lambda line: (line.control.controller._gripper, "update"),
    "state": lambda line: (line.control.controller, "_set_state"),
    "history of what was measured": lambda line: (line.control.controller._measured, "append"),
    "forward kinematics": lambda line: (line.control.controller._kinematics, "forward"),
    "history of targets": lambda line: (line.control.controller.executor, "record"),
    "margins on the way of the stop": lambda line: (line.control.controller._shield, "look_again"),
    "gripper": lambda line: (line.control._gripper, "send"),
    "setpoint": lambda line: (line.control._setpoint, "publish"),
    "status": lambda line: (line.control.status, "collect"),
}
ALONE = ("margins on the way of the stop",)
"""What is not come by but on the stop."""


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_raised_in_any_stage_is_a_stop_within_the_limits(
    line: Line, stage: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.move()
    owner, name = STAGES[stage](line)
    monkeypatch.setattr(owner, name, _raising(error))
    if stage in ALONE:
        line.control.controller.emergency_stop("to come by it")
    before = len(line.commands)
    line.ticks(100)
    assert line.state in LATCHED, line.control.controller.message
    assert line.speed == 0.0
    np.testing.assert_array_equal(line.commands[-1], line.commands[-2])
    assert len(line.commands) == before + 100
    line.judge()
    if stage not in ALONE:
        assert line.state is SafetyState.FAULT
        assert type(error).__name__ in line.control.controller.message


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("stage", ["submit", "blending", "conversion", "journal", "request", "first chunk"])
def test_what_is_raised_by_a_chunk_a_request_or_the_journal_is_a_stop(
    line: Line, stage: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.move()
    control, fail = line.control, _raising(error)
    if stage == "submit":
        monkeypatch.setattr(control.controller.executor, "submit", fail)
        line.waiting.append(line.chunk())
    elif stage == "blending":
        monkeypatch.setattr(type(control.controller.executor.blending), "blend", fail)
        line.waiting.append(line.chunk())
    elif stage == "conversion":
        monkeypatch.setattr(module, "to_action_chunk", fail)
        line.waiting.append(line.chunk())
    elif stage == "first chunk":
        control.on_chunk = fail
        line.waiting.append(line.chunk())
    elif stage == "journal":
        monkeypatch.setattr(control, "_journal", type("Broken", (), {"publish": fail})())
        control.controller.pause(control.moment())
    else:
        done = type("Done", (), {"set": lambda self: None})()
        control._requests.append((fail, [], done))
    line.ticks(100)
    assert line.state is SafetyState.FAULT and line.speed == 0.0
    line.judge()
    assert (
        any("failed" in sentence for sentence in control.sentences) or "failed" in control.controller.message
    )


def test_nothing_else_ends_the_thread_either(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.move()
    monkeypatch.setattr(line.control.driver, "condition", _raising(SystemExit(3)))
    line.ticks(100)
    assert line.state is SafetyState.FAULT and line.speed == 0.0
    line.judge()


def test_an_arm_that_cannot_be_commanded_latches(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.move()
    monkeypatch.setattr(line.control._arm, "send", _raising(RuntimeError("publisher is gone")))
    line.ticks(100)
    assert line.state is SafetyState.FAULT and line.speed == 0.0


def test_one_failure_is_one_line_of_the_journal(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.move()
    told: list[Any] = []
    monkeypatch.setattr(
        line.control, "_journal", type("Kept", (), {"publish": lambda _, m: told.append(m)})()
    )
    monkeypatch.setattr(line.control._gripper, "send", _raising(ValueError("stuck")))
    line.ticks(100)
    events = [json.loads(message.data) for message in told]
    assert [e["event"] for e in events if e["event"] == "stop"] == ["stop"]
    assert events[0]["reason"] == Reason.INTERNAL.value


@pytest.mark.parametrize("joints", [5, 7])
def test_a_state_of_another_robot_is_a_stop(line: Line, joints: int, monkeypatch: pytest.MonkeyPatch) -> None:
    line.move()
    state = JointState(line.now, np.zeros(joints), np.zeros(joints), np.zeros(0))
    monkeypatch.setattr(line.control._joints, "take", lambda: [state])
    line.ticks(100)
    assert line.state is SafetyState.FAULT and line.speed == 0.0
    line.judge()


@pytest.mark.parametrize(
    "steps, period, words",
    [(1000, 0.01, "1000 steps"), (3000, 0.2, "bytes"), (200_000, 0.2, "bytes"), (MAX_STEPS, 0.2, "20 s")],
)
def test_a_chunk_that_is_too_long_is_refused_and_the_motion_goes_on_to_its_end(
    line: Line, steps: int, period: float, words: str
) -> None:
    line.move()
    end = line.control.controller.executor.end_time
    line.waiting.append(line.chunk(steps, period, 0.0001))
    line.ticks(1)
    said = list(line.control.sentences)
    assert any(words in sentence and "allowed" in sentence for sentence in said), said
    assert line.state in (SafetyState.RUNNING, SafetyState.LIMITED)
    assert line.control.controller.executor.end_time == end
    line.ticks(500)
    assert line.state is SafetyState.HOLDING and line.speed < 1e-9
    line.judge()


def test_the_longest_chunk_is_taken(line: Line) -> None:
    line.ticks(2)
    longest = line.chunk(MAX_STEPS, 0.05, 0.0001)
    assert len(longest) < MAX_CHUNK_BYTES
    line.waiting.append(longest)
    line.ticks(50)
    assert line.state in (SafetyState.RUNNING, SafetyState.LIMITED)
    assert line.control.controller.executor.sequence == 1


def test_a_chunk_of_more_bytes_than_any_is_not_unpacked(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.ticks(2)
    monkeypatch.setattr(module, "deserialize_message", _raising(AssertionError("unpacked")))
    line.waiting.append(bytes(MAX_CHUNK_BYTES + 1))
    line.ticks(1)
    assert line.state is SafetyState.IDLE
    assert any(f"{MAX_CHUNK_BYTES + 1} bytes" in sentence for sentence in line.control.sentences)


def test_the_topic_is_what_the_test_thinks(line: Line) -> None:
    assert line.control._chunks.raw and line.control._chunks.msg_type is msg.ActionChunk
    assert line.control._arm.type is Float64MultiArray
