"""Episodes in bags: what a data set recorded, as topics that the graph understands.

Images are copied byte for byte as `sensor_msgs/CompressedImage`; an action is a `vla_ros/PolicyOutput` of
horizon 1, which is what a replayed action is; the state keeps the data set's own numbers, named, as
`sensor_msgs/JointState`.  What has no topic of its own (flags, further features, what the data set says of
the episode) goes into one JSON text an episode, arrays in their own type and to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.bag import BagWriter, bag_metadata, read_bag
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.encoded_image import is_png
from vla_ros.data.episode import Episode
from vla_ros.data.episode_extra import extra_from_text, extra_to_text
from vla_ros.data.frames import EncodedFrames
from vla_ros.data.message_types import stamp_of, time_fields
from vla_ros.errors import DataError

IMAGE_TOPIC = "/episode/{camera}/compressed"
STATE_TOPIC, ACTION_TOPIC, STATUS_TOPIC = "/episode/state", "/episode/action", "/episode/status"
EXTRA_TOPIC = "/episode/extra"
"""Latched std_msgs/String at the start of an episode; see `episode_extra`."""
INSTRUCTION_TOPIC = "/vla/instruction"
BRIDGE_STATE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
BRIDGE_RATE = 5.0
"""Steps per second of BridgeData V2 [Hz]."""
_RUNNING, _SUCCESS = 1, 2


def episode_to_bag(
    episode: Episode,
    path: Path,
    rate: float = BRIDGE_RATE,
    start: int = 0,
    action_space: str = "bridge",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write one episode as a new bag whose step k has the stamp `start` + k / `rate`.  Raises `DataError`."""
    with BagWriter(path, {"source": episode.source, **(metadata or {})}) as writer:
        write_episode(writer, episode, start, rate, action_space)


def episodes_to_bag(
    episodes: Sequence[Episode], path: Path, rate: float = BRIDGE_RATE, pause: float = 1.0, start: int = 0
) -> None:
    """Write episodes one after the other, `pause` [s] between them, as one new bag.  Raises `DataError`."""
    with BagWriter(path, {"source": episodes[0].source if episodes else ""}) as writer:
        for episode in episodes:
            write_episode(writer, episode, start, rate)
            start += round((len(episode) / rate + pause) * 1e9)


def write_episode(
    writer: BagWriter, episode: Episode, start: int, rate: float, action_space: str = "bridge"
) -> None:
    """Append one episode to an open bag; between two status messages that name its source."""
    types = writer.types
    for topic, kind in (
        (STATUS_TOPIC, "vla_ros/EpisodeStatus"),
        (INSTRUCTION_TOPIC, "std_msgs/String"),
        (EXTRA_TOPIC, "std_msgs/String"),
    ):
        writer.add_topic(topic, kind, latched=True)
    names = list(episode.state_names) or _state_names(episode.states.shape[1])
    instruction: str | None = None
    for k in range(len(episode)):
        stamp = start + round(k * 1e9 / rate)
        header = {"stamp": time_fields(stamp)}
        if k == 0:
            _write_status(writer, episode, stamp, _RUNNING)
            text = types.create("std_msgs/String", data=extra_to_text(episode))
            writer.write(EXTRA_TOPIC, "std_msgs/String", stamp, text)
        if episode.instructions[k] != instruction:
            instruction = episode.instructions[k]
            text = types.create("std_msgs/String", data=instruction)
            writer.write(INSTRUCTION_TOPIC, "std_msgs/String", stamp, text)
        for camera in sorted(episode.images):
            data = episode.images[camera][k]
            image = types.create(
                "sensor_msgs/CompressedImage",
                header={**header, "frame_id": camera},
                format="png" if is_png(data) else "jpeg",
                data=data,
            )
            writer.write(IMAGE_TOPIC.format(camera=camera), "sensor_msgs/CompressedImage", stamp, image)
        state = types.create("sensor_msgs/JointState", header=header, name=names, position=episode.states[k])
        writer.write(STATE_TOPIC, "sensor_msgs/JointState", stamp, state)
        action = types.create(
            "vla_ros/PolicyOutput",
            header=header,
            sequence=k,
            policy="recorded",
            action_space=action_space,
            horizon=1,
            dimension=episode.actions.shape[1],
            values=episode.actions[k],
            terminate=bool(episode.is_terminal[k]),
            instruction=instruction,
            published=time_fields(stamp),
        )
        writer.write(ACTION_TOPIC, "vla_ros/PolicyOutput", stamp, action)
    if len(episode):
        _write_status(writer, episode, start + round(len(episode) * 1e9 / rate) - 1, _SUCCESS)


def episodes_from_bag(path: Path) -> Iterator[Episode]:
    """Yield the episodes of a bag written here.  Raises `DataError` when a step is incomplete."""
    source = bag_metadata(path).get("source", "")
    steps: list[dict[str, Any]] = []
    episode_source = source
    instruction = ""
    for entry in read_bag(path):
        if entry.topic == STATUS_TOPIC:
            status = entry.message
            if steps:
                yield _episode(steps, episode_source, path)
            steps, episode_source = [], status.episode_id or source
        elif entry.topic == INSTRUCTION_TOPIC:
            instruction = entry.message.data
        elif entry.topic.startswith("/episode/") and entry.topic != EXTRA_TOPIC:
            message = entry.message
            stamp = stamp_of(message.header.stamp)
            if not steps or steps[-1]["stamp"] != stamp:
                steps.append({"stamp": stamp, "instruction": instruction, "images": {}})
            step = steps[-1]
            if entry.topic == STATE_TOPIC:
                step["state"] = message.position
            elif entry.topic == ACTION_TOPIC:
                step["action"], step["terminate"] = message.values, message.terminate
            else:
                step["images"][message.header.frame_id] = message.data.tobytes()
    if steps:
        yield _episode(steps, episode_source, path)


@dataclass
class Imported:
    """One episode of an imported bag, as found in its index."""

    source: str
    actions: list[Any] = field(default_factory=list)
    """Messages."""
    states: list[Any] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    extra: str = ""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.actions)


def imported_episodes(index: BagIndex, source: str) -> list[Imported]:
    """The episodes of an imported bag, whose small messages `index` holds.  Raises `DataError`."""
    found: list[Imported] = []
    current, instruction = Imported(source), ""
    for topic, _, message in index.small:
        if topic == STATUS_TOPIC:
            if current.actions or current.states:
                found.append(current)
            current = Imported(message.episode_id or source)
            instruction = message.instruction
        elif topic == EXTRA_TOPIC:
            current.extra = message.data
        elif topic == STATE_TOPIC:
            current.states.append(message)
        elif topic == ACTION_TOPIC:
            current.actions.append(message)
            current.instructions.append(str(message.instruction) or instruction)
    if current.actions or current.states:
        found.append(current)
    for one in found:
        stamps = [stamp_of(message.header.stamp) for message in one.actions]
        if stamps != [stamp_of(message.header.stamp) for message in one.states]:
            raise DataError(
                f"{index.path}: the {len(one.actions)} actions and {len(one.states)} states of the episode "
                f"{one.source} do not have the same stamps; the bag is incomplete."
            )
        if any(b <= a for a, b in zip(stamps, stamps[1:], strict=False)):
            raise DataError(f"{index.path}: the clock of the episode {one.source} goes back or stands still.")
    return found


def read_imported(index: BagIndex, one: Imported, texts: Mapping[str, str]) -> Episode:
    """Make an episode of its messages; images are read when asked for.  Raises `DataError`."""
    where, count = f"{index.path}, episode '{one.source}'", one.steps
    stamps = [stamp_of(message.header.stamp) for message in one.actions]
    cameras: dict[str, str] = {}
    prefix, suffix = IMAGE_TOPIC.split("{camera}")
    for topic, stream in index.images.items():
        if any(stamps[0] <= place.stamp <= stamps[-1] for place in stream.places):
            cameras[topic.removeprefix(prefix).removesuffix(suffix)] = topic
    extra = extra_from_text(one.extra, count, where)
    terminal = np.array([bool(message.terminate) for message in one.actions], np.bool_)
    rate = extra.rate or (round(1e9 * (count - 1) / (stamps[-1] - stamps[0]), 6) if count > 1 else 0.0)
    try:
        actions = np.stack([np.asarray(message.values) for message in one.actions])
        states = np.stack([np.asarray(message.position) for message in one.states])
    except ValueError as error:
        raise DataError(f"{where}: not every step has as many numbers: {error}.") from error
    for what, values in (("action", actions), ("state", states)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{where}, step {bad[0][0]}: number {bad[0][1]} of the {what} is not finite.")
    return Episode(
        source=one.source,
        actions=actions,
        states=states,
        is_first=extra.flags.get("is_first", np.arange(count) == 0),
        is_last=extra.flags.get("is_last", np.arange(count) == count - 1),
        is_terminal=terminal,
        instructions=extra.instructions or tuple(one.instructions),
        images={
            camera: index.frames(topic, stamps, f"{where}, camera '{camera}'")
            for camera, topic in sorted(cameras.items())
        },
        extra=extra.arrays,
        metadata=extra.metadata,
        rate=rate,
        action_space=extra.action_space or str(one.actions[0].action_space),
        action_names=extra.action_names,
        state_names=tuple(one.states[0].name),
        contract=texts.get("contract", ""),
    )


def _episode(steps: list[dict[str, Any]], source: str, path: Path) -> Episode:
    cameras = sorted(steps[0]["images"])
    for k, step in enumerate(steps):
        lacks = [key for key in ("state", "action") if key not in step]
        lacks += [camera for camera in cameras if camera not in step["images"]]
        if lacks:
            raise DataError(f"{path}: step {k} of the episode {source} lacks {', '.join(lacks)}.")
    count = len(steps)
    return Episode(
        source=source,
        actions=np.stack([step["action"] for step in steps]),
        states=np.stack([step["state"] for step in steps]),
        is_first=np.arange(count) == 0,
        is_last=np.arange(count) == count - 1,
        is_terminal=np.array([step["terminate"] for step in steps], np.bool_),
        instructions=tuple(step["instruction"] for step in steps),
        images={
            camera: EncodedFrames((step["images"][camera] for step in steps), f"{source}, camera '{camera}'")
            for camera in cameras
        },
    )


def _write_status(writer: BagWriter, episode: Episode, stamp: int, outcome: int) -> None:
    status = writer.types.create(
        "vla_ros/EpisodeStatus",
        header={"stamp": time_fields(stamp)},
        episode_id=episode.source,
        task="replay",
        instruction=episode.instruction,
        outcome=outcome,
        steps=len(episode),
    )
    writer.write(STATUS_TOPIC, "vla_ros/EpisodeStatus", stamp, status)


def _state_names(dimension: int) -> list[str]:
    return list(BRIDGE_STATE) if dimension == len(BRIDGE_STATE) else [f"state_{i}" for i in range(dimension)]
