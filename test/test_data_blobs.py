"""Byte strings that stay in a file: as in memory, and a sentence where the file is not what it was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_ros.data import tfrecord
from vla_ros.data.blobs import BLOCK, Blobs, Spool, sizes_of, view_of
from vla_ros.data.crc32c import crc32c
from vla_ros.data.frames import EncodedFrames
from vla_ros.data.tf_example import parse_example
from vla_ros.data.tf_example_writer import encode_example, example_pieces
from vla_ros.data.tfrecord import frame_record, framed, read_record, read_records, record_offsets
from vla_ros.errors import DataError

SIZES = [0, 1, 3, 4, 5, 1023, 1024, 1025, 5000, (1 << 18) - 1, 1 << 18, (1 << 18) + 7]
"""Around the borders between the ways a checksum is made."""


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


@given(st.sampled_from(SIZES), st.sampled_from(SIZES), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_checksum_goes_on_where_it_was(first: int, second: int, seed: int) -> None:
    a, b = noise(first, seed), noise(second, seed + 1)
    assert crc32c(b, crc32c(a)) == crc32c(a + b)
    assert crc32c(bytearray(b), crc32c(a)) == crc32c(a + b)


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 64))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_in_pieces_is_the_record(monkeypatch, pieces: list[bytes], block: int) -> None:
    whole = frame_record(b"".join(pieces))
    with monkeypatch.context() as patched:
        patched.setattr(tfrecord, "BLOCK", block)
        assert b"".join(framed(sum(map(len, pieces)), pieces)) == whole


def example() -> dict[str, list[bytes] | np.ndarray]:
    images = [noise(size, size) for size in (0, 1, 70, BLOCK - 1, BLOCK, 3 * BLOCK, 90_000)]
    return {
        "image": images, "empty": [], "text": [b"pick", b"place"],
        "float": np.arange(3000, dtype=np.float32), "int": np.array([0, -1, 2**62, 300]),
        "flag": np.array([True, False]),
    }  # fmt: skip


def test_an_example_in_its_file_is_the_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "BLOCK", 1000)
    data = encode_example(example())
    length, pieces = example_pieces(example())
    assert length == len(data) and b"".join(pieces) == data
    path = tmp_path / "shard"
    path.write_bytes(frame_record(b"before") + b"".join(framed(len(data), (data,))))
    record = read_record(path, 1, record_offsets(path)[1])
    in_file, in_memory = parse_example(record.data), parse_example(data)
    assert [one.data for one in read_records(path)][1] == data
    assert set(in_file) == set(in_memory) == set(example())
    for name, value in in_memory.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(in_file[name], value)
        else:
            assert isinstance(in_file[name], Blobs) and in_file[name] == value
            assert sizes_of(in_file[name]) == sizes_of(value) == [len(item) for item in value]
    images = in_file["image"]
    assert list(images[2:4]) == in_memory["image"][2:4] and images[-1] == in_memory["image"][-1]
    assert EncodedFrames(images) == EncodedFrames(in_memory["image"])
    assert EncodedFrames(in_memory["image"]) == EncodedFrames(images)
    assert EncodedFrames(images) != EncodedFrames(in_memory["image"][:-1])


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_every_broken_byte_of_a_record_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(tfrecord, "BLOCK", block)
    good, path = frame_record(noise(60)), tmp_path / "shard"
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(DataError):
            read_record(path, 0, 0)
    path.write_bytes(good)
    assert read_record(path, 0, 0).data[:] == noise(60)


def test_a_file_that_changes_meanwhile_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise(3 * BLOCK))
    view = view_of(path, 10, 2 * BLOCK)
    assert view[5] == noise(3 * BLOCK)[15] and view[BLOCK:] == noise(3 * BLOCK)[10 + BLOCK : 10 + 2 * BLOCK]
    with pytest.raises(IndexError):
        view[2 * BLOCK]
    os.truncate(path, BLOCK)
    with pytest.raises(DataError, match="became shorter while it was read"):
        view[BLOCK:]
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        view[BLOCK:]


@given(st.lists(st.lists(st.binary(max_size=3000), max_size=5), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_aside_comes_back(tmp_path: Path, groups: list[list[bytes]]) -> None:
    with Spool(tmp_path) as spool:
        kept = [spool.put(iter(group)) for group in groups]
        assert [list(blobs) for blobs in kept] == groups
        assert [blobs.sizes for blobs in kept] == [[len(item) for item in group] for group in groups]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written: No such file"):
        Spool(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be written: No space left"), Spool(tmp_path) as spool:
        spool._file.close()
        spool._file = open("/dev/full", "wb")  # noqa: SIM115
        spool.put([noise(1 << 21)])
