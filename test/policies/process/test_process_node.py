"""The inference node with a model in a process of its own, and the chunker that reads its answers."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from node_bench import REFUSED, Bench, bench, domain
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.chunker import Chunker
from vla_ros.nodes.conversions import observation_message, to_stamp
from vla_ros.nodes.inference import Inference
from vla_ros.robots import load_robot
from vla_ros.types import CameraImage, JointState, Observation, Pose

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures

ROBOT = load_robot("panda")


def custom(**options: Any) -> dict[str, str]:
    text = ", ".join(f"{key}: {value}" for key, value in options.items())
    return {
        "contract": "panda",
        "policy": "custom",
        "policy_options": f"'{{factory: scripted_policies:make, {text}}}'",
    }


def seen(bench: Bench, sequence: int, value: int = 10) -> msg.Observation:
    stamp = bench.now()
    image = CameraImage(stamp, np.full((24, 32, 3), value, np.uint8))
    joints = JointState(stamp, ROBOT.home, np.zeros(7), np.zeros(7))
    pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    observation = Observation(stamp, sequence, {"primary": image}, joints, 0.04, pose)
    return observation_message(observation, ROBOT.joint_names, ROBOT.base_frame)


class Talk:
    """Shows the node an observation again and again and keeps what it answers."""

    def __init__(self, made: Bench, instruction: str) -> None:
        self.bench = made
        self.answers = made.listen(msg.PolicyOutput, topics.POLICY_OUTPUT)
        self.diagnostics = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
        self._instruction = made.talk(String, topics.INSTRUCTION, topics.LATCHED)
        self._observation = made.talk(msg.Observation, topics.OBSERVATION)
        self.sequence = 0
        self.instruct(instruction)

    def instruct(self, instruction: str) -> None:
        self._instruction.publish(String(data=instruction))

    def show(self) -> None:
        self.sequence += 1
        self._observation.publish(seen(self.bench, self.sequence))

    def until(self, condition: Any, limit: float = 30.0) -> bool:
        def looked() -> bool:
            self.show()
            return bool(condition())

        return self.bench.until(looked, limit)

    def good(self) -> list[msg.PolicyOutput]:
        return [answer for answer in self.answers if not answer.error]

    def bad(self) -> list[str]:
        return [answer.error for answer in self.answers if answer.error]

    def count(self, key: str) -> str:
        values = [v.value for m in self.diagnostics for s in m.status for v in s.values if v.key == key]
        return values[-1] if values else ""


def test_answers_carry_stamp_and_latency_of_every_stage(bench: Any) -> None:
    b = bench(Inference, **custom(), policy_rate=50.0, max_inference_time=20.0)
    b.up()
    talk = Talk(b, "pick")
    assert talk.until(lambda: len(talk.good()) >= 3)
    answer = talk.good()[-1]
    assert list(answer.stage_names) == ["waiting", "handover", "decode", "total"]
    stages = dict(zip(answer.stage_names, answer.stage_seconds, strict=True))
    assert stages["total"] >= stages["handover"] > 0.0
    assert answer.instruction == "pick" and to_stamp(answer.header.stamp) > 0
    assert answer.values[0] == pytest.approx(0.01) and (answer.horizon, answer.dimension) == (4, 7)
    pid = b.node._isolated.pid
    assert answer.text == f"pick {pid}"
    # inactive it stays loaded, cleaned up it is gone
    b.node.trigger_deactivate()
    os.kill(pid, 0)
    b.node.trigger_cleanup()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_model_is_an_error_in_words_then_comes_back_with_the_instruction(bench: Any) -> None:
    b = bench(Inference, **custom(), policy_rate=50.0, max_inference_time=20.0)
    b.up()
    heartbeats = b.listen(msg.Heartbeat, topics.HEARTBEAT)
    talk = Talk(b, "pick")
    assert talk.until(lambda: talk.good())
    first = b.node._isolated.pid
    os.kill(first, signal.SIGKILL)
    assert talk.until(lambda: talk.bad())
    assert "ended by SIGKILL" in talk.bad()[-1] and "started again" in talk.bad()[-1]
    # the node itself lives and says so
    beats = len(heartbeats)
    assert talk.until(lambda: len(heartbeats) > beats)
    known = len(talk.good())
    assert talk.until(lambda: len(talk.good()) > known)
    assert talk.good()[-1].text == f"pick {b.node._isolated.pid}" and b.node._isolated.pid != first
    assert talk.until(lambda: talk.count("restarts") == "1" and talk.count("crashed") == "1")


@pytest.mark.parametrize(("word", "fragment"), [("nan", "nan at step 2"), ("shape", "(4, 6)")])
def test_what_is_no_answer_never_leaves_the_node(bench: Any, word: str, fragment: str) -> None:
    b = bench(Inference, **custom(), policy_rate=50.0, max_inference_time=20.0)
    b.up()
    talk = Talk(b, f"do {word}")
    assert talk.until(lambda: talk.bad())
    assert fragment in talk.bad()[0] and not talk.good()
    assert not talk.answers[0].values and not talk.answers[0].tokens
    talk.instruct("pick")
    assert talk.until(lambda: talk.good())
    assert talk.until(lambda: talk.count("invalid") not in ("", "0"))


def test_a_hung_model_silences_nothing_but_its_own_answer(bench: Any) -> None:
    b = bench(Inference, **custom(), policy_rate=50.0, max_inference_time=0.5)
    b.up()
    talk = Talk(b, "do hang")
    assert talk.until(lambda: talk.bad())
    assert "did not answer within 0.5 s" in talk.bad()[0]
    talk.instruct("pick")
    assert talk.until(lambda: talk.good())


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"load": "refuse"}, "The weights are missing."),
        ({"load": "crash"}, "status 7 while it was loaded"),
        ({"answers": 0.5}, "would starve between chunks"),
    ],
)
def test_a_policy_that_does_not_load_or_fit_refuses_to_configure(
    bench: Any, options: dict[str, Any], fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(Inference, **custom(**options))
    said: list[str] = []
    logger = b.node.get_logger()
    monkeypatch.setattr(b.node, "get_logger", lambda: logger)
    monkeypatch.setattr(logger, "error", said.append)
    assert b.node.trigger_configure() == REFUSED
    assert len(said) == 1 and fragment in said[0]


def test_closing_the_node_does_not_wait_for_an_answer(bench: Any) -> None:
    b = bench(Inference, **custom(), policy_rate=50.0, max_inference_time=100.0)
    b.up()
    talk = Talk(b, "do hang")
    assert talk.until(lambda: b.node._busy_since is not None and b.node._counts["observations"] > 1)
    begun = time.monotonic()
    closing = threading.Thread(target=b.node.close)
    closing.start()
    closing.join(20.0)
    assert not closing.is_alive() and time.monotonic() - begun < 10.0


@pytest.mark.parametrize("scaled", ["values", "tokens"])
def test_the_chunker_takes_out_what_the_policy_declares(bench: Any, scaled: str) -> None:
    b = bench(Chunker, **custom(scaled=scaled))
    b.up()
    chunks = b.listen(msg.ActionChunk, topics.ACTION_CHUNK)
    publisher = b.talk(msg.PolicyOutput, topics.POLICY_OUTPUT)
    output = msg.PolicyOutput(action_space="delta_tcp", normalization_key="kitchen", horizon=1, dimension=7)
    output.header.stamp = seen(b, 1).header.stamp
    if scaled == "values":
        output.values = [0.5] * 7
    else:
        output.tokens = [500 - 192] * 7
    publisher.publish(output)
    assert b.until(lambda: len(chunks) == 1)
    # half of the way from -0.02 to 0.02 m, to half a bin
    assert chunks[0].poses[0].position.x == pytest.approx(0.01, abs=0.5 * 0.04 / 255)
    output.normalization_key = ""
    publisher.publish(output)
    assert "by no data set, but the policy declares 'kitchen'" in b.complaint()
    assert len(chunks) == 1


def test_an_old_observation_is_never_answered_while_a_newer_one_waits(bench: Any) -> None:
    b = bench(Inference, **custom(), policy_rate=5.0, max_inference_time=20.0)
    b.up()
    talk = Talk(b, "pick")
    assert talk.until(lambda: len(talk.good()) >= 4)
    sequences = [answer.sequence for answer in talk.good()]
    assert sequences == sorted(set(sequences))
    assert talk.until(lambda: int(talk.count("dropped") or 0) > 0)
    assert sequences[-1] - sequences[0] > len(sequences)
