"""The recording thread and the list of topics."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import load_contract
from vla_ros.data.bag import BagWriter, bag_metadata, closing_metadata, read_bag, repair_bag
from vla_ros.data.episode_bags import EpisodeBags
from vla_ros.data.image_encoding import IMAGES
from vla_ros.data.message_types import MessageTypes
from vla_ros.data.recorded_topics import RecordedTopic, contract_topics, parse_topic
from vla_ros.data.recording import MIN_FREE, SYNC_PERIOD, Recording
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.robots import robot_names

ROOT = Path(__file__).parents[1]
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


def test_a_full_disk_costs_nothing_that_was_written(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "bag")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    count, error = run.stdout.strip().split(" ", 1)
    assert error == f"{tmp_path / 'bag'} cannot be written: File too large."
    found = [e.raw for e in read_bag(tmp_path / "bag", salvage=True, topics=["/a"])]
    # what was in the chunk that the disk refused is lost, nothing else
    assert 0 < int(count) - 40 <= len(found) <= int(count)
    assert found == [bytes([0, 1, 0, 0]) + k.to_bytes(8, "little") * 4096 for k in range(len(found))]
    assert sum(repair_bag(tmp_path / "bag", tmp_path / "repaired").values()) == len(found) + 1


FULL = """
import resource, signal, sys, time
from pathlib import Path
from vla_ros.data.recorded_topics import RecordedTopic
from vla_ros.data.recording import MIN_FREE, SYNC_PERIOD, Recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recording = Recording(Path(sys.argv[1]), [RecordedTopic("/a", "std_msgs/msg/ByteMultiArray")], {})
resource.setrlimit(resource.RLIMIT_FSIZE, (5_300_000, 5_300_000))
for k in range(400):
    recording.put("/a", k, bytes([0, 1, 0, 0]) + k.to_bytes(8, "little") * 4096)
    time.sleep(0.001)
recording.close()
assert sum(recording.dropped.values()) > 0
print(recording.counts["/a"], recording.error)
"""


@given(st.integers(0, 10**6), st.sampled_from(["fails", "half"]))
@settings(max_examples=14, deadline=None)
def test_a_write_that_fails_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, which: int, how: str
) -> None:
    bag = tmp_path_factory.mktemp("full") / "bag"
    raw, whole = _numbers(60), 0
    writer = BagWriter(bag, {"contract": "c"})
    real, calls = os.writev, 0

    def full(descriptor: int, parts: list[memoryview]) -> int:
        nonlocal calls
        calls += 1
        if calls - 1 < which % 7:
            return real(descriptor, parts)
        if how == "half":
            os.write(descriptor, bytes(parts[0])[: len(parts[0]) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", full)
        with pytest.raises(DataError, match="cannot be written: No space left on device"):
            for k, data in enumerate(raw):
                writer.write("/a", "std_msgs/Int64", k, data)
                if k % 8 == 7:
                    writer.flush()
                    whole = k + 1
    writer.close()
    if whole:
        assert [e.message.data for e in read_bag(bag)] == list(range(whole))
    else:
        with pytest.raises(DataError, match="holds no messages"):
            list(read_bag(bag))


def test_recording_ends_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.data.recording.disk_free", lambda path: 5 << 20)
    recording = Recording(tmp_path / "bag", TOPICS, {})
    recording.put("/a", 0, _numbers(1)[0])
    deadline = time.monotonic() + 10
    while not recording.error and time.monotonic() < deadline:
        time.sleep(0.02)
    recording.close()
    assert "is full but for 5 MB: recording stopped" in recording.error
    assert [e.message.data for e in read_bag(tmp_path / "bag")] == [0]
    assert "is full" in closing_metadata(tmp_path / "bag")["error"]


def _episode(name: str, outcome: int) -> bytes:
    types = MessageTypes()
    message = types.create("vla_ros/EpisodeStatus", episode_id=name, outcome=outcome, task="pick")
    return types.serialize(message, "vla_ros/msg/EpisodeStatus")


EPISODE_TOPICS = [
    *TOPICS,
    RecordedTopic("/vla/episode_status", "vla_ros/msg/EpisodeStatus", "reliable"),
    RecordedTopic("/vla/instruction", "std_msgs/msg/String", "latched"),
]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_one_bag_an_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.data.episode_bags.PRE_ROLL", 0.3)
    monkeypatch.setattr("vla_ros.data.episode_bags.POST_ROLL", 0.1)
    types = MessageTypes()
    instruction = types.serialize(types.create("std_msgs/String", data="pick it up"), "std_msgs/msg/String")
    numbers = iter(enumerate(_numbers(1000), 100))
    bags = EpisodeBags(tmp_path / "bags", EPISODE_TOPICS, {"contract": "c"})

    def some(count: int) -> None:
        for _ in range(count):
            bags.put("/a", *next(numbers))
            time.sleep(0.005)

    bags.put("/vla/instruction", 1, instruction)
    some(100)
    for name, outcome in (("one", 2), ("two/..", 5)):
        bags.put("/vla/episode_status", next(numbers)[0], _episode(name, 1))
        some(20)
        bags.put("/vla/episode_status", next(numbers)[0], _episode(name, outcome))
        some(5)
        _wait(
            lambda name=name: (
                bags.recording is None and bags.episode_id == "" and len(bags.bags) > (name != "one")
            )
        )
        some(10)
    bags.close()
    assert bags.error == "" and not bags.dropped
    first, second = bags.bags
    assert first.parent == tmp_path / "bags" and first.name.endswith("_one")
    assert second.parent == tmp_path / "bags" / "discarded" and second.name.endswith("_two_..")
    assert bag_metadata(first)["episode_id"] == "one" and bag_metadata(second)["episode_id"] == "two/.."
    assert closing_metadata(first)["outcome"] == "success"
    assert closing_metadata(second)["outcome"] == "discarded"
    entries = list(read_bag(first))
    stamps = [e.stamp for e in entries if e.topic == "/a"]
    begin = next(e.stamp for e in entries if e.topic == "/vla/episode_status")
    assert stamps == list(range(stamps[0], begin)) + list(range(begin + 1, begin + 21)) + stamps[-5:]
    assert 30 <= begin - stamps[0] <= 70, "0.3 s before the episode are there, older ones are not"
    assert [e.message.data for e in entries if e.topic == "/vla/instruction"] == ["pick it up"]
    assert [e.stamp for e in entries if e.topic == "/vla/instruction"] == [stamps[0]]


def test_an_episode_is_discarded_after_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.data.episode_bags.POST_ROLL", 0.0)
    bags = EpisodeBags(tmp_path, EPISODE_TOPICS, {})
    bags.put("/vla/episode_status", 1, _episode("one", 1))
    bags.put("/vla/episode_status", 2, _episode("one", 2))
    _wait(lambda: len(bags.bags) == 1)
    bags.put("/vla/episode_status", 3, _episode("one", 5))
    bags.put("/vla/episode_status", 4, _episode("two", 1))
    bags.close()
    assert [bag.parent.name for bag in bags.bags] == ["discarded", tmp_path.name]
    assert closing_metadata(bags.bags[1])["outcome"] == "unfinished"


def test_two_recorders_do_not_share_a_place(tmp_path: Path) -> None:
    bags = EpisodeBags(tmp_path / "bags", EPISODE_TOPICS, {})
    with pytest.raises(DataError, match=rf"another recorder \(process {os.getpid()}\) writes its bags"):
        EpisodeBags(tmp_path / "bags", EPISODE_TOPICS, {})
    bags.close()
    EpisodeBags(tmp_path / "bags", EPISODE_TOPICS, {}).close()  # the lock of one that ended blocks nobody
    with pytest.raises(DataError, match="cannot be cut by episodes"):
        EpisodeBags(tmp_path / "other", TOPICS, {})
    recording = Recording(tmp_path / "bag", TOPICS, {})
    with pytest.raises(DataError, match="it exists already"):
        Recording(tmp_path / "bag", TOPICS, {})
    recording.close()
    with pytest.raises(DataError, match="definition of the message type no_such/msg/Thing was not found"):
        Recording(tmp_path / "unknown", [RecordedTopic("/x", "no_such/msg/Thing")], {})
    assert not (tmp_path / "unknown").exists()


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


def test_the_document_names_every_topic() -> None:
    text = (ROOT / "docs" / "bags.md").read_text(encoding="utf-8")
    contract = load_contract("panda")
    own = [t for t in contract_topics(contract, clock=True) if t.name.startswith(("/vla", "/sim", "/clock"))]
    for topic in own:
        package, _, name = topic.type_name.split("/")
        assert f"| `{topic.name}` | `{package}/{name}`" in text
    assert all(f"| `{images}` |" in text for images in IMAGES)
    assert f"{MIN_FREE >> 20} MB" in text and f"every {SYNC_PERIOD} s" in text
