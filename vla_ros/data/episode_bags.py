"""One bag an episode: opened when the supervisor begins one, closed a moment after its end.

The last second is kept in memory, so that the first observation and the joint states before the first
action are in the bag; so are the last values of latched topics.
"""

from __future__ import annotations

import fcntl
import os
import queue
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vla_ros.data.bag import DISCARDED
from vla_ros.data.message_types import MessageTypes
from vla_ros.data.recorded_topics import EPISODE_STATUS, RecordedTopic
from vla_ros.data.recording import Recording
from vla_ros.errors import DataError

PRE_ROLL = 1.0
"""Seconds before an episode that its bag holds."""
POST_ROLL = 0.5
"""Seconds behind its end."""
_LOCK = ".recorder.lock"
_RUNNING, _DISCARDED = 1, 5
_OUTCOMES = {2: "success", 3: "failure", 4: "aborted", 5: "discarded"}


class EpisodeBags:
    """Takes messages as a `Recording` does and never blocks; a thread cuts them into bags."""

    def __init__(
        self,
        folder: Path,
        topics: Sequence[RecordedTopic],
        metadata: Mapping[str, str],
        max_queue: int = 256 << 20,
        **options: Any,
    ) -> None:
        """Make the folder and lock it.  `options`: those of `Recording`.

        Raises `DataError` when it cannot be made or another recorder writes into it.
        """
        if not any(topic.name == EPISODE_STATUS for topic in topics):
            raise DataError(f"bags cannot be cut by episodes: {EPISODE_STATUS} is not among the topics.")
        self.folder, self.path = Path(folder), Path(folder)
        self.dropped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.error = ""
        self.episode_id = ""
        self.bags: list[Path] = []
        """Closed bags, in order."""
        self.bytes_written = 0
        self._topics = list(topics)
        self._latched = {topic.name for topic in topics if topic.quality == "latched"}
        self._metadata, self._max_queue, self._options = dict(metadata), max_queue, options
        self._last: dict[str, tuple[int, bytes]] = {}
        self._before: deque[tuple[float, str, int, bytes]] = deque()
        self._recording: Recording | None = None
        self._outcome, self._end, self._until = 0, {}, 0.0  # type: ignore[var-annotated]
        self._finished: dict[str, Path] = {}
        self._types = MessageTypes()
        self._kind = self._types.ensure("vla_ros/EpisodeStatus")
        self._waiting, self._guard = 0, threading.Lock()
        self._lock = lock_folder(self.folder)
        self._queue: queue.SimpleQueue[tuple[float, str, int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="episode bags")
        self._thread.start()

    @property
    def recording(self) -> Recording | None:
        """The bag that is open."""
        return self._recording

    def put(self, topic: str, stamp: int, raw: bytes) -> None:
        """Queue one message at `stamp` [ns]."""
        with self._guard:
            if self.error or self._waiting + len(raw) > self._max_queue:
                self.dropped[topic] += 1
                return
            self._waiting += len(raw)
        self._queue.put((time.monotonic(), topic, stamp, raw))

    def close(self) -> None:
        """Close the open bag, if any, and give the folder free."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._lock)

    def _work(self) -> None:
        try:
            while True:
                entry = self._next()
                if self._recording is not None and self._outcome and time.monotonic() >= self._until:
                    self._finish()
                if entry is None:
                    break
                if entry[1]:
                    self._take(*entry)
        except DataError as error:
            self.error = str(error)
        try:
            self._finish()
        except DataError as error:
            self.error = self.error or str(error)

    def _next(self) -> tuple[float, str, int, bytes] | None:
        try:
            return self._queue.get(timeout=0.1)
        except queue.Empty:
            return (0.0, "", 0, b"")

    def _take(self, at: float, topic: str, stamp: int, raw: bytes) -> None:
        with self._guard:
            self._waiting -= len(raw)
        self._before.append((at, topic, stamp, raw))
        while self._before and (self._before[0][0] < at - PRE_ROLL):
            _, old, when, data = self._before.popleft()
            if old in self._latched:
                self._last[old] = (when, data)
        began = False
        if topic == EPISODE_STATUS:
            with suppress(DataError):
                began = self._status(self._types.deserialize(raw, self._kind))
        if self._recording is not None and not began:
            self._recording.put(topic, stamp, raw)
            self._watch()

    def _watch(self) -> None:
        recording = self._recording
        if recording is not None and recording.error:
            self._finish()
            raise DataError(recording.error)

    def _status(self, status: Any) -> bool:
        """Follow the episode; whether a bag was opened, with this message in its pre-roll."""
        name, outcome = str(status.episode_id), int(status.outcome)
        if outcome == _RUNNING and name != self.episode_id and name not in self._finished:
            self._finish()
            self._begin(status)
            return True
        if outcome in _OUTCOMES and name == self.episode_id and self._recording is not None:
            if not self._outcome:
                self._until = time.monotonic() + POST_ROLL
            self._outcome = outcome
            self._end = {
                "outcome": _OUTCOMES[outcome],
                "reason": str(status.reason),
                "elapsed": str(round(float(status.elapsed), 3)),
                "steps": str(int(status.steps)),
                "interventions": str(int(status.interventions)),
            }
        elif outcome == _DISCARDED and name in self._finished:
            self._discard(self._finished.pop(name))
        return False

    def _begin(self, status: Any) -> None:
        self.episode_id, self._outcome, self._end = str(status.episode_id), 0, {}
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", self.episode_id) or "episode"
        path = self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}_{safe}"
        texts = {
            **self._metadata,
            "episode_id": self.episode_id,
            "task": str(status.task),
            "instruction": str(status.instruction),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        recording = Recording(path, self._topics, texts, self._max_queue, **self._options)
        first = self._before[0][2]
        for topic, (_, raw) in self._last.items():
            # Said long ago and still true: recorded when the bag begins.
            recording.put(topic, first, raw)
        for _, topic, stamp, raw in self._before:
            recording.put(topic, stamp, raw)
        self._recording, self.path = recording, path

    def _finish(self) -> None:
        recording, self._recording = self._recording, None
        if recording is None:
            return
        recording.final.update(self._end or {"outcome": "unfinished"})
        recording.close()
        self.counts += recording.counts
        self.dropped += recording.dropped
        self.bytes_written += recording.bytes_written
        self.bags.append(recording.path)
        self._finished[self.episode_id] = recording.path
        if self._outcome == _DISCARDED:
            self._discard(self._finished.pop(self.episode_id))
        self.episode_id = ""
        if recording.error:
            raise DataError(recording.error)

    def _discard(self, path: Path) -> None:
        target = path.parent / DISCARDED / path.name
        try:
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                raise DataError(f"{path} cannot be moved to {target}: it exists already.")
            path.rename(target)
        except OSError as error:
            raise DataError(f"{path} cannot be moved to {target}: {error.strerror or error}.") from error
        self.bags[self.bags.index(path)] = target


def lock_folder(folder: Path) -> int:
    """Make a folder and hold it for this process; the descriptor to close.

    The lock ends with its process, however that ends.  Raises `DataError` when another one holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(f"bags cannot be written to {folder}: {error.strerror or error}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = os.read(descriptor, 64).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DataError(
            f"another recorder{f' (process {who})' if who else ''} writes its bags to {folder}."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
