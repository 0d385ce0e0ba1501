"""What is in a bag, in one pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.data.bag import METADATA_TOPIC, bag_files, bag_folder, bag_metadata, closing_metadata
from vla_ros.data.mcap import McapFile
from vla_ros.data.message_types import MessageTypes
from vla_ros.data.recorded_topics import EPISODE_STATUS
from vla_ros.errors import DataError

_OUTCOMES = {1: "running", 2: "success", 3: "failure", 4: "aborted", 5: "discarded"}
_IMAGES = {
    "sensor_msgs/msg/CompressedImage": "compressed images",
    "foxglove_msgs/msg/CompressedVideo": "H.264",
}


@dataclass
class TopicInfo:
    """One topic: stamps of recording [ns]."""

    type_name: str
    count: int = 0
    bytes: int = 0
    first: int = 0
    last: int = 0
    images: str = ""
    """How its images are kept; empty for other topics."""

    @property
    def rate(self) -> float:
        """Mean rate [Hz]; 0 for less than two messages."""
        span = self.last - self.first
        return (self.count - 1) * 1e9 / span if self.count > 1 and span > 0 else 0.0


@dataclass
class EpisodeInfo:
    """One episode as the supervisor told it; stamps of recording [ns]."""

    episode_id: str
    task: str
    instruction: str
    start: int
    stop: int
    outcome: str = "running"


@dataclass
class BagInfo:
    """A bag: its files, whether it was closed, what it holds."""

    path: Path
    size: int = 0
    closed: bool = True
    indexed: bool = True
    """Whether metadata.yaml is there, which the ROS 2 tools ask for."""
    lost_bytes: int = 0
    topics: dict[str, TopicInfo] = field(default_factory=dict)
    episodes: dict[str, EpisodeInfo] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    closing: dict[str, str] = field(default_factory=dict)

    @property
    def span(self) -> tuple[int, int]:
        """First and last stamp [ns]; (0, 0) for an empty bag."""
        used = [t for t in self.topics.values() if t.count]
        return (min(t.first for t in used), max(t.last for t in used)) if used else (0, 0)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; texts of the bag as they are."""
        first, last = self.span
        return {
            "path": str(self.path),
            "size": self.size,
            "closed": self.closed,
            "indexed": self.indexed,
            "lost_bytes": self.lost_bytes,
            "start": first,
            "seconds": (last - first) / 1e9,
            "messages": sum(t.count for t in self.topics.values()),
            "topics": {n: {**asdict(t), "rate": round(t.rate, 3)} for n, t in self.topics.items()},
            "episodes": [asdict(episode) for episode in self.episodes.values()],
            "metadata": self.metadata,
            "end": self.closing,
        }


def bag_info(path: Path) -> BagInfo:
    """Read a bag folder or file, closed or not.  Raises `DataError` when it is none or is empty."""
    info = BagInfo(bag_folder(path))
    files = [McapFile(name) for name in bag_files(path)]
    info.size = sum(file.path.stat().st_size for file in files)
    info.indexed = info.path.is_file() or (info.path / "metadata.yaml").is_file()
    types = MessageTypes()
    for file in files:
        for channel, stamp, raw in file.messages():
            topic = info.topics.get(channel.topic)
            if topic is None:
                topic = info.topics[channel.topic] = TopicInfo(channel.type_name, first=stamp)
                topic.images = _image_kind(types, channel.type_name, raw)
            topic.count += 1
            topic.bytes += len(raw)
            topic.first, topic.last = min(topic.first, stamp), max(topic.last, stamp)
            if channel.topic == EPISODE_STATUS:
                kind = types.register_definition(channel.type_name, channel.definition)
                _episode(info, types.deserialize(raw, kind), stamp)
        for channel in file.channels.values():
            info.topics.setdefault(channel.topic, TopicInfo(channel.type_name))
        info.closed = info.closed and file.closed
        info.lost_bytes += file.lost_bytes
    if not any(topic.count for topic in info.topics.values()):
        raise DataError(f"{path} holds no messages.")
    info.metadata = bag_metadata(path) if METADATA_TOPIC in info.topics else {}
    info.closing = closing_metadata(path) if info.closed else {}
    return info


def _image_kind(types: MessageTypes, type_name: str, raw: bytes) -> str:
    if type_name == "sensor_msgs/msg/Image":
        return f"raw {types.deserialize(raw, type_name).encoding}"
    if type_name == "sensor_msgs/msg/CompressedImage":
        return str(types.deserialize(raw, type_name).format) or _IMAGES[type_name]
    return _IMAGES.get(type_name, "")


def _episode(info: BagInfo, status: Any, stamp: int) -> None:
    name = str(status.episode_id)
    if not name or int(status.outcome) not in _OUTCOMES:
        return
    episode = info.episodes.get(name)
    if episode is None:
        episode = info.episodes[name] = EpisodeInfo(
            name, str(status.task), str(status.instruction), stamp, stamp
        )
    outcome = _OUTCOMES[int(status.outcome)]
    if episode.outcome == "running":
        episode.stop = stamp
    if outcome != "running":
        episode.outcome = outcome
