"""A bag written by a thread of its own, fed from callbacks that must not wait."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vla_ros.data.bag import BagWriter
from vla_ros.data.recorded_topics import OBSERVATION, RecordedTopic
from vla_ros.errors import DataError

FLUSH_PERIOD = 0.5
"""Seconds of recording that a killed process can lose."""


class Recording:
    """Takes serialised messages from any thread; a full queue drops and counts, it never blocks."""

    def __init__(
        self,
        path: Path,
        topics: Sequence[RecordedTopic],
        metadata: Mapping[str, str],
        max_queue: int = 256 << 20,
        observation_pixels: bool = False,
    ) -> None:
        """Open the bag and start the thread.

        `max_queue`: bytes that may wait for the disk.  `observation_pixels`: keep the images inside
        `Observation` messages; without, only their stamps and sizes are kept, as the camera topics have them.
        Raises `DataError`.
        """
        self.dropped: Counter[str] = Counter()
        self.error = ""
        """One sentence when writing failed; from then on everything is dropped."""
        self._writer = BagWriter(path, metadata)
        for topic in topics:
            self._writer.add_topic(
                topic.name, topic.type_name, topic.quality == "latched", topic.quality == "best_effort"
            )
        self._types = {topic.name: topic.type_name for topic in topics}
        self._slim = not observation_pixels
        self._max_queue = max_queue
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="bag writer")
        self._thread.start()

    @property
    def counts(self) -> Counter[str]:
        """Messages written, per topic."""
        return self._writer.counts

    def put(self, topic: str, stamp: int, raw: bytes) -> None:
        """Queue one message at `stamp` [ns]."""
        with self._lock:
            full = self._waiting + len(raw) > self._max_queue
            if full or self.error:
                self.dropped[topic] += 1
                return
            self._waiting += len(raw)
        self._queue.put((topic, stamp, raw))

    def close(self) -> None:
        """Write what waits and close the bag; `error` says when that failed."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._write_until_closed()
        except DataError as error:
            self._fail(error)
        try:
            self._writer.close()
        except DataError as error:
            self._fail(error)

    def _fail(self, error: DataError) -> None:
        with self._lock:
            self.error = self.error or str(error)

    def _write_until_closed(self) -> None:
        flushed = time.monotonic()
        while True:
            try:
                entry = self._queue.get(timeout=FLUSH_PERIOD)
            except queue.Empty:
                entry = ("", 0, b"")
            if entry is None:
                return
            topic, stamp, raw = entry
            if topic:
                with self._lock:
                    self._waiting -= len(raw)
                if topic == OBSERVATION and self._slim:
                    raw = self._without_pixels(raw)
                self._writer.write(topic, self._types[topic], stamp, raw)
            if time.monotonic() - flushed > FLUSH_PERIOD:
                self._writer.flush()
                flushed = time.monotonic()

    def _without_pixels(self, raw: bytes) -> bytes:
        kind = self._types[OBSERVATION]
        observation = self._writer.types.deserialize(raw, kind)
        for image in observation.images:
            image.data = image.data[:0]
        return self._writer.types.serialize(observation, kind)
