"""What the recorder says of itself, on /vla/recorder_status."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Any

from vla_ros.data.episode_bags import EpisodeBags
from vla_ros.data.recording import Recording, disk_free
from vla_ros.errors import DataError
from vla_ros.msg import RecorderStatus
from vla_ros.nodes import topics

WINDOW = 2.0
"""Seconds over which rates are counted."""


class RecorderReport:
    """Publishes a `RecorderStatus`: rates of what comes, what is written, what was dropped."""

    def __init__(self, node: Any, names: list[str]) -> None:
        self._node, self._names = node, names
        self._publisher = node.create_publisher(RecorderStatus, topics.RECORDER_STATUS, topics.RELIABLE)
        self._came: Counter[str] = Counter()
        self._marks: list[tuple[float, Counter[str]]] = [(time.monotonic(), Counter())]
        self._bag: tuple[str, float] = ("", 0.0)

    def count(self, name: str) -> None:
        """One message of a topic has come."""
        self._came[name] += 1

    def publish(self, recording: Recording | EpisodeBags) -> None:
        """Say how it stands."""
        now = time.monotonic()
        self._marks.append((now, self._came.copy()))
        while len(self._marks) > 2 and self._marks[1][0] <= now - WINDOW:
            self._marks.pop(0)
        before, counts = self._marks[0]
        cut = isinstance(recording, EpisodeBags)
        open_bag = recording.recording if isinstance(recording, EpisodeBags) else recording
        if str(recording.path) != self._bag[0]:
            self._bag = (str(recording.path), now)
        dropped = recording.dropped + open_bag.dropped if cut and open_bag else recording.dropped
        message = RecorderStatus(
            recording=open_bag is not None and not open_bag.error,
            path=str(recording.path),
            episode_id=recording.episode_id if isinstance(recording, EpisodeBags) else "",
            seconds=now - self._bag[1] if open_bag is not None else 0.0,
            messages=sum(open_bag.counts.copy().values()) if open_bag is not None else 0,
            dropped=sum(dropped.copy().values()),
            bytes_written=open_bag.bytes_written if open_bag is not None else 0,
            topics=self._names,
            rates=[(self._came[name] - counts[name]) / max(now - before, 1e-3) for name in self._names],
            topic_dropped=[dropped[name] for name in self._names],
            error=recording.error,
        )
        with suppress(DataError):
            message.disk_free = disk_free(recording.path)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
