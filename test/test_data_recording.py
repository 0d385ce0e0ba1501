"""The recording thread and the list of topics."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vla_ros.contract import load_contract
from vla_ros.data.bag import BagWriter, bag_metadata, read_bag
from vla_ros.data.message_types import MessageTypes
from vla_ros.data.recorded_topics import RecordedTopic, contract_topics, parse_topic
from vla_ros.data.recording import Recording
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.robots import robot_names

TOPICS = [
    RecordedTopic("/a", "std_msgs/msg/Int64", "reliable"),
    RecordedTopic("/vla/observation", "vla_ros/msg/Observation"),
]


def _numbers(count: int) -> list[bytes]:
    types = MessageTypes()
    return [
        types.serialize(types.create("std_msgs/Int64", data=k), "std_msgs/msg/Int64") for k in range(count)
    ]


def test_everything_put_is_written_in_order(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "bag", TOPICS, {"contract": "c"})
    for k, raw in enumerate(_numbers(500)):
        recording.put("/a", k, raw)
    recording.close()
    assert recording.error == "" and not recording.dropped
    assert [e.message.data for e in read_bag(tmp_path / "bag")] == list(range(500))
    assert bag_metadata(tmp_path / "bag")["contract"] == "c"


@pytest.mark.parametrize("pixels", [False, True])
def test_observations_keep_or_lose_their_pixels(tmp_path: Path, pixels: bool) -> None:
    types = MessageTypes()
    image = {"width": 4, "height": 2, "step": 12, "encoding": "rgb8", "data": bytes(24)}
    observation = types.create("vla_ros/Observation", sequence=7, camera_names=["primary"], images=[image])
    recording = Recording(tmp_path / "bag", TOPICS, {}, observation_pixels=pixels)
    recording.put("/vla/observation", 1, types.serialize(observation, "vla_ros/msg/Observation"))
    recording.close()
    (entry,) = read_bag(tmp_path / "bag")
    kept = entry.message
    assert (
        kept.sequence == 7 and kept.images[0].width == 4 and kept.images[0].data.size == (24 if pixels else 0)
    )


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write = BagWriter.write

    def slow(self: BagWriter, *args: object) -> None:
        gate.wait()
        write(self, *args)

    monkeypatch.setattr(BagWriter, "write", slow)
    raw = _numbers(1)[0]
    recording = Recording(tmp_path / "bag", TOPICS, {}, max_queue=10 * len(raw))
    for k in range(50):
        recording.put("/a", k, raw)
    gate.set()
    recording.close()
    assert recording.dropped["/a"] > 0
    assert recording.dropped["/a"] + recording.counts["/a"] == 50


def test_a_failing_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: BagWriter, *args: object) -> None:
        raise DataError("the disk is full.")

    monkeypatch.setattr(BagWriter, "write", full)
    recording = Recording(tmp_path / "bag", TOPICS, {})
    recording.put("/a", 0, b"")
    recording.close()
    assert recording.error == "the disk is full."
    recording.put("/a", 0, b"")
    assert recording.dropped["/a"] == 1


def test_topics_are_parsed_or_refused() -> None:
    assert parse_topic("/x:std_msgs/String:latched") == RecordedTopic("/x", "std_msgs/msg/String", "latched")
    assert parse_topic("/x:std_msgs/msg/String").quality == "best_effort"
    for text in ("x:std_msgs/String", "/x", "/x:std_msgs/String:sometimes"):
        with pytest.raises(ConfigurationError, match="topic to record"):
            parse_topic(text)


@pytest.mark.parametrize("name", robot_names())
def test_every_topic_of_every_robot_has_a_known_type(name: str) -> None:
    contract = load_contract(name)
    topics = contract_topics(contract, clock=True)
    types = MessageTypes()
    for topic in topics:
        assert types.ensure(topic.type_name) == topic.type_name
    names = [topic.name for topic in topics]
    assert len(names) == len(set(names))
    assert {camera.topic for camera in contract.cameras.values()} <= set(names)
    assert contract.robot.driver.command_topic in names and "/clock" in names
