"""A policy whose model lives in a child process, started again when it fails."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vla_ros.errors import PolicyError, VlaRosError
from vla_ros.policies.base import ActionPrefix, PolicyRequirements, PrefixPolicy
from vla_ros.policies.process import messages
from vla_ros.policies.process.description import describe
from vla_ros.policies.process.screening import check_output
from vla_ros.policies.process.worker import FailureError, ModelProcess
from vla_ros.policies.registry import PolicyContract, contract_policy
from vla_ros.types import Observation, PolicyOutput

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a failed model is started again: doubled with every failure, anew after an answer."""
GIVE_WAY = 5
"""Niceness of a model that computes on the CPU: camera images and commands go before it."""


class IsolatedPolicy:
    """The same protocol as the policy inside.

    A child that crashes, hangs longer than the limit, fails with anything but a `VlaRosError`, or answers
    what is no answer, is ended and counted; a new one is loaded in the background, with a delay that grows,
    and is told the last instruction.  Until it is there `infer` raises at once, with the reason.
    """

    def __init__(
        self,
        contract: PolicyContract,
        answer_limit: float = 2.0,
        load_limit: float = 600.0,
        threads: int = 0,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Nothing is started yet.

        Args:
            contract: names policy, options, robot and cameras.
            answer_limit: longest answer or reset [s].
            load_limit: longest time for loading and warming up [s].
            threads: for the arithmetic of the model; 0: half of the cores.
            tell: is called, from any thread, with a sentence about every failure and recovery.

        Raises `PolicyError` when the policy cannot be made.
        """
        self._name = contract.policy
        self._requirements = contract_policy(contract).requirements
        self._description = describe(contract)
        self._dimension = contract.action_space.dimension
        self._answer_limit, self._load_limit = answer_limit, load_limit
        self._threads = threads or max(1, len(os.sched_getaffinity(0)) // 2)
        self._nice = 0 if self._requirements.machine.device == "cuda" else GIVE_WAY
        self._tell = tell
        self._lock = threading.Lock()
        self._process: ModelProcess | None = None
        self._under_way: ModelProcess | None = None
        """Started, not loaded yet."""
        self._problem = "has not been loaded"
        self._delay = FIRST_DELAY
        self._due = 0.0
        self._instruction: str | None = None
        self._refusal: VlaRosError | None = None
        """What the new process said to the last instruction."""
        self._closed = threading.Event()
        self.counts: Counter[str] = Counter()
        """crashed, hung, invalid, failed, not_started; restarts."""

    @property
    def requirements(self) -> PolicyRequirements:
        """Those of the policy inside."""
        return self._requirements

    @property
    def pid(self) -> int:
        """Process id of the model; 0 when there is none."""
        process = self._process
        return 0 if process is None else process.pid

    @property
    def problem(self) -> str:
        """Why there is no model just now; empty when there is one."""
        with self._lock:
            return self._sentence() if self._process is None else ""

    def load(self) -> None:
        """Start the process, load and warm up.  Raises `PolicyError`."""
        process = self._loaded()
        with self._lock:
            self._process, self._under_way, self._problem = process, None, ""
        if process.ended.is_set():
            self._on_end(process)

    def reset(self, instruction: str) -> None:
        """Begin anew with an instruction; when there is no model just now, the next one is told.

        Raises what the policy raises, `InstructionError` for one.
        """
        with self._lock:
            self._instruction, self._refusal = instruction, None
            process = self._process
        if process is None:
            return
        try:
            process.request("reset", self._answer_limit, instruction=instruction)
        except FailureError as failure:
            # the next process is told; `infer` says what happened
            self._fail(process, failure)

    def infer(self, observation: Observation) -> PolicyOutput:
        """The answer of the model; latency stage "handover" is the way there and back [s].

        Raises what the policy raises, and `PolicyError` when there is no model or no answer.
        """
        return self._ask(observation, {})

    def memory(self) -> dict[str, int]:
        """Most memory used so far, bytes: "process", and "device" on the GPU.  Raises `PolicyError`."""
        process = self._process
        if process is None:
            raise PolicyError(self.problem)
        try:
            reply = process.request("memory", self._answer_limit)
        except FailureError as failure:
            raise self._fail(process, failure) from failure
        return {"process": int(reply["process"]), "device": int(reply["device"])}

    def close(self) -> None:
        """End the process; a request under way raises."""
        self._closed.set()
        with self._lock:
            processes = [one for one in (self._process, self._under_way) if one is not None]
            self._process, self._under_way, self._problem = None, None, "was closed"
        for process in processes:
            process.close()

    def _ask(self, observation: Observation, more: dict[str, Any]) -> PolicyOutput:
        begun = time.perf_counter()
        with self._lock:
            process, refusal = self._process, self._refusal
            if process is None:
                raise PolicyError(self._sentence())
        if refusal is not None:
            raise refusal
        try:
            reply = process.request(
                "infer",
                self._answer_limit,
                observation.images,
                observation=messages.observation_out(observation),
                **more,
            )
            output = self._checked(reply, observation)
        except FailureError as failure:
            raise self._fail(process, failure) from failure
        with self._lock:
            self._delay = FIRST_DELAY
        handover = time.perf_counter() - begun - float(reply["seconds"])
        return replace(output, latency={"handover": handover, **output.latency})

    def _checked(self, reply: dict[str, Any], observation: Observation) -> PolicyOutput:
        try:
            output = messages.output_in(messages.unpack(reply["output"]))
            return check_output(output, observation, self._requirements, self._dimension)
        except (PolicyError, KeyError, AttributeError) as error:
            raise FailureError("invalid", str(error)) from error

    def _loaded(self) -> ModelProcess:
        """A new process with the model in it; raises `PolicyError`."""
        process = ModelProcess(self._threads, self._nice, self._on_end)
        with self._lock:
            self._under_way = process
        try:
            if self._closed.is_set():
                raise PolicyError(f"Policy '{self._name}' was closed.")
            process.request("load", self._load_limit, description=self._description)
            return process
        except FailureError as failure:
            process.kill()
            process.close()
            raise PolicyError(f"Policy '{self._name}' {failure} while it was loaded.") from failure
        except VlaRosError:
            process.close()
            raise

    def _on_end(self, process: ModelProcess) -> None:
        if process is self._process:
            self._fail(process, FailureError("crashed", f"is gone: {process.how_it_ended}"))

    def _fail(self, process: ModelProcess, failure: FailureError) -> PolicyError:
        """Give up a process, once, and have another one started; the sentence to raise."""
        with self._lock:
            if process is not self._process:
                return PolicyError(self._sentence())
            self._process = None
            self.counts[failure.kind] += 1
            self._problem = str(failure)
            delay = self._next_delay()
            sentence = self._sentence()
        process.kill()
        threading.Thread(target=process.close, name="model end", daemon=True).start()
        self._tell(sentence)
        threading.Thread(target=self._start_again, args=(delay,), name="model start", daemon=True).start()
        return PolicyError(sentence)

    def _next_delay(self) -> float:
        delay = self._delay
        self._delay = min(2.0 * delay, LONGEST_DELAY)
        self._due = time.monotonic() + delay
        return delay

    def _start_again(self, delay: float) -> None:
        while not self._closed.wait(delay):
            begun = time.monotonic()
            try:
                process = self._loaded()
            except VlaRosError as error:
                if self._closed.is_set():
                    return
                with self._lock:
                    self._under_way = None
                    self.counts["not_started"] += 1
                    self._problem = f"could not be started again: {str(error).rstrip('.')}"
                    delay = self._next_delay()
                    sentence = self._sentence()
                self._tell(sentence)
                continue
            failure = self._instructed(process)
            if failure is None:
                self._tell(
                    f"Policy '{self._name}' is there again, loaded in {time.monotonic() - begun:.1f} s."
                )
                return
            process.kill()
            process.close()
            with self._lock:
                self.counts[failure.kind] += 1
                self._problem = str(failure)
                delay = self._next_delay()

    def _instructed(self, process: ModelProcess) -> FailureError | None:
        """Tell a new process the last instruction and take it into service; None, or why that failed."""
        told: str | None = None
        refusal: VlaRosError | None = None
        while True:
            with self._lock:
                wanted = self._instruction
                if wanted == told or self._closed.is_set():
                    self._refusal = refusal
                    self._process, self._under_way, self._problem = process, None, ""
                    self.counts["restarts"] += 1
                    break
            refusal, told = None, wanted
            try:
                process.request("reset", self._answer_limit, instruction=wanted)
            except FailureError as failure:
                return failure
            except VlaRosError as error:
                refusal = error
        if self._closed.is_set():
            self.close()
        elif process.ended.is_set():
            self._on_end(process)
        return None

    def _sentence(self) -> str:
        """Why there is no answer, and what is done about it."""
        left = self._due - time.monotonic()
        if self._closed.is_set() or self._problem == "has not been loaded":
            return f"Policy '{self._name}' {self._problem}."
        then = f"it is started again in {left:.1f} s" if left > 0.0 else "it is being started again"
        return f"Policy '{self._name}' {self._problem}; {then}."


class IsolatedPrefixPolicy(IsolatedPolicy):
    """The same for a policy whose answers can be conditioned on what the robot will do anyway."""

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        """Like `infer`, with an answer that goes on from `prefix`."""
        return self._ask(observation, {"prefix": messages.prefix_out(prefix)})


def isolated(contract: PolicyContract, **limits: Any) -> IsolatedPolicy:
    """The contract's policy in a process of its own; `limits` as `IsolatedPolicy` takes them.

    Raises `PolicyError` when it cannot be made.
    """
    inside = contract_policy(contract)
    kind = IsolatedPrefixPolicy if isinstance(inside, PrefixPolicy) else IsolatedPolicy
    return kind(contract, **limits)
