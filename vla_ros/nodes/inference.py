"""Node `inference`: runs a policy on the newest observation; knows nothing of motion.

A policy with a model is run in a process of its own (`policies/process`): what it does there, and whether it
lives, is none of this process' business but for the sentence that it publishes instead of an answer.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rclpy.clock import Clock, ClockType
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.contract import Contract
from vla_ros.errors import PolicyError, VlaRosError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaLifecycleNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.conversions import (
    policy_output_message,
    to_action_prefix,
    to_observation,
    to_stamp,
    to_time,
)
from vla_ros.nodes.heartbeat import Heartbeat
from vla_ros.nodes.parameters import Parameter
from vla_ros.policies.base import ActionPrefix, Policy, PrefixPolicy
from vla_ros.policies.machine import this_machine
from vla_ros.policies.process.screening import check_output
from vla_ros.policies.registry import contract_policy, family
from vla_ros.policies.wrappers import delayed
from vla_ros.preflight import preflight
from vla_ros.suitability import doubtful
from vla_ros.types import NANOSECONDS, Observation, PolicyOutput

if TYPE_CHECKING:
    from vla_ros.policies.process.isolated import IsolatedPolicy

Result = TypeVar("Result")
FRESH = 0.25
"""An action prefix older than this [s] says nothing any more; while the robot moves, twenty a second come."""


class Inference(VlaLifecycleNode):
    """One worker thread answers the newest observation; older ones are dropped and counted."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter(
            "policy_rate", 0.0, "Answers per second [Hz]; 0: what the policy is meant for.", 0.0, 100.0
        ),
        Parameter("policy_delay", 0.0, "Added to every answer's latency, for experiments [s].", 0.0, 10.0),
        Parameter(
            "max_inference_time",
            2.0,
            "A longer answer silences the heartbeat; a model in its own process is started again [s].",
            0.1,
            600.0,
        ),
        Parameter("load_timeout", 540.0, "Longest time for loading and warming up a model [s].", 1.0, 3600.0),
        Parameter("policy_threads", 0, "Threads of a model on the CPU; 0: half of the cores.", 0, 256),
    )

    def __init__(self) -> None:
        super().__init__("inference")
        self._wake = threading.Condition()
        self._worker: threading.Thread | None = None
        self._busy_since: float | None = None
        """When the policy began with what it is doing [s]."""
        self._isolated: IsolatedPolicy | None = None
        """The policy, when its model lives in a process of its own."""

    def configure(self) -> None:
        """Load and warm up the policy."""
        contract = contract_of(self)
        self._policy_name = contract.policy
        self._dimension = contract.action_space.dimension
        self._policy = self._make_policy(contract)
        needs = self._needs = self._policy.requirements
        preflight(contract, needs)
        for doubt in doubtful(contract, needs, this_machine()):
            self.get_logger().warning(doubt)
        self._policy.load()
        self._period = 1.0 / (self.value("policy_rate") or needs.rate)
        if self.value("policy_delay") > 0.0:
            self._policy = delayed(self._policy, self.value("policy_delay"))
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._publisher = self.create_publisher(msg.PolicyOutput, topics.POLICY_OUTPUT, topics.RELIABLE)
        # a new reader holds the writer of images up (config/fastdds_udp.xml): it joins before anything moves
        self._observed = self.create_subscription(
            msg.Observation, topics.OBSERVATION, self._on_observation, topics.NEWEST
        )

    def _make_policy(self, contract: Contract) -> Policy:
        if not family(contract.policy).isolated:
            return contract_policy(contract)
        from vla_ros.policies.process.isolated import isolated

        self._isolated = isolated(
            contract,
            answer_limit=self.value("max_inference_time"),
            load_limit=self.value("load_timeout"),
            threads=self.value("policy_threads"),
            tell=self.get_logger().warning,
        )
        return self._isolated

    def activate(self) -> None:
        """Start the worker, subscribe."""
        self._observation: msg.Observation | None = None
        self._prefix: msg.ActionPrefix | None = None
        self._instruction: str = ""
        self._new_instruction = False
        self._running = True
        self._worker = threading.Thread(target=self._work, name="policy", daemon=True)
        self._worker.start()
        self._heartbeat = Heartbeat(self, "inference", self._lives)
        self._subscriptions_made = [
            self.create_subscription(String, topics.INSTRUCTION, self._on_instruction, topics.LATCHED),
        ]
        if isinstance(self._policy, PrefixPolicy):
            self._subscriptions_made.append(
                self.create_subscription(
                    msg.ActionPrefix, topics.ACTION_PREFIX, self._on_prefix, topics.NEWEST
                )
            )
        self._timer = self.create_timer(0.5, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Stop the worker; an answer under way is discarded."""
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self.destroy_timer(self._timer)
        self._heartbeat.destroy()
        self._end_worker()

    def cleanup(self) -> None:
        """Give the topics and the model's process back."""
        self.destroy_subscription(self._observed)
        self.destroy_publisher(self._publisher)
        self.close()

    def close(self) -> None:
        """End the model's process and the worker."""
        with self._wake:
            self._running = False
        if self._isolated is not None:
            # first: an answer under way ends with it
            self._isolated.close()
            self._isolated = None
        self._end_worker()

    def _end_worker(self) -> None:
        with self._wake:
            self._running = False
            self._wake.notify()
        if self._worker is not None:
            self._worker.join(timeout=1.0)
            self._worker = None

    def _on_instruction(self, message: String) -> None:
        with self._wake:
            self._instruction = message.data.strip()
            self._new_instruction = True
            self._observation = None
            self._problem = ""
            self._wake.notify()

    def _on_observation(self, message: msg.Observation) -> None:
        if self._worker is None:
            return
        with self._wake:
            if self._observation is not None:
                self._counts["dropped"] += 1
            self._observation = message
            self._counts["observations"] += 1
            self._wake.notify()

    def _on_prefix(self, message: msg.ActionPrefix) -> None:
        self._prefix = message

    def _work(self) -> None:
        due = 0.0
        while (job := self._next_job(due)) is not None:
            observation, instruction = job
            if observation is not None:
                due = max(due + self._period, time.monotonic())
                self._answer(observation, instruction)
            elif not self._guarded(partial(self._reset, instruction), None, instruction):
                with self._wake:
                    if not self._new_instruction:
                        self._instruction = ""

    def _next_job(self, due: float) -> tuple[msg.Observation | None, str] | None:
        """Wait for the next thing to do: None ends the worker, no observation means a new instruction."""
        with self._wake:
            while self._running:
                if self._new_instruction:
                    self._new_instruction = False
                    if self._instruction:
                        return None, self._instruction
                early = due - time.monotonic()
                if self._instruction and self._observation is not None and early <= 0.0:
                    observation, self._observation = self._observation, None
                    return observation, self._instruction
                self._wake.wait(early if early > 0.0 else None)
        return None

    def _reset(self, instruction: str) -> bool:
        self._policy.reset(instruction)
        return True

    def _answer(self, message: msg.Observation, instruction: str) -> None:
        received, begun = self.now(), time.perf_counter()

        def infer() -> PolicyOutput:
            observation = to_observation(message, instruction, topics.OBSERVATION)
            return self._screened(self._inferred(observation), observation)

        output = self._guarded(infer, message, instruction)
        if output is None:
            return
        answer = policy_output_message(output, self._policy_name, instruction)
        waiting = (received - to_stamp(message.header.stamp)) / NANOSECONDS
        answer.stage_names = ["waiting", *answer.stage_names, "total"]
        answer.stage_seconds = [waiting, *answer.stage_seconds, time.perf_counter() - begun]
        self._counts["answers"] += 1
        self._publish(answer, instruction)

    def _inferred(self, observation: Observation) -> PolicyOutput:
        prefix = self._committed(observation.stamp)
        if prefix is None or not isinstance(self._policy, PrefixPolicy):
            return self._policy.infer(observation)
        self._counts["conditioned"] += 1
        return self._policy.infer_after(observation, prefix)

    def _screened(self, output: PolicyOutput, observation: Observation) -> PolicyOutput:
        if self._isolated is not None:
            # it has been, where a model that answers wrongly is started again
            return output
        try:
            return check_output(output, observation, self._needs, self._dimension)
        except PolicyError as error:
            raise PolicyError(f"Policy '{self._policy_name}' {error}.") from error

    def _committed(self, stamp: int) -> ActionPrefix | None:
        """What the robot will do whatever is answered to the observation of `stamp` [ns]; None: unknown."""
        upcoming = self._prefix
        if upcoming is None or self.now() - to_stamp(upcoming.header.stamp) > FRESH * NANOSECONDS:
            return None
        return to_action_prefix(upcoming, stamp)

    def _guarded(
        self, step: Callable[[], Result], message: msg.Observation | None, instruction: str
    ) -> Result | None:
        """Run one step of the policy; what goes wrong becomes a sentence, never an action."""
        self._busy_since = time.monotonic()
        try:
            result = step()
            self._problem = ""
            return result
        except VlaRosError as error:
            if not self._running:
                # its process was ended under it, which is nobody's trouble
                return None
            sentence = str(error)
        except Exception as error:
            sentence = f"Policy '{self._policy_name}' failed with {type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc(), throttle_duration_sec=5.0)
        finally:
            self._busy_since = None
        self._counts["errors"] += 1
        self._problem = sentence
        self.get_logger().error(sentence, throttle_duration_sec=1.0)
        answer = msg.PolicyOutput(policy=self._policy_name, error=sentence, instruction=instruction)
        if message is not None:
            answer.header.stamp = message.header.stamp
            answer.sequence = message.sequence
        self._publish(answer, instruction)
        return None

    def _publish(self, answer: msg.PolicyOutput, instruction: str) -> None:
        with self._wake:
            outdated = not self._running or self._new_instruction or self._instruction != instruction
        if outdated:
            self._counts["outdated"] += 1
            return
        answer.published = to_time(self.now())
        self._publisher.publish(answer)

    def _lives(self) -> bool:
        """Whether the worker is there and not hung in an answer."""
        since, worker = self._busy_since, self._worker
        hung = since is not None and time.monotonic() - since > self.value("max_inference_time")
        return worker is not None and worker.is_alive() and not hung

    def _report(self) -> None:
        problem, counts, policy = self._problem, dict(self._counts), self._isolated
        if policy is not None:
            problem = policy.problem or problem
            counts |= {"restarts": policy.counts["restarts"], **policy.counts}
        self.diagnose(problem, counts)


def main() -> int:
    """Entry point."""
    return run(Inference)


if __name__ == "__main__":
    sys.exit(main())
