"""Bags: rosbag2 folders with MCAP files, written with rosbags, read record by record.

The writer closes a chunk on `flush` and puts a checksum on every chunk: a killed recorder loses what
came after the last flush and nothing else, and a flipped bit is found.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2.errors import WriterError

from vla_ros import __version__
from vla_ros.data.mcap import Channel, McapFile
from vla_ros.data.mcap_storage import DurableMcap, DurableRosbag
from vla_ros.data.message_types import MessageTypes
from vla_ros.documents import parse_json, parse_yaml
from vla_ros.errors import DataError

METADATA_TOPIC = "/vla/metadata"
"""Latched std_msgs/String: one JSON object of what the bag was made with; survives a killed recorder."""
RUN_BAG = "bag"
"""Name of the bag in the folder of a run."""
DISCARDED = "discarded"
"""Folder beside the bags of those that a person wants not to be used."""
CONCLUSION = "end."
"""Prefix of the texts in the bag's custom data that were known at its end only."""


class BagWriter:
    """Write a new bag folder.  A context manager; `counts` has the messages per topic."""

    def __init__(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Create the folder.

        `metadata`: texts to embed, e.g. {"contract": yaml}; the version of the software is added.
        Raises `DataError` when the path exists or cannot be made.
        """
        self.path = Path(path)
        self.types = MessageTypes()
        self.counts: Counter[str] = Counter()
        self._connections: dict[str, tuple[Any, str]] = {}
        self._storage: DurableMcap | None = None
        texts = {"vla_ros_version": __version__, **(metadata or {})}
        try:
            self._writer = DurableRosbag(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            if isinstance(self._writer.storage, DurableMcap):
                self._storage = self._writer.storage
        except WriterError as error:
            raise DataError(f"a bag cannot be written to {self.path}: it exists already.") from error
        except OSError as error:
            raise DataError(f"a bag cannot be written to {self.path}: {error.strerror or error}.") from error
        for key, text in texts.items():
            self._writer.set_custom_data(key, text)
        self._metadata: str | None = json.dumps(texts)

    def add_topic(self, topic: str, type_name: str, latched: bool = False, best_effort: bool = False) -> None:
        """Announce a topic.  `latched` and `best_effort` are the quality of service to replay it with.

        Raises `DataError` when the type is unknown or the topic has another type already.
        """
        name = self.types.ensure(type_name)
        known = self._connections.get(topic)
        if known is not None:
            if known[1] != name:
                raise DataError(f"topic {topic} of {self.path} carries {known[1]}; {name} was given.")
            return
        connection = self._writer.add_connection(
            topic, name, typestore=self.types.store, offered_qos_profiles=[_qos(latched, best_effort)]
        )
        self._connections[topic] = (connection, name)

    def write(self, topic: str, type_name: str, stamp: int, message: object) -> None:
        """Write one message at `stamp` [ns]: CDR bytes as they came, or a message made by `types.create`."""
        if topic not in self._connections:
            self.add_topic(topic, type_name)
        if self._metadata is not None:
            text, self._metadata = self._metadata, None
            self.add_topic(METADATA_TOPIC, "std_msgs/String", latched=True)
            self.write(
                METADATA_TOPIC, "std_msgs/String", stamp, self.types.create("std_msgs/String", data=text)
            )
        connection, name = self._connections[topic]
        raw = message if isinstance(message, bytes) else self.types.serialize(message, name)
        try:
            self._writer.write(connection, stamp, raw)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}.") from error
        self.counts[topic] += 1

    def flush(self) -> None:
        """Make everything written so far survive the end of this process.  Raises `DataError`."""
        try:
            if self._storage is not None:
                self._storage.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def sync(self) -> None:
        """Wait until the disk has what was flushed; any thread may.  Raises `DataError`."""
        try:
            if self._storage is not None:
                self._storage.sync()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    @property
    def bytes_written(self) -> int:
        """Size of the file so far, whole records only."""
        return self._storage.written if self._storage is not None else 0

    def conclude(self, texts: Mapping[str, str]) -> None:
        """Texts known at the end only; `closing_metadata` gives them back from a bag that was closed."""
        for key, text in texts.items():
            self._writer.set_custom_data(f"{CONCLUSION}{key}", text)

    def close(self) -> None:
        """Write index and metadata.yaml.  Raises `DataError` when the disk refuses."""
        try:
            self._writer.close()
        except OSError as error:
            self._writer.abort()
            raise DataError(f"{self.path} cannot be closed: {error.strerror or error}.") from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closed properly after an exception too: what was recorded until then is good.
        self.close()


@dataclass(frozen=True)
class BagMessage:
    """One recorded message; `message` decodes it each time it is asked."""

    topic: str
    type_name: str
    stamp: int
    raw: bytes
    types: MessageTypes

    @property
    def message(self) -> Any:
        """The decoded message.  Raises `DataError`."""
        try:
            return self.types.deserialize(self.raw, self.type_name)
        except DataError as error:
            raise DataError(f"topic {self.topic} at {self.stamp} ns: {error}") from error


def read_bag(
    path: Path,
    topics: Collection[str] = (),
    start: int | None = None,
    stop: int | None = None,
    salvage: bool = False,
    damaged: bool = False,
) -> Iterator[BagMessage]:
    """Yield the messages of a bag folder or an .mcap file in the order of recording.

    `topics`: only these, all when empty.  `start`, `stop`: only stamps in [start, stop) [ns].
    `salvage`: also read a bag that was not closed, up to its last whole record.
    `damaged`: step over records that are damaged, too.
    Raises `DataError` when it is no bag, is empty, damaged, or not closed.
    """
    types = MessageTypes()
    count = 0
    for file in (McapFile(name, lenient=damaged) for name in bag_files(path)):
        for channel, stamp, raw in file.messages():
            count += 1
            if not (file.closed or salvage):
                break
            if channel.topic not in topics if topics else channel.topic == METADATA_TOPIC:
                continue
            if (start is not None and stamp < start) or (stop is not None and stamp >= stop):
                continue
            if channel.encoding != "cdr":
                raise DataError(
                    f"{file.path}: topic {channel.topic} is encoded as '{channel.encoding}', not CDR."
                )
            yield BagMessage(channel.topic, _known(types, channel), stamp, raw, types)
        if not (file.closed or salvage):
            raise DataError(
                f"{file.path} was not closed: its recorder was killed or the file is cut off; "
                "`vla-ros bag repair` saves what is whole."
            )
    if count == 0:
        cut = "" if file.closed else "; it was cut off before the first was saved"
        raise DataError(f"{path} holds no messages{cut}.")


def bag_metadata(path: Path, damaged: bool = False) -> dict[str, str]:
    """Texts that `BagWriter` embedded; empty for a bag of another writer.  Raises `DataError`.

    `damaged`: step over records that are.
    """
    for entry in read_bag(path, topics=(METADATA_TOPIC,), salvage=True, damaged=damaged):
        try:
            texts = parse_json(entry.message.data)
        except ValueError as error:
            raise DataError(f"{path}: the text on {METADATA_TOPIC} is not JSON: {error}.") from error
        return {str(k): str(v) for k, v in texts.items()} if isinstance(texts, dict) else {}
    return {}


def closing_metadata(path: Path) -> dict[str, str]:
    """Texts given to `conclude`; empty for a bag that was not closed.  Raises `DataError`."""
    custom = _custom_data(path)
    return {key.removeprefix(CONCLUSION): v for key, v in custom.items() if key.startswith(CONCLUSION)}


def _custom_data(path: Path) -> dict[str, str]:
    """What rosbag2's metadata at the end of the file hold beside the topics."""
    import yaml

    custom: dict[str, str] = {}
    for file in map(McapFile, bag_files(path)):
        text = file.closing_record("rosbag2").get("serialized_metadata", "")
        if "custom_data" in text:
            try:
                custom.update((parse_yaml(text) or {}).get("custom_data") or {})
            except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
                raise DataError(f"{file.path}: the metadata at the end cannot be understood.") from error
    return {str(key): str(value) for key, value in custom.items()}


def repair_bag(source: Path, target: Path) -> Counter[str]:
    """Copy what is whole in a bag that was not closed or is damaged; return the messages per topic.

    The source is only read.  Raises `DataError`.
    """
    entries = read_bag(source, salvage=True, damaged=True)
    first = next(entries)
    known: dict[str, str] = {}
    with suppress(DataError):
        known = _custom_data(source)
    texts = bag_metadata(source, damaged=True)
    texts = texts or {key: text for key, text in known.items() if not key.startswith(CONCLUSION)}
    with BagWriter(target, texts) as writer:
        writer.conclude(
            {key.removeprefix(CONCLUSION): v for key, v in known.items() if key.startswith(CONCLUSION)}
        )
        for entry in chain((first,), entries):
            writer.types = entry.types
            writer.write(entry.topic, entry.type_name, entry.stamp, entry.raw)
        return writer.counts


def bag_folder(path: Path) -> Path:
    """The bag that a path means: itself, or of the folder of a run the folder `bag` in it."""
    path = Path(path)
    inside = path / RUN_BAG
    return inside if not _holds_bag(path) and _holds_bag(inside) else path


def bags_below(path: Path, discarded: bool = False) -> list[Path]:
    """The bags in a folder and the folders below it, in the order of their names.

    Hidden folders are unfinished and left alone, and so is what a person discarded, unless it is asked for
    or `path` itself is such a folder.
    """
    left_out = () if discarded else (DISCARDED,)
    return sorted(
        {
            file.parent
            for file in Path(path).rglob("*.mcap")
            if not any(part.startswith(".") or part in left_out for part in file.relative_to(path).parts)
        }
    )


def _holds_bag(path: Path) -> bool:
    return path.is_dir() and (any(path.glob("*.mcap")) or any(path.glob("*.db3")))


def bag_files(path: Path) -> list[Path]:
    """The .mcap files of what `bag_folder` finds, in order, or the file itself.  Raises `DataError`."""
    path = bag_folder(path)
    if path.is_dir():
        files = sorted(path.glob("*.mcap"), key=_natural)
        if files:
            return files
        if any(path.glob("*.db3")):
            raise DataError(f"{path} is a bag in SQLite; only MCAP is read (`ros2 bag convert` makes one).")
        below = bags_below(path, discarded=True)
        if below:
            count = "one bag" if len(below) == 1 else f"{len(below)} bags, name one of them"
            raise DataError(f"{path} is not a bag but a folder that holds {count}: {below[0]}.")
        raise DataError(f"{path} is not a bag: the folder has no .mcap file.")
    if not path.exists():
        raise DataError(f"{path} does not exist; a bag is a folder with an .mcap file, or that file.")
    return [path]


def _natural(path: Path) -> list[tuple[int, str]]:
    # rosbag2 numbers split files without leading zeros.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _known(types: MessageTypes, channel: Channel) -> str:
    if channel.definition:
        return types.register_definition(channel.type_name, channel.definition)
    return types.ensure(channel.type_name)


def _qos(latched: bool, best_effort: bool) -> Qos:
    none = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.BEST_EFFORT if best_effort else QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        none,
        none,
        QosLiveliness.SYSTEM_DEFAULT,
        none,
        False,
    )
