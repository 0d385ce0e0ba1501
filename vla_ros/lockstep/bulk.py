"""Many demonstrations on many cores: every worker is a process with one thread and a world of its own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from vla_ros.errors import DataError, VlaRosError
from vla_ros.lockstep.demonstrate import Demonstrator, Order, Result

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_LOOK = 0.2
"""Seconds between two looks at whether the workers live."""
_TRIES = 2
"""Of this many seeds an episode is tried at most: more failures than successes are no demonstrations."""


def demonstrations(
    order: Order, out: Path, wanted: int, known: dict[int, bool], jobs: int
) -> Generator[Result, None, None]:
    """Make episodes until `wanted` seeds have succeeded, in the order in which they are done.

    Args:
        order: what they are of.
        out: folder of the bags.
        wanted: successes, those of `known` among them.
        known: seeds that need no trying any more, and whether they succeeded.
        jobs: processes.

    The seeds that are tried do not depend on the number of processes: the first ones from the order's seed on
    until enough have succeeded, at most twice as many as wanted.

    Raises `VlaRosError` of a worker and `DataError` when one dies.
    """
    context = multiprocessing.get_context("spawn")
    missing = wanted - sum(known.values())
    if missing <= 0:
        return
    seeds = _seeds(order, wanted, known)
    tasks, results = context.Queue(), context.Queue()
    pending = 0
    for _ in range(missing):
        seed = next(seeds, None)
        if seed is not None:
            tasks.put(seed)
            pending += 1
    with _SingleThreaded():
        workers: list[BaseProcess] = [
            context.Process(target=_work, args=(order, out, tasks, results, os.getpid()), daemon=True)
            for _ in range(min(jobs, max(pending, 1)))
        ]
        for worker in workers:
            worker.start()
    try:
        while pending:
            result = _next(results, workers)
            pending -= 1
            if not result.success:
                seed = next(seeds, None)
                if seed is not None:
                    tasks.put(seed)
                    pending += 1
            yield result
        for _ in workers:
            tasks.put(None)
        for worker in workers:
            worker.join(10.0)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()
        for worker in workers:
            worker.join()


def _seeds(order: Order, wanted: int, known: dict[int, bool]) -> Iterator[int]:
    return (seed for seed in range(order.seed, order.seed + _TRIES * wanted) if seed not in known)


def _next(results: Any, workers: list[BaseProcess]) -> Result:
    while True:
        try:
            result = results.get(timeout=_LOOK)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise DataError(
                    f"A process that made demonstrations ended with status {dead[0].exitcode}; "
                    "what is whole stays, the same command goes on."
                ) from None
            continue
        if isinstance(result, VlaRosError):
            raise result
        if isinstance(result, str):
            raise DataError(result)
        return cast(Result, result)


class _SingleThreaded:
    """While it is entered, new processes have one thread for their arithmetic."""

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(order: Order, out: Path, tasks: Any, results: Any, parent: int) -> None:
    """One process: seeds in, results or one error out."""
    # Ctrl-C goes to the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        demonstrator = Demonstrator(order, out)
        alive = _alive(parent)
        while (seed := tasks.get()) is not None:
            results.put(demonstrator.make(seed, alive))
        demonstrator.close()
    except VlaRosError as error:
        results.put(error)
    except Exception as error:
        results.put(f"A demonstration failed with {type(error).__name__}: {error}")


def _alive(parent: int) -> Callable[[float], bool]:
    """A hook that ends the process once a second at most after its parent has died."""
    looked = [time.monotonic()]

    def look(_: float) -> bool:
        now = time.monotonic()
        if now - looked[0] > 1.0:
            looked[0] = now
            if os.getppid() != parent:
                os._exit(1)
        return True

    return look
