"""Ingester, inference and chunker in one process: what passes, and what must never pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_bench import REFUSED, Bench, bench, domain
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.chunker import Chunker
from vla_ros.nodes.conversions import image_message, policy_output_message, to_stamp, to_time
from vla_ros.nodes.inference import Inference
from vla_ros.nodes.ingester import Ingester
from vla_ros.robots import load_robot
from vla_ros.types import NANOSECONDS, CameraImage, PolicyOutput

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures


def output(bench: Bench, values: np.ndarray, space: str = "delta_tcp", age: float = 0.1) -> msg.PolicyOutput:
    stamp = bench.now() - int(age * NANOSECONDS)
    message = policy_output_message(PolicyOutput(stamp, 1, space, values=values), "test", "pick")
    message.published = to_time(bench.now())
    return message


def test_a_good_output_becomes_a_chunk_with_the_same_stamp(bench: Any) -> None:
    b = bench(Chunker, contract="panda")
    b.up()
    chunks = b.listen(msg.ActionChunk, topics.ACTION_CHUNK)
    publisher = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    sent = output(b, np.array([[0.01, 0, -0.02, 0, 0, 0, 1.0]] * 3))
    publisher.publish(sent)
    assert b.until(lambda: len(chunks) == 1)
    chunk = chunks[0]
    assert to_stamp(chunk.header.stamp) == to_stamp(sent.header.stamp)
    assert chunk.header.frame_id == load_robot("panda").base_frame
    assert [p.position.x for p in chunk.poses] == pytest.approx([0.01] * 3)
    assert list(chunk.gripper_width) == pytest.approx([0.08] * 3)


GOOD = np.zeros((2, 7))
NOT_A_NUMBER, INFINITE = GOOD.copy(), GOOD.copy()
NOT_A_NUMBER[1, 2], INFINITE[0, 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("values", "space", "age", "fragment"),
    [
        (NOT_A_NUMBER, "delta_tcp", 0.1, "finite"),
        (INFINITE, "delta_tcp", 0.1, "finite"),
        (np.zeros((2, 6)), "delta_tcp", 0.1, "(2, 6)"),
        (np.zeros((0, 7)), "delta_tcp", 0.1, "values or tokens"),
        (GOOD, "nonsense", 0.1, "nonsense"),
        (GOOD, "delta_tcp", 11.0, "old"),
        (GOOD, "delta_tcp", -0.5, "future"),
    ],
)
def test_bad_outputs_are_named_and_never_pass(
    bench: Any, values: np.ndarray, space: str, age: float, fragment: str
) -> None:
    b = bench(Chunker, contract="panda")
    b.up()
    chunks = b.listen(msg.ActionChunk, topics.ACTION_CHUNK)
    publisher = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    publisher.publish(output(b, values, space, age))
    assert fragment in b.complaint()
    assert not chunks
    publisher.publish(output(b, GOOD))
    assert b.until(lambda: len(chunks) == 1)


@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        (Chunker, {"contract": "r2d2"}),
        (Inference, {"contract": "panda", "policy": "crystal_ball"}),
        (Inference, {"contract": "panda", "policy_options": "'[1'"}),
        (Ingester, {"contract": "nowhere.yaml"}),
        (Chunker, {"contract": "panda", "action_space": "sideways"}),
    ],
)
def test_a_contract_that_does_not_hold_refuses_to_configure(
    bench: Any, node: Callable[[], Any], parameters: dict[str, str]
) -> None:
    b = bench(node, **parameters)
    assert b.node.trigger_configure() == REFUSED
    assert b.node._state_machine.current_state[1] == "unconfigured"


def test_a_transition_that_does_not_fit_is_refused_and_the_node_lives(bench: Any) -> None:
    b = bench(Chunker, contract="panda")
    client = b.probe.create_client(ChangeState, "/chunker/change_state")
    assert b.until(client.service_is_ready)
    answers = []
    for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, 99):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert b.until(future.done)
        answers.append(future.result().success)
    assert answers == [False, True, False]


class Sensors:
    """Publishes what the panda's cameras and drivers do."""

    def __init__(self, bench: Bench) -> None:
        self.spec = load_robot("panda")
        self.bench = bench
        driver = self.spec.driver
        self.joints = bench.talk(JointState, driver.joint_state_topic)
        self.gripper = bench.talk(JointState, str(driver.gripper["joint_state_topic"]))
        self.cameras = {c.name: bench.talk(Image, c.topic) for c in self.spec.cameras.values()}
        self.random = np.random.default_rng(1)

    def publish(
        self, cameras: tuple[str, ...] = ("primary", "wrist"), names: tuple[str, ...] = (), age: float = 0.0
    ) -> int:
        stamp = self.bench.now() - round(age * NANOSECONDS)
        driver = self.spec.driver
        state = JointState(name=names or driver.joint_names, position=self.spec.home.tolist())
        state.header.stamp = to_time(stamp)
        self.joints.publish(state)
        fingers = JointState(name=driver.gripper["joint_names"], position=[0.04, 0.04])
        fingers.header.stamp = to_time(stamp)
        self.gripper.publish(fingers)
        for _ in range(5):
            self.bench.executor.spin_once(timeout_sec=0.01)
        for name in cameras:
            camera = self.spec.cameras[name]
            rgb = self.random.integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8)
            self.cameras[name].publish(image_message(CameraImage(stamp, rgb)))
        return stamp


def test_frames_and_joints_become_an_observation(bench: Any) -> None:
    b = bench(Ingester, contract="panda")
    b.up()
    observations = b.listen(msg.Observation, topics.OBSERVATION)
    sensors = Sensors(b)
    stamps: set[int] = set()

    def observed() -> bool:
        # on a busy machine a frame may be stale before it is looked at
        if not observations:
            stamps.add(sensors.publish())
        return bool(observations)

    assert b.until(observed)
    got = observations[-1]
    assert to_stamp(got.header.stamp) in stamps
    assert list(got.camera_names) == ["primary", "wrist"]
    assert list(got.joint_state.position) == pytest.approx(sensors.spec.home.tolist())
    assert got.gripper_width == pytest.approx(0.08)
    assert got.tcp_pose.position.x == pytest.approx(0.45, abs=1e-3)


def test_a_silent_camera_is_named(bench: Any) -> None:
    b = bench(Ingester, contract="panda", silence=0.2)
    b.up()
    observations = b.listen(msg.Observation, topics.OBSERVATION)
    sensors = Sensors(b)
    topic = sensors.spec.cameras["wrist"].topic
    heard = b.listen(DiagnosticArray, topics.DIAGNOSTICS)

    def named() -> bool:
        sensors.publish(cameras=("primary",))
        return any(topic in s.message for m in heard for s in m.status)

    assert b.until(named)
    assert not observations


def test_frames_that_waited_for_the_activation_are_no_complaint_but_old_ones_are(bench: Any) -> None:
    b = bench(Ingester, contract="panda", silence=60.0)
    b.up()
    said: list[str] = []
    b.node.get_logger().warning = said.append
    sensors = Sensors(b)
    b.node._activated = b.now()
    sensors.publish(age=0.4)
    assert b.until(lambda: b.node._counts["stale"] >= 1, 2.0)
    assert not said
    b.node._activated = b.now() - round(2.0 * NANOSECONDS)
    sensors.publish(age=0.4)
    assert b.until(lambda: bool(said), 2.0) and "old, allowed are 0.2 s" in said[0]
    b.node._activated = b.now() - round(2.0 * NANOSECONDS)
    b.node._said.clear()
    sensors.publish(age=100.0)
    assert b.until(lambda: len(said) > 1, 2.0), "a camera whose clock is behind is told, however far"


def test_joints_of_another_robot_are_named(bench: Any) -> None:
    b = bench(Ingester, contract="panda")
    b.up()
    observations = b.listen(msg.Observation, topics.OBSERVATION)
    sensors = Sensors(b)
    heard = b.listen(DiagnosticArray, topics.DIAGNOSTICS)

    def counted() -> bool:
        sensors.publish(names=tuple(f"elbow_{i}" for i in range(7)))
        return any(v.key == "joint_names" for m in heard for s in m.status for v in s.values)

    assert b.until(counted)
    assert not observations


def test_no_instruction_no_answer_then_an_error_in_words(bench: Any) -> None:
    b = bench(Inference, contract="panda", policy_rate=20.0)
    b.up()
    answers = b.listen(msg.PolicyOutput, topics.POLICY_OUTPUT)
    observation = b.talk(msg.Observation, topics.OBSERVATION)
    instruction = b.talk(String, topics.INSTRUCTION, topics.LATCHED)
    empty = msg.Observation()
    empty.header.stamp = to_time(b.now())
    observation.publish(empty)
    assert not b.until(lambda: bool(answers), 0.5)
    instruction.publish(String(data="bake a cake"))
    assert b.until(lambda: bool(answers))
    assert "bake a cake" in answers[-1].error and not answers[-1].values and not answers[-1].tokens
    count = len(answers)
    observation.publish(empty)
    assert not b.until(lambda: len(answers) > count, 0.5)


def test_a_failing_policy_is_a_sentence_not_a_crash(bench: Any) -> None:
    b = bench(Inference, contract="panda", policy_rate=20.0)
    b.up()
    b.node._policy = type("Broken", (), {"reset": lambda s, i: None, "infer": lambda s, o: 1 / 0})()
    answers = b.listen(msg.PolicyOutput, topics.POLICY_OUTPUT)
    b.talk(String, topics.INSTRUCTION, topics.LATCHED).publish(String(data="pick up the red block"))
    observation = b.talk(msg.Observation, topics.OBSERVATION)

    def twice() -> bool:
        observation.publish(msg.Observation())
        return len(answers) >= 2

    assert b.until(twice)
    assert "ZeroDivisionError" in answers[-1].error and not answers[-1].values
