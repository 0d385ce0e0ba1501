"""Policies around policies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vla_ros.errors import PolicyError
from vla_ros.policies.base import ActionPrefix, Policy, PolicyRequirements, PrefixPolicy
from vla_ros.types import Observation, PolicyOutput


class Delayed:
    """Answers as another policy does, but `seconds` later: to learn what latency costs.

    The answer keeps the stamp of its observation; the delay is reported as the latency stage "delay".
    """

    def __init__(self, policy: Policy, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` waits; give another where time is simulated.  Raises `PolicyError` unless 0 to 60 s."""
        if not 0.0 <= seconds <= 60.0:
            raise PolicyError(f"The delay is {seconds} s, but must be 0 to 60 s.")
        self._policy = policy
        self._seconds = seconds
        self._sleep = sleep

    @property
    def requirements(self) -> PolicyRequirements:
        """Those of the policy inside."""
        return self._policy.requirements

    def load(self) -> None:
        """Load the policy inside."""
        self._policy.load()

    def reset(self, instruction: str) -> None:
        """Reset the policy inside."""
        self._policy.reset(instruction)

    def infer(self, observation: Observation) -> PolicyOutput:
        """The inner policy's answer, late."""
        return self._late(self._policy.infer(observation))

    def _late(self, output: PolicyOutput) -> PolicyOutput:
        self._sleep(self._seconds)
        return replace(output, latency={**output.latency, "delay": self._seconds})


class DelayedAfter(Delayed):
    """The same for a policy whose answers can be conditioned on what the robot will do anyway."""

    _policy: PrefixPolicy

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        """The inner policy's answer after `prefix`, late."""
        return self._late(self._policy.infer_after(observation, prefix))


def delayed(policy: Policy, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Delayed:
    """`policy` made late, still a `PrefixPolicy` where it is one.  Raises as `Delayed`."""
    kind = DelayedAfter if isinstance(policy, PrefixPolicy) else Delayed
    return kind(policy, seconds, sleep)
