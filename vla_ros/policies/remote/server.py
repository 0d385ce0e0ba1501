"""Serves a policy to clients of openpi's wire form, ours and theirs; on this machine only unless told more.

A policy with a memory of its own (an instruction, frames seen before) serves one client; one that can answer
a batch (`infer_batch`) serves several, whose observations of a moment are answered together.
"""

from __future__ import annotations

import errno
import http
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from vla_ros.actions.normalization import unnormalize
from vla_ros.actions.space import get_action_space
from vla_ros.errors import PolicyError, VlaRosError
from vla_ros.policies.base import Policy
from vla_ros.policies.remote.layout import Layout, observation
from vla_ros.policies.remote.security import allowed, loopback, server_tls
from vla_ros.policies.remote.wire import MAX_FRAME, pack, unpack
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Observation, PolicyOutput

HEALTH = "/healthz"


@runtime_checkable
class BatchPolicy(Policy, Protocol):
    """A policy that answers several robots at once; each observation carries its own instruction."""

    def infer_batch(self, observations: Sequence[Observation]) -> list[PolicyOutput]:
        """One answer each, in order."""
        ...


@dataclass(frozen=True)
class ServerOptions:
    """How to serve."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    certificate: str = ""
    key: str = ""
    clients: int = 8
    """At once, for a policy that answers batches; else one."""
    rate: float = 50.0
    """Requests a client may make per second [Hz]; more are made to wait."""
    deadline: float = 0.005
    """Longest wait for others to share a batch [s]."""
    batch: int = 8
    answer_limit: float = 30.0
    """Longest wait for the policy's answer [s]: a policy that hangs must not keep a client's place."""


@dataclass
class _Job:
    observation: Observation
    done: threading.Event = field(default_factory=threading.Event)
    output: PolicyOutput | None = None
    refusal: str = ""
    seconds: float = 0.0


class PolicyServer:
    """Listens as soon as it is made; `serve_forever` blocks, `close` ends it."""

    def __init__(
        self, policy: Policy, robot: RobotSpec, form: Layout, options: ServerOptions | None = None
    ) -> None:
        """`policy` is loaded already.  Raises `PolicyError` for unsafe options or a port that is taken."""
        self._policy, self._robot, self._form = policy, robot, form
        self._options = options = options or ServerOptions()
        if not loopback(options.host) and not options.token:
            raise PolicyError(
                f"Serving on {options.host} lets other machines in, which needs a token (--token-file); "
                "without one only 127.0.0.1 is served."
            )
        needs = policy.requirements
        self._cameras = tuple(need.name for need in needs.cameras)
        self._space = get_action_space(needs.action_space, robot.dof, needs.action_rate)
        self._batches = isinstance(policy, BatchPolicy)
        self._places = threading.Semaphore(options.clients if self._batches else 1)
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._instruction: str | None = None
        self._count = 0
        try:
            self._server: Server = serve(
                self._talk, options.host, options.port, ssl=server_tls(options.certificate, options.key),
                compression=None, max_size=MAX_FRAME, process_request=self._admit, close_timeout=1.0,
            )  # fmt: skip
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "the port is in use; --port 0 takes any that is free"
            else:
                why = str(error.strerror or error)
            raise PolicyError(f"Cannot serve on {options.host}:{options.port}: {why}.") from error
        self.port = int(self._server.socket.getsockname()[1])
        """The port that is listened on."""
        self._worker = threading.Thread(target=self._work, name="policy", daemon=True)
        self._worker.start()

    def serve_forever(self) -> None:
        """Serve until `close`."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening; what is being answered is answered."""
        self._server.shutdown()
        self._jobs.put(None)
        self._worker.join(timeout=5.0)

    def _admit(self, connection: ServerConnection, asked: Request) -> Response | None:
        if asked.path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._options.token and not allowed(cast(Any, asked.headers), self._options.token):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "The token is missing or wrong.\n")
        return None

    def _talk(self, connection: ServerConnection) -> None:
        if not self._places.acquire(blocking=False):
            connection.close(1013, "The policy serves all the clients it can.")
            return
        try:
            connection.send(pack(self._metadata()))
            due = time.monotonic()
            while True:
                frame = connection.recv()
                pause = due - time.monotonic()
                if pause > 0.0:
                    time.sleep(pause)
                due = max(due, time.monotonic()) + 1.0 / self._options.rate
                connection.send(self._reply(frame))
        except ConnectionClosed:
            return
        finally:
            self._places.release()

    def _reply(self, frame: str | bytes) -> str | bytes:
        """An answer in bytes, or what was wrong in a sentence, which openpi's clients raise."""
        try:
            message = unpack(frame) if isinstance(frame, bytes) else None
            if not isinstance(message, dict):
                raise PolicyError("A request must be a map in msgpack.")
            self._count += 1
            seen = observation(message, self._form, self._cameras, self._robot, self._count, time.time_ns())
            job = _Job(seen)
            self._jobs.put(job)
            limit = time.monotonic() + self._options.answer_limit
            while not job.done.wait(min(0.5, self._options.answer_limit)):
                if not self._worker.is_alive():
                    raise PolicyError("The server is ending.")
                if time.monotonic() > limit:
                    raise PolicyError(f"The policy did not answer within {self._options.answer_limit:g} s.")
            if job.output is None:
                return job.refusal
            return pack(self._answer(job.output, job.seconds))
        except VlaRosError as error:
            return str(error)

    def _answer(self, output: PolicyOutput, seconds: float) -> dict[str, Any]:
        answer: dict[str, Any] = {"server_timing": {"infer_ms": 1000.0 * seconds}}
        if output.terminate:
            answer["terminate"] = True
        if output.text:
            answer["text"] = output.text
        actions = self._physical(output)
        if actions is not None:
            answer["actions"] = actions.astype(np.float32)
        return answer

    def _physical(self, output: PolicyOutput) -> Array | None:
        """Steps (horizon, dimension) in the action space's own units."""
        needs = self._policy.requirements
        values = output.values
        if output.tokens is not None and needs.codec is not None:
            values = needs.codec.decode(output.tokens)
        if values is None:
            return None
        if needs.normalization is not None:
            values = unnormalize(values, needs.normalization.kind, needs.normalization.statistics)
        if not np.isfinite(values).all():
            raise PolicyError("The policy answered numbers that are not finite.")
        return values

    def _metadata(self) -> dict[str, Any]:
        needs = self._policy.requirements
        return {
            "server": "vla_ros", "robot": self._robot.name, "action_space": needs.action_space,
            "action_rate": self._space.rate, "horizon": needs.horizon, "layout": self._form.name,
            "cameras": list(self._cameras), "dimensions": list(self._space.dimensions),
        }  # fmt: skip

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            until = time.monotonic() + self._options.deadline
            while self._batches and len(jobs) < self._options.batch:
                try:
                    other = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if other is None:
                    self._jobs.put(None)
                    break
                jobs.append(other)
            self._answer_jobs(jobs)

    def _answer_jobs(self, jobs: list[_Job]) -> None:
        self._answer_together(jobs)
        if len(jobs) > 1 and all(job.output is None for job in jobs):
            # what is wrong with one must not cost the others their answer
            for job in jobs:
                self._answer_together([job])
        for job in jobs:
            job.done.set()

    def _answer_together(self, jobs: list[_Job]) -> None:
        begun = time.perf_counter()
        try:
            if isinstance(self._policy, BatchPolicy):
                outputs = self._policy.infer_batch([job.observation for job in jobs])
            else:
                outputs = [self._one(job.observation) for job in jobs]
            for job, output in zip(jobs, outputs, strict=True):
                job.output = output
        except VlaRosError as error:
            self._refuse(jobs, str(error))
        except Exception as error:
            # what failed inside is for the log of the server, not for the network
            self._refuse(jobs, f"The policy failed with {type(error).__name__}.")
        seconds = time.perf_counter() - begun
        for job in jobs:
            job.seconds = seconds

    def _one(self, seen: Observation) -> PolicyOutput:
        if seen.instruction != self._instruction:
            self._policy.reset(seen.instruction)
            self._instruction = seen.instruction
        return self._policy.infer(seen)

    @staticmethod
    def _refuse(jobs: list[_Job], sentence: str) -> None:
        for job in jobs:
            job.output, job.refusal = None, sentence
