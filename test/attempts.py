"""Tries at what needs a machine with time: busy with other work, a late robot is stopped, as it must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread


def attempts(folder: Path, count: int = 4) -> Iterator[Path]:
    """Folders to try in, one after the other, with longer and longer waits before them."""
    for attempt in range(count):
        time.sleep(5.0 * attempt)
        own = folder / str(attempt)
        own.mkdir()
        yield own


class StoppedError(Exception):
    """The controller stopped the robot, and nobody had asked for it."""


def tried(folder: Path, run: Callable[[Path], None]) -> None:
    """Run it in a folder of its own; once more where the robot was stopped meanwhile, and not every time."""
    sentences = []
    for own in attempts(folder):
        try:
            return run(own)
        except StoppedError as stopped:
            sentences.append(str(stopped))
    raise AssertionError(f"The robot was stopped every time: {sentences}")


class Lateness:
    """A context that finds out by how much this machine lets a thread oversleep meanwhile."""

    def __init__(self) -> None:
        self.worst = 0.0
        """[s]"""
        self._over = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            time.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - begun - 0.005)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
