"""The model's process: answers the node's requests one after the other, and ends when the node does."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from vla_ros.errors import VlaRosError
from vla_ros.policies.base import Policy, PrefixPolicy
from vla_ros.policies.process import messages
from vla_ros.policies.process.channel import Channel, ChannelClosedError
from vla_ros.policies.process.description import described
from vla_ros.policies.process.frames import FrameReader
from vla_ros.policies.registry import contract_policy

_PR_SET_PDEATHSIG = 1
LONGEST_SENTENCE = 600
FIRST_TO_GO = "500"
"""Added to its score when the kernel needs memory: the model goes before the controller does."""


class Servant:
    """One policy and the requests it understands."""

    def __init__(self, channel: Channel, frames: FrameReader) -> None:
        """`channel` to the node, `frames` that it writes."""
        self._channel = channel
        self._frames = frames
        self._policy: Policy | None = None
        self._requests: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "reset": self._reset,
            "infer": self._infer,
            "memory": self._memory,
        }

    def serve(self) -> None:
        """Answer until the node closes the line."""
        while True:
            try:
                request = messages.unpack(self._channel.receive())
                self._channel.send(self._reply(request))
            except ChannelClosedError:
                return

    def _reply(self, request: Mapping[str, Any]) -> bytes:
        begun = time.perf_counter()
        try:
            reply = self._requests[request["do"]](request)
            return messages.pack({"number": request["number"], **reply})
        except VlaRosError as error:
            # what the policy says of itself; the rest is a failure, after which its process is not trusted
            reply = {"error": type(error).__name__, "sentence": one_line(str(error))}
        except Exception as error:
            traceback.print_exc()
            reply = {"failed": one_line(f"{type(error).__name__}: {error}".removesuffix(": "))}
        return messages.pack({"number": request["number"], "seconds": time.perf_counter() - begun, **reply})

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        policy = contract_policy(described(request["description"]))
        policy.load()
        self._policy = policy
        return {}

    def _reset(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._loaded.reset(request["instruction"])
        return {}

    def _infer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        images = self._frames.read(request["frames"])
        observation = messages.observation_in(request["observation"], images)
        policy, prefix = self._loaded, request.get("prefix")
        begun = time.perf_counter()
        if prefix is not None and isinstance(policy, PrefixPolicy):
            output = policy.infer_after(observation, messages.prefix_in(prefix))
        else:
            output = policy.infer(observation)
        seconds = time.perf_counter() - begun
        try:
            return {"seconds": seconds, "output": messages.pack(messages.output_out(output))}
        except VlaRosError as error:
            return {"seconds": seconds, "invalid": one_line(str(error))}

    def _memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Most memory so far, of the process and on the GPU [bytes]."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        torch = sys.modules.get("torch")
        used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
        return {"process": peak, "device": int(torch.cuda.max_memory_allocated()) if torch and used else 0}

    @property
    def _loaded(self) -> Policy:
        if self._policy is None:
            raise RuntimeError("nothing is loaded")
        return self._policy


def one_line(text: str) -> str:
    """The text without line breaks, shortened when it is an essay."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SENTENCE else line[: LONGEST_SENTENCE - 3] + "..."


def end_with(parent: int) -> None:
    """Let the kernel end this process when the one that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # it ended before we asked
        os._exit(1)


def _give_way(nice: int) -> None:
    os.nice(nice)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(FIRST_TO_GO)
    except OSError:
        # without it the kernel chooses by size, which is the model in most cases
        return


def main() -> int:
    """Entry point: descriptors of socket and images, the parent's id, niceness."""
    line, frames, parent, nice = (int(text) for text in sys.argv[1:5])
    end_with(parent)
    _give_way(nice)
    Servant(Channel(socket.socket(fileno=line)), FrameReader(frames)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
