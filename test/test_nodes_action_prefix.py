"""The committed prefix on its way to a policy that can use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from node_bench import Bench, bench, domain
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.execution.blending import make_blending
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import action_prefix_message, observation_message, to_action_prefix, to_stamp
from vla_ros.nodes.inference import FRESH, Inference
from vla_ros.policies import registry
from vla_ros.policies.base import ActionPrefix, PolicyRequirements
from vla_ros.robots import load_robot
from vla_ros.robots.spec import Workspace
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    CameraImage,
    JointState,
    Observation,
    PolicyOutput,
    Pose,
)

pytestmark = pytest.mark.live

__all__ = ["bench", "domain"]  # fixtures
PANDA = load_robot("panda")


class Plain:
    """Answers with one step that stays."""

    def __init__(self, action_space: str = "delta_tcp", rate: float = 5.0) -> None:
        self.requirements = PolicyRequirements(action_space, 20.0, 8)

    def load(self) -> None: ...

    def reset(self, instruction: str) -> None: ...

    def infer(self, observation: Observation, text: str = "alone") -> PolicyOutput:
        return PolicyOutput(
            observation.stamp, observation.sequence, "delta_tcp", values=np.zeros((1, 7)), text=text
        )


class Conditioned(Plain):
    """Tells what it was conditioned on."""

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        due = ", ".join(f"{after:.2f}" for after in prefix.after)
        return self.infer(observation, f"{prefix.kind.name} {due} {prefix.targets[0, 0]:g}")


def plain(robot: object, action_space: str = "delta_tcp", rate: float = 5.0) -> Plain:
    return Plain(action_space, rate)


def conditioned(robot: object, action_space: str = "delta_tcp", rate: float = 5.0) -> Conditioned:
    return Conditioned(action_space, rate)


class Conversation:
    """Asks the inference node with fresh observations, after a prefix of some age or none."""

    def __init__(self, bench: Bench) -> None:
        bench.up()
        self.bench = bench
        self.answers = bench.listen(msg.PolicyOutput, topics.POLICY_OUTPUT)
        self.observation = bench.talk(msg.Observation, topics.OBSERVATION, topics.NEWEST)
        bench.talk(String, topics.INSTRUCTION, topics.LATCHED).publish(String(data="go on"))
        self.prefix = bench.probe.create_publisher(msg.ActionPrefix, topics.ACTION_PREFIX, topics.NEWEST)
        self.sequence = 0

    @property
    def asked_for(self) -> bool:
        """Whether the node wants prefixes."""
        return self.prefix.get_subscription_count() > 0

    def known(self) -> int:
        """Stamp [ns] of the prefix the node knows of; 0: none."""
        prefix = self.bench.node._prefix
        return 0 if prefix is None else to_stamp(prefix.header.stamp)

    def ask(self, age: float | None) -> str:
        """The answer's text.  Steps lie 0.1 s apart, the first 0.05 s after the observation."""
        stamp = self.bench.now()
        if age is not None:
            said = ActionPrefix(
                ActionKind.JOINT_POSITION, 0.05 + age + 0.1 * np.arange(5), np.full((5, 7), 0.5), np.zeros(5)
            )
            said_at = stamp - round(age * NANOSECONDS)
            self.prefix.publish(action_prefix_message(said, said_at, 0.2, PANDA.base_frame))
            if self.asked_for:
                assert self.bench.until(lambda: self.known() == said_at)
        self.sequence += 1
        images = {"primary": CameraImage(stamp, np.zeros((4, 4, 3), np.uint8))}
        joints = JointState(stamp, PANDA.home, np.zeros(0), np.zeros(0))
        pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        observation = Observation(stamp, self.sequence, images, joints, 0.08, pose)
        message = observation_message(observation, PANDA.joint_names, PANDA.base_frame)

        def answered() -> bool:
            self.observation.publish(message)
            return any(answer.sequence == self.sequence for answer in self.answers)

        assert self.bench.until(answered)
        answer = next(answer for answer in self.answers if answer.sequence == self.sequence)
        assert not answer.error
        return str(answer.text)


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (plain, conditioned):
        monkeypatch.setitem(
            registry._FAMILIES, make.__name__, registry.Family(__name__, make.__name__, isolated=False)
        )
    # however busy the machine: only what is meant to be too old is
    monkeypatch.setattr("vla_ros.nodes.inference.FRESH", 20.0)


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_a_policy_that_can_go_on_from_the_committed_steps_is_given_them(bench: Any, delay: float) -> None:
    said = Conversation(bench(Inference, contract="panda", policy="conditioned", policy_delay=delay))
    assert said.bench.until(lambda: said.asked_for)
    assert said.ask(None) == "alone"
    assert said.ask(0.0) == "JOINT_POSITION 0.05, 0.15 0.5"
    # said before the observation was made, with a clock that counts from then
    assert said.ask(0.1) == "JOINT_POSITION 0.05, 0.15 0.5"
    assert said.ask(30.0) == "alone"
    assert 0.0 < FRESH < 1.0


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.08), st.floats(0.0, 0.25))
@settings(max_examples=40, deadline=None)
def test_what_a_policy_is_given_is_what_the_executor_keeps(seed: int, before: float, late: float) -> None:
    """From the executor's present path to the chunk that was answered to an observation made `before`."""
    random, origin = np.random.default_rng(seed), Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    roomy = replace(PANDA, workspace=Workspace(np.full(3, -9.0), np.full(3, 9.0), -9.0))
    executor = ChunkExecutor(roomy, origin, blending=make_blending("rtc"))

    def chunk(stamp: float) -> ActionChunk:
        turns = np.tile(origin.quaternion, (12, 1))
        steps = 0.02 * random.normal(size=(12, 3))
        return ActionChunk(
            round(1e9 * (1.0 + stamp)), 1, ActionKind.CARTESIAN_ABSOLUTE, 0.1,
            random.choice([0.0, 0.08], size=12), translation=steps, quaternion=turns,
        )  # fmt: skip

    for stamp in (0.0, 0.1, 0.2):
        executor.submit(chunk(stamp), stamp + 0.25, stamp)
    now, delay = 0.5, executor.delays.p95
    upcoming = executor.upcoming(now)
    assert upcoming is not None and delay == pytest.approx(0.25)
    second = 10**9
    message = action_prefix_message(upcoming, second + round(now * 1e9), delay, PANDA.base_frame)
    stamp = now - before
    given_to_it = to_action_prefix(message, second + round(stamp * 1e9))
    assert given_to_it is not None and given_to_it.after.max() <= delay
    executor.submit(chunk(stamp), max(stamp + late, now), stamp)
    due = stamp + given_to_it.after
    kept = due > max(stamp + late, now)
    np.testing.assert_allclose(executor.targets.points_at(due[kept]), given_to_it.targets[kept], atol=1e-9)
    openings = [executor.gripper(instant - 1e-5) for instant in due[kept]]
    np.testing.assert_array_equal(openings, given_to_it.gripper_width[kept])


def test_a_policy_that_cannot_is_asked_as_ever(bench: Any) -> None:
    said = Conversation(bench(Inference, contract="panda", policy="plain"))
    assert said.ask(0.0) == "alone" and not said.asked_for
