"""A bag written by a thread of its own, fed from callbacks that must not wait."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vla_ros.data.bag import BagWriter
from vla_ros.data.image_encoding import ImageEncoder, image_encoder
from vla_ros.data.message_types import MessageTypes
from vla_ros.data.recorded_topics import OBSERVATION, RecordedTopic
from vla_ros.errors import DataError

FLUSH_PERIOD = 0.25
"""Seconds of recording that a killed process can lose, beside what still waits for the disk."""
SYNC_PERIOD = 0.4
"""Seconds between two waits for the disk: what a power cut can lose on top."""
MIN_FREE = 64 << 20
"""Recording ends while so much of the disk is free, so that the bag can be closed [bytes]."""
_IMAGE = "sensor_msgs/msg/Image"


class Recording:
    """Takes serialised messages from any thread; a full queue drops and counts, it never blocks."""

    def __init__(
        self,
        path: Path,
        topics: Sequence[RecordedTopic],
        metadata: Mapping[str, str],
        max_queue: int = 256 << 20,
        observation_pixels: bool = False,
        images: str = "raw",
        image_quality: int = 90,
    ) -> None:
        """Open the bag and start the threads.

        `max_queue`: bytes that may wait for the disk.  `observation_pixels`: keep the images inside
        `Observation` messages; without, only their stamps and sizes are kept, as the camera topics have them.
        `images`: raw, jpeg or h264 for topics of sensor_msgs/Image.
        Raises `DataError`.
        """
        self.dropped: Counter[str] = Counter()
        self.error = ""
        """One sentence when writing failed; from then on everything is dropped."""
        self.notes: dict[str, str] = {}
        """Per topic, why its images are kept raw although they were to be encoded."""
        self.final: dict[str, str] = {}
        """Texts to embed at the end; to be filled before `close`."""
        self._encoders: dict[str, ImageEncoder] = {}
        types = MessageTypes()
        for topic in topics:
            # Before the folder is made: a refusal leaves nothing behind.
            types.ensure(topic.type_name)
            encoder = image_encoder(images, image_quality)
            if encoder is not None and topic.type_name == _IMAGE:
                self._encoders[topic.name] = encoder
        self._writer = BagWriter(path, metadata)
        self.path = self._writer.path
        for topic in topics:
            if topic.name not in self._encoders:
                self._writer.add_topic(
                    topic.name, topic.type_name, topic.quality == "latched", topic.quality == "best_effort"
                )
        for name, encoder in self._encoders.items():
            self._writer.add_topic(name + encoder.suffix, encoder.type_name, best_effort=True)
        self._types = {topic.name: topic.type_name for topic in topics}
        self._slim = not observation_pixels
        self._max_queue = max_queue
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bag writer")
        self._syncing = threading.Thread(target=self._sync_until_ended, name="bag sync")
        self._thread.start()
        self._syncing.start()

    @property
    def counts(self) -> Counter[str]:
        """Messages written, per topic of the bag."""
        return self._writer.counts

    @property
    def bytes_written(self) -> int:
        """Size of the bag so far."""
        return self._writer.bytes_written

    @property
    def image_loss(self) -> dict[str, dict[str, float]]:
        """Per encoded topic: frames measured, mean and lowest peak signal-to-noise ratio [dB]."""
        return {
            name + encoder.suffix: {
                "frames": len(losses),
                "mean_psnr": round(sum(losses) / len(losses), 2),
                "min_psnr": round(min(losses), 2),
            }
            for name, encoder in self._encoders.items()
            if (losses := list(encoder.losses))
        }

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
        if self.error:
            self._drop_waiting()
        self._ended.set()
        self._syncing.join()
        texts = {"dropped": json.dumps(dict(self.dropped)), "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        if self._encoders:
            texts["image_loss"] = json.dumps(self.image_loss)
        if self.error:
            texts["error"] = self.error
        try:
            self._writer.conclude({**texts, **self.final})
            self._writer.close()
        except DataError as error:
            self._fail(error)

    def _drop_waiting(self) -> None:
        with suppress(queue.Empty):
            while True:
                entry = self._queue.get_nowait()
                if entry is not None:
                    self.dropped[entry[0]] += 1

    def _fail(self, error: DataError) -> None:
        with self._lock:
            self.error = self.error or str(error)

    def _write_until_closed(self) -> None:
        due = time.monotonic() + FLUSH_PERIOD
        while not self.error:
            try:
                entry = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                entry = ("", 0, b"")
            if entry is None:
                self._writer.flush()
                return
            if entry[0]:
                self._write(*entry)
            if time.monotonic() >= due:
                self._writer.flush()
                due = time.monotonic() + FLUSH_PERIOD

    def _write(self, topic: str, stamp: int, raw: bytes) -> None:
        with self._lock:
            self._waiting -= len(raw)
        encoder = self._encoders.get(topic)
        if encoder is not None:
            try:
                encoded = encoder.encode(raw, self._writer.types)
            except DataError as error:
                # An image that cannot be made smaller is kept as it is: nothing is lost.
                self.notes.setdefault(topic, str(error))
            else:
                self._writer.write(topic + encoder.suffix, encoder.type_name, stamp, encoded)
                return
        elif topic == OBSERVATION and self._slim:
            raw = self._without_pixels(raw)
        self._writer.write(topic, self._types[topic], stamp, raw)

    def _sync_until_ended(self) -> None:
        while not self._ended.wait(SYNC_PERIOD) and not self.error:
            try:
                self._writer.sync()
                free = disk_free(self.path)
            except DataError as error:
                self._fail(error)
                return
            if free < MIN_FREE:
                self._fail(
                    DataError(
                        f"the disk of {self.path} is full but for {free >> 20} MB: recording stopped, "
                        "everything until then is in the bag."
                    )
                )

    def _without_pixels(self, raw: bytes) -> bytes:
        kind = self._types[OBSERVATION]
        observation = self._writer.types.deserialize(raw, kind)
        for image in observation.images:
            image.data = image.data[:0]
        return self._writer.types.serialize(observation, kind)


def disk_free(path: Path) -> int:
    """Bytes that may still be written to the disk of a folder.  Raises `DataError`."""
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    return found.f_bavail * found.f_frsize
