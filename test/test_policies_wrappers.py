"""Policies around policies."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import PolicyError
from vla_ros.policies.base import ActionPrefix, Policy, PrefixPolicy
from vla_ros.policies.replay import ReplayPolicy
from vla_ros.policies.wrappers import Delayed, delayed
from vla_ros.types import ActionKind, JointState, Observation, PolicyOutput, Pose

OBSERVATION = Observation(
    7,
    1,
    {},
    JointState(0, np.zeros(6), np.zeros(0), np.zeros(0)),
    0.05,
    Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])),
)


def test_delay_comes_after_the_answer_and_is_reported() -> None:
    slept: list[float] = []
    inner = ReplayPolicy(np.ones((3, 7)), "bridge")
    policy = Delayed(inner, 0.3, slept.append)
    assert isinstance(policy, Policy)
    policy.load()
    policy.reset("")
    output = policy.infer(OBSERVATION)
    assert slept == [0.3]
    assert output.latency["delay"] == 0.3
    assert output.stamp == OBSERVATION.stamp
    assert policy.requirements == inner.requirements


def test_wrappers_compose() -> None:
    slept: list[float] = []
    policy = Delayed(Delayed(ReplayPolicy(np.ones((3, 7)), "bridge"), 0.1, slept.append), 0.2, slept.append)
    policy.infer(OBSERVATION)
    assert slept == [0.1, 0.2]


@pytest.mark.parametrize("seconds", [-0.1, 61.0, float("nan")])
def test_a_senseless_delay_is_refused(seconds: float) -> None:
    with pytest.raises(PolicyError, match="must be 0 to 60 s"):
        Delayed(ReplayPolicy(np.ones((3, 7)), "bridge"), seconds)


class Conditioned(ReplayPolicy):
    """Tells the number of committed steps."""

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        return PolicyOutput(observation.stamp, 1, "bridge", text=f"after {len(prefix.after)}")


def test_a_delayed_policy_can_be_conditioned_when_the_one_inside_can() -> None:
    slept: list[float] = []
    plain = delayed(ReplayPolicy(np.ones((3, 7)), "bridge"), 0.1, slept.append)
    assert isinstance(plain, Policy) and not isinstance(plain, PrefixPolicy)
    policy = delayed(delayed(Conditioned(np.ones((3, 7)), "bridge"), 0.1, slept.append), 0.2, slept.append)
    assert isinstance(policy, PrefixPolicy)
    prefix = ActionPrefix(ActionKind.JOINT_POSITION, np.array([0.1]), np.zeros((1, 6)), np.array([0.05]))
    output = policy.infer_after(OBSERVATION, prefix)
    assert output.text == "after 1" and output.latency["delay"] == 0.2 and slept == [0.1, 0.2]
    assert policy.infer(OBSERVATION).values is not None and len(slept) == 4
