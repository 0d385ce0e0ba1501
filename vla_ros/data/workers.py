"""Processes that share out jobs, end with their parent, and say how far they are."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from vla_ros.errors import DataError, VlaRosError

Job = Callable[..., Any]
"""A function of a module: `job(state, argument)`; `state["progress"](n)` says that n more steps are done."""
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Workers:
    """`count` processes, each of one thread; one means the caller's own process.  A context manager."""

    def __init__(self, count: int) -> None:
        self._state: dict[str, Any] = {}
        self._processes: list[Any] = []
        self._connections: list[Any] = []
        if count < 2:
            return
        context = get_context("spawn")
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                # The pipe ends for the worker when this process does, however it does.
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def share(self, **values: Any) -> None:
        """Put values into the state of every worker."""
        self._state.update(values)
        for connection in self._connections:
            connection.send(("state", values, None))

    def run(
        self,
        job: Job,
        arguments: Iterable[Any],
        done: Callable[[Any, Any], None],
        progress: Callable[[int], None] = lambda steps: None,
    ) -> None:
        """Run `job` on every argument; `done(argument, result)` in the order of finishing.

        Raises `DataError` of the first job that failed; what others had finished by then was `done`.
        """
        if not self._connections:
            self._state["progress"] = progress
            for argument in arguments:
                done(argument, job(self._state, argument))
            return
        left = iter(arguments)
        busy: dict[Any, Any] = {}
        for connection in self._connections:
            self._next(connection, job, left, busy)
        while busy:
            for connection in wait(list(busy)):
                if not isinstance(connection, Connection):
                    continue
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError) as error:
                    raise DataError(
                        "a worker process ended unexpectedly, often for lack of memory; what was finished is "
                        "kept, the same command goes on from there."
                    ) from error
                if kind == "progress":
                    progress(value)
                elif kind == "error":
                    raise DataError(value)
                elif kind == "bug":
                    raise RuntimeError(value)
                else:
                    done(busy.pop(connection), value)
                    self._next(connection, job, left, busy)

    def _next(self, connection: Any, job: Job, left: Any, busy: dict[Any, Any]) -> None:
        for argument in left:
            connection.send(("job", job, argument))
            busy[connection] = argument
            return

    def close(self) -> None:
        """End the processes at once; what they are writing has no final name yet."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections = [], []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _serve(connection: Any) -> None:
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import cv2

    cv2.setNumThreads(1)
    state: dict[str, Any] = {"progress": lambda steps: connection.send(("progress", steps))}
    try:
        while True:
            kind, what, argument = connection.recv()
            if kind == "state":
                state.update(what)
                continue
            try:
                answer = ("result", what(state, argument))
            except VlaRosError as error:
                answer = ("error", str(error))
            except (BrokenPipeError, EOFError):
                return
            except Exception:
                answer = ("bug", traceback.format_exc())
            connection.send(answer)
    except (EOFError, OSError):
        return  # the parent is gone
