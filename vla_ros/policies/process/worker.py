"""One child process with a model in it, from start to end: requests, time limits, how it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from vla_ros import errors
from vla_ros.errors import PolicyError, VlaRosError
from vla_ros.policies.process import messages
from vla_ros.policies.process.channel import Channel, ChannelClosedError, ChannelTimeoutError
from vla_ros.policies.process.frames import FrameWriter
from vla_ros.types import CameraImage

CHILD = "vla_ros.policies.process.child"
FAREWELL = 0.2
"""Seconds a child has to end by itself when it is no longer needed."""
REAPED = 2.0
"""Longest wait for the kernel to end a killed child [s]."""


class FailureError(Exception):
    """The child can no longer be trusted; the kind, and the end of a sentence about it."""

    def __init__(self, kind: str, sentence: str) -> None:
        """`kind`: crashed, hung, invalid or failed."""
        super().__init__(sentence)
        self.kind = kind


class ModelProcess:
    """A child, in a session of its own, that this process has started and ends."""

    def __init__(
        self, threads: int, nice: int = 0, on_end: Callable[[ModelProcess], None] = lambda child: None
    ) -> None:
        """Start it with so many threads for arithmetic; `on_end` is called, from a thread, when it has ended.

        Raises `PolicyError` when it cannot be started.
        """
        self._threads = threads
        self._nice = nice
        self._on_end = on_end
        try:
            self._frames = FrameWriter()
            ours, self._theirs = socket.socketpair()
        except OSError as error:
            raise PolicyError(f"The process of the policy cannot be started: {error}.") from error
        self._channel = Channel(ours)
        self._number = 0
        self._using, self._lock = threading.Lock(), threading.Lock()
        self._reaped = False
        self._child: subprocess.Popen[bytes] | None = None
        self._problem: OSError | None = None
        self._started, self.ended = threading.Event(), threading.Event()
        # the kernel ends a child with the thread that started it: this one lives as long as the child does
        self._keeper = threading.Thread(target=self._keep, name="model process", daemon=True)
        self._keeper.start()
        self._started.wait()
        if self._child is None:
            raise PolicyError(f"The process of the policy cannot be started: {self._problem}.")

    @property
    def pid(self) -> int:
        """Its process id."""
        return 0 if self._child is None else self._child.pid

    @property
    def how_it_ended(self) -> str:
        """In words; of a child that has ended."""
        status = None if self._child is None else self._child.returncode
        if status is None:
            return "its line was closed"
        if status < 0:
            name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
            hint = ", as when memory runs out" if -status == signal.SIGKILL else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended with status {status}"

    def request(
        self,
        what: str,
        limit: float,
        images: Mapping[str, CameraImage] | None = None,
        **content: Any,
    ) -> dict[str, Any]:
        """Ask for something and wait for at most `limit` [s]; one request at a time.

        Raises `FailureError` when the child is to be given up, and what the policy raised, by its own class.
        """
        with self._using:
            return self._judged(self._exchange(what, limit, images, content))

    def _exchange(
        self,
        what: str,
        limit: float,
        images: Mapping[str, CameraImage] | None,
        content: Mapping[str, Any],
    ) -> dict[str, Any]:
        self._number += 1
        deadline = time.monotonic() + limit
        message = {"do": what, "number": self._number, **content}
        if images is not None:
            message["frames"] = self._frames.write(images)
        data = messages.pack(message)
        try:
            self._channel.send(data, deadline)
            reply = messages.unpack(self._channel.receive(deadline))
        except ChannelTimeoutError:
            raise FailureError("hung", f"did not answer within {limit:g} s") from None
        except ChannelClosedError:
            self.ended.wait(REAPED)
            raise FailureError("crashed", f"is gone: {self.how_it_ended}") from None
        except PolicyError as error:
            raise FailureError("invalid", f"sent something else than an answer: {error}") from error
        if reply.get("number") != self._number:
            raise FailureError(
                "invalid", f"answers request {reply.get('number')!r} instead of {self._number}"
            )
        return reply

    @staticmethod
    def _judged(reply: dict[str, Any]) -> dict[str, Any]:
        if "failed" in reply:
            raise FailureError("failed", f"failed with {reply['failed']}")
        if "invalid" in reply:
            raise FailureError("invalid", f"answered wrongly: {reply['invalid']}")
        if "error" in reply:
            kind = getattr(errors, str(reply["error"]), None)
            if not isinstance(kind, type) or not issubclass(kind, VlaRosError):
                kind = PolicyError
            raise kind(str(reply["sentence"]))
        return reply

    def kill(self) -> None:
        """End it and whatever it has started, at once."""
        with self._lock:
            if self._child is not None and not self._reaped:
                # not yet waited for, so that the number is still its own
                _kill_group(self._child.pid)

    def close(self) -> None:
        """Let it end; kill it when it does not."""
        self._channel.shut()
        if not self.ended.wait(FAREWELL):
            self.kill()
            self.ended.wait(REAPED)
        with self._using:
            self._channel.close()
            self._frames.close()

    def _keep(self) -> None:
        try:
            child = self._start()
        except OSError as error:
            self._problem = error
            self._theirs.close()
            self._frames.close()
            self.ended.set()
            self._started.set()
            return
        self._child = child
        self._theirs.close()
        self._started.set()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            # what it had started itself must not outlive it
            _kill_group(child.pid)
            child.wait()
            self._reaped = True
        self._channel.shut()
        self.ended.set()
        self._on_end(self)

    def _start(self) -> subprocess.Popen[bytes]:
        line, images = self._theirs.fileno(), self._frames.descriptor
        threads = {
            name: str(self._threads)
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        }
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, str(line), str(images), str(os.getpid()), str(self._nice)],
            stdin=subprocess.DEVNULL,
            # what a library prints must not get between the lines of a command that answers on stdout
            stdout=2,
            pass_fds=(line, images),
            start_new_session=True,
            env={**os.environ, **threads, "PYTHONPATH": path},
        )


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
