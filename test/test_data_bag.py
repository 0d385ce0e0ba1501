"""Bags: what is written comes back, damage is said plainly, a killed writer leaves what was flushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from vla_ros.data.bag import METADATA_TOPIC, BagWriter, bag_metadata, read_bag, repair_bag
from vla_ros.data.episode_bag import episode_to_bag, episodes_from_bag, episodes_to_bag
from vla_ros.data.message_types import MessageTypes, stamp_of, time_fields
from vla_ros.data.rlds import read_rlds
from vla_ros.errors import DataError

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared" / "data" / "bridge_v2_sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no BridgeData V2 sample here")


def write_small(path: Path, count: int = 20) -> Path:
    with BagWriter(path, {"contract": "robot: panda\n"}) as writer:
        for k in range(count):
            setpoint = writer.types.create(
                "vla_ros/JointSetpoint",
                header={"stamp": time_fields(k), "frame_id": "base"},
                tick=k,
                positions=np.arange(7) * 0.1 * k,
                state=1,
            )
            writer.write("/vla/joint_setpoint", "vla_ros/JointSetpoint", 1000 + k, setpoint)
            status = writer.types.create(
                "vla_ros/SafetyStatus",
                interventions=[{"action": 3, "reason": "floor", "amount": 0.5}],
                tick=k,
            )
            writer.write("/vla/safety_status", "vla_ros/msg/SafetyStatus", 1000 + k, status)
    return path


def contents(path: Path, **options: object) -> list[tuple[str, int, bytes]]:
    return [(m.topic, m.stamp, m.raw) for m in read_bag(path, **options)]


def test_messages_come_back(tmp_path: Path) -> None:
    bag = write_small(tmp_path / "bag")
    entries = list(read_bag(bag))
    assert len(entries) == 40
    assert [e.stamp for e in entries[::2]] == list(range(1000, 1020))
    setpoint, status = entries[6].message, entries[7].message
    assert setpoint.tick == 3 and stamp_of(setpoint.header.stamp) == 3 and setpoint.header.frame_id == "base"
    np.testing.assert_array_equal(setpoint.positions, np.arange(7) * 0.1 * 3)
    assert status.interventions[0].reason == "floor" and status.interventions[0].amount == 0.5
    metadata = bag_metadata(bag)
    assert metadata["contract"] == "robot: panda\n" and metadata["vla_ros_version"]


def test_filters(tmp_path: Path) -> None:
    bag = write_small(tmp_path / "bag")
    topics = {e.topic for e in read_bag(bag, topics=["/vla/safety_status"])}
    assert topics == {"/vla/safety_status"}
    assert {e.stamp for e in read_bag(bag, start=1003, stop=1005)} == {1003, 1004}
    assert list(read_bag(bag, topics=["/nothing"])) == []


def test_rosbags_reads_the_same(tmp_path: Path) -> None:
    bag = write_small(tmp_path / "bag")
    with AnyReader([bag]) as reader:
        theirs = [(c.topic, t, bytes(raw)) for c, t, raw in reader.messages() if c.topic != METADATA_TOPIC]
        durability = [
            c.ext.offered_qos_profiles[0].durability.name
            for c in reader.connections
            if c.topic == METADATA_TOPIC
        ]
    assert sorted(theirs) == sorted(contents(bag))
    assert durability == ["TRANSIENT_LOCAL"]


@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_a_bag_of_another_writer_is_read(tmp_path: Path, mode: CompressionMode) -> None:
    types = MessageTypes()
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=types.store)
        for k in range(5):
            text = types.create("std_msgs/String", data=f"hello {k}")
            writer.write(connection, k, types.serialize(text, "std_msgs/msg/String"))
    assert [e.message.data for e in read_bag(tmp_path / "bag")] == [f"hello {k}" for k in range(5)]
    assert bag_metadata(tmp_path / "bag") == {}


def test_raw_bytes_and_driver_types(tmp_path: Path) -> None:
    types = MessageTypes()
    group = types.create("interbotix_xs_msgs/JointGroupCommand", name="arm", cmd=[0.1, 0.2])
    raw = types.serialize(group, types.ensure("interbotix_xs_msgs/JointGroupCommand"))
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/wx250s/commands/joint_group", "interbotix_xs_msgs/msg/JointGroupCommand", 5, raw)
        assert writer.counts["/wx250s/commands/joint_group"] == 1
    (entry,) = read_bag(tmp_path / "bag")
    assert entry.raw == raw and entry.message.cmd.dtype == np.float32


def test_misuse_is_a_sentence(tmp_path: Path) -> None:
    bag = write_small(tmp_path / "bag")
    with pytest.raises(DataError, match="exists already"):
        BagWriter(bag)
    with BagWriter(tmp_path / "other") as writer:
        with pytest.raises(DataError, match="was not found"):
            writer.add_topic("/x", "no_such_package/Thing")
        with pytest.raises(DataError, match="no message type"):
            writer.add_topic("/x", "Thing")
        writer.add_topic("/x", "std_msgs/String")
        with pytest.raises(DataError, match="carries std_msgs/msg/String"):
            writer.add_topic("/x", "std_msgs/Bool")
        with pytest.raises(DataError, match="no field"):
            writer.types.create("std_msgs/String", text="x")
    with pytest.raises(DataError, match="holds no messages"):
        list(read_bag(tmp_path / "other"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mcap", b"", "not an MCAP"),
        ("b.mcap", b"x" * 500, "not an MCAP"),
        ("c.db3", b"", "SQLite"),
        ("d.txt", b"hi", "no .mcap file"),
    ],
)
def test_what_is_no_bag_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(read_bag(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        list(read_bag(tmp_path / "absent"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, bytes]]]:
    bag = write_small(tmp_path_factory.mktemp("bags") / "bag", 6)
    return bag / "bag.mcap", contents(bag)


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=250, deadline=None)
def test_flipped_bit_is_found_or_harmless(small: tuple, position: int, bit: int) -> None:
    path, whole = small
    bad = bytearray(path.read_bytes())
    bad[position % len(bad)] ^= 1 << bit
    copy = path.with_name(f"flipped_{os.getpid()}.dat")
    copy.unlink(missing_ok=True)  # a new file is not flushed at once, a truncated one may be
    copy.write_bytes(bad)
    try:
        assert contents(copy) == whole
    except DataError as error:
        assert copy.name in str(error)


@given(st.integers(1, 10**6))
@settings(max_examples=60, deadline=None)
def test_cut_bag_is_refused_and_salvaged(small: tuple, cut: int) -> None:
    path, whole = small
    good = path.read_bytes()
    copy = path.with_name(f"cut_{os.getpid()}.dat")
    copy.unlink(missing_ok=True)  # a new file is not flushed at once, a truncated one may be
    copy.write_bytes(good[: -(cut % (len(good) - 1)) or None])
    if copy.stat().st_size == len(good):
        return
    with pytest.raises(DataError, match="not closed|not an MCAP"):
        contents(copy)
    try:
        assert contents(copy, salvage=True) in (whole, [])
    except DataError as error:
        assert "not an MCAP" in str(error) or "holds no messages" in str(error)


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[str, int, bytes]], list[int]]:
    """A file of 25 chunks, what is in it, and where each chunk ends with its index."""
    bag, ends = tmp_path_factory.mktemp("bags") / "chunks", []
    with BagWriter(bag, {"contract": "x"}) as writer:
        for k in range(100):
            value = writer.types.create("std_msgs/Int64", data=k)
            writer.write("/a", "std_msgs/Int64", k, value)
            if k % 4 == 3:
                writer.flush()
                ends.append(writer.bytes_written)
    return (bag / "chunks.mcap").read_bytes(), contents(bag), ends


@given(st.integers(0, 10**6), st.integers(0, 5000))
@settings(max_examples=80, deadline=None)
def test_every_whole_chunk_before_a_cut_is_saved(
    tmp_path_factory: pytest.TempPathFactory, chunks: tuple, cut: int, zeros: int
) -> None:
    content, whole, ends = chunks
    cut %= ends[-1]
    # a power cut may leave zeros where the file had grown but nothing was written
    file = tmp_path_factory.mktemp("cut") / "cut.mcap"
    file.write_bytes(content[: max(cut, 8)] + bytes(zeros))
    least = 4 * sum(end <= cut for end in ends)
    try:
        saved = contents(file, salvage=True)
    except DataError as error:
        assert "holds no messages" in str(error) and least == 0
        return
    assert saved == whole[: len(saved)] and least <= len(saved) <= least + 4


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_behind_the_signature(small: tuple, tail: bytes) -> None:
    copy = small[0].with_name(f"random_{os.getpid()}.dat")
    copy.unlink(missing_ok=True)  # a new file is not flushed at once, a truncated one may be
    copy.write_bytes(small[0].read_bytes()[:300] + tail)
    for salvage in (False, True):
        try:
            [e.message for e in read_bag(copy, salvage=salvage)]
        except DataError as error:
            assert copy.name in str(error) or "topic" in str(error)


KILLED = """
import os, signal, sys
from pathlib import Path
from vla_ros.data.bag import BagWriter
writer = BagWriter(Path(sys.argv[1]), {"contract": "x"})
for k in range(50):
    writer.write("/a", "std_msgs/Int64", k, writer.types.create("std_msgs/Int64", data=k))
    if k == 29:
        writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_writer_leaves_what_was_flushed(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(bag)], cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    assert run.returncode < 0
    with pytest.raises(DataError, match="not closed"):
        list(read_bag(bag))
    assert [e.message.data for e in read_bag(bag, salvage=True)] == list(range(30))
    assert bag_metadata(bag)["contract"] == "x"
    assert repair_bag(bag, tmp_path / "repaired")["/a"] == 30
    assert [e.message.data for e in read_bag(tmp_path / "repaired")] == list(range(30))
    assert bag_metadata(tmp_path / "repaired")["contract"] == "x"
    with AnyReader([tmp_path / "repaired"]) as reader:
        assert reader.message_count == 31


@needs_sample
def test_real_episodes_survive_the_bag(tmp_path: Path) -> None:
    episodes = list(read_rlds(SAMPLE))[:4]
    episode_to_bag(episodes[3], tmp_path / "one", start=10**9)
    (back,) = episodes_from_bag(tmp_path / "one")
    wanted = episodes[3]
    assert back.source == wanted.source and back.instructions == wanted.instructions
    assert back.images == dict(wanted.images)
    np.testing.assert_array_equal(back.actions, wanted.actions)
    np.testing.assert_array_equal(back.states, wanted.states)
    stamps = [e.stamp for e in read_bag(tmp_path / "one", topics=["/episode/action"])]
    assert stamps == [10**9 + 200_000_000 * k for k in range(10)]
    info = (tmp_path / "one" / "metadata.yaml").read_text()
    assert "vla_ros_version" in info
    episodes_to_bag(episodes, tmp_path / "many")
    assert [e.source for e in episodes_from_bag(tmp_path / "many")] == [e.source for e in episodes]


def test_bag_metadata_that_is_no_json_is_said(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer._metadata = "{"
        writer.write("/a", "std_msgs/Empty", 0, writer.types.create("std_msgs/Empty"))
    with pytest.raises(DataError, match="not JSON"):
        bag_metadata(tmp_path / "bag")
    assert json.dumps(time_fields(3_000_000_001)) == '{"sec": 3, "nanosec": 1}'
