"""Reader of RLDS folders: the real sample, and broken files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.data.crc32c import crc32c, masked_crc32c
from vla_ros.data.encoded_image import decode_image, image_size
from vla_ros.data.protobuf_wire import WireError
from vla_ros.data.rlds import Episode, decode_episode, open_rlds, read_rlds
from vla_ros.data.rlds_features import load_features
from vla_ros.data.tf_example import parse_example
from vla_ros.data.tfrecord import Record, frame_record, read_records
from vla_ros.errors import DataError

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no BridgeData V2 sample here")


def _key(number: int, kind: int) -> bytes:
    return bytes([number << 3 | kind])


def _varint(value: int) -> bytes:
    out = b""
    value &= (1 << 64) - 1
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _message(number: int, body: bytes) -> bytes:
    return _key(number, 2) + _varint(len(body)) + body


def _feature(value: list[bytes] | np.ndarray, packed: bool = True) -> bytes:
    if isinstance(value, list):
        return _message(1, b"".join(_message(1, item) for item in value))
    if value.dtype == np.float32:
        if packed:
            return _message(2, _message(1, value.astype("<f4").tobytes()))
        return _message(2, b"".join(_key(1, 5) + struct.pack("<f", v) for v in value))
    if packed:
        return _message(3, _message(1, b"".join(_varint(int(v)) for v in value)))
    return _message(3, b"".join(_key(1, 0) + _varint(int(v)) for v in value))


def encode_example(values: dict[str, list[bytes] | np.ndarray], packed: bool = True) -> bytes:
    """Independent little encoder of tf.train.Example."""
    body = b""
    for name, value in values.items():
        body += _message(1, _message(1, name.encode()) + _message(2, _feature(value, packed)))
    return _message(1, body)


def _leaf(kind: str, **spec: object) -> dict[str, object]:
    return {"pythonClassName": "x", kind: spec}


def _tensor(dtype: str, *shape: int) -> dict[str, object]:
    return _leaf("tensor", dtype=dtype, encoding="none", shape={"dimensions": [str(d) for d in shape]})


def _group(**features: object) -> dict[str, object]:
    return {"pythonClassName": "FeaturesDict", "featuresDict": {"features": features}}


FEATURES = _group(
    steps={
        "pythonClassName": "Dataset",
        "sequence": {
            "feature": _group(
                action=_tensor("float32", 7),
                language_instruction=_leaf("text"),
                is_first=_tensor("bool"),
                observation=_group(state=_tensor("float32", 7), image_0=_leaf("image", shape={})),
            )
        },
    },
    episode_metadata=_group(file_path=_leaf("text"), episode_id=_tensor("int32")),
)


def _values(steps: int = 3, seed: int = 0) -> dict[str, list[bytes] | np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "steps/action": rng.normal(size=7 * steps).astype(np.float32),
        "steps/observation/state": rng.normal(size=7 * steps).astype(np.float32),
        "steps/observation/image_0": [rng.bytes(20) for _ in range(steps)],
        "steps/language_instruction": ["pick ü".encode()] * steps,
        "steps/is_first": np.array([1] + [0] * (steps - 1), np.int64),
        "episode_metadata/file_path": [b"/a/b"],
        "episode_metadata/episode_id": np.array([-5], np.int64),
    }


def write_dataset(folder: Path, payloads: list[bytes]) -> Path:
    """Write a one-shard data set of serialised examples; return the shard."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(FEATURES))
    split = {"name": "train", "shardLengths": [str(len(payloads))]}
    info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    shard = folder / "toy-train.tfrecord-00000-of-00001"
    shard.write_bytes(b"".join(frame_record(p) for p in payloads))
    return shard


def _same(a: Episode, b: Episode) -> bool:
    return (
        np.array_equal(a.actions, b.actions)
        and np.array_equal(a.states, b.states)
        and a.instructions == b.instructions
        and a.images == b.images
        and a.metadata == b.metadata
    )


def _slow_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc_has_the_published_check_values() -> None:
    # RFC 3720 B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


@given(st.integers(0, 5000), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_crc_of_any_length_equals_the_bitwise_definition(size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert crc32c(data) == _slow_crc(data)


@pytest.mark.parametrize("size", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1, (1 << 18) + 7, 1_000_003])
def test_crc_of_long_inputs_goes_on_from_that_of_short_ones(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    # What follows a prefix changes the register as the definition says.
    crc = crc32c(data[:1000]) ^ 0xFFFFFFFF
    table = [_slow_crc(bytes([b])) for b in range(256)]
    start = _slow_crc(b"\x00")
    table = [value ^ start for value in table]
    for byte in data[1000:]:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    assert crc32c(data) == crc32c(memoryview(data)) == crc ^ 0xFFFFFFFF


@needs_sample
def test_real_sample_is_read_completely() -> None:
    folder = open_rlds(SAMPLE)
    episodes = list(folder.episodes())
    assert len(episodes) == len(folder) == 25
    for number, episode in enumerate(episodes):
        assert f"record {number}" in episode.source
        assert episode.actions.shape == episode.states.shape == (10, 7)
        assert np.isfinite(episode.actions).all() and np.isfinite(episode.states).all()
        assert episode.is_first.tolist() == [True] + [False] * 9
        assert set(episode.images) == {"image_0", "image_1", "image_2", "image_3"}
        assert len(episode.instructions) == 10
    image = episodes[3].image("image_0", 9)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and image.std() > 5
    assert episodes[3].instruction == "turn lever vertical to front"
    np.testing.assert_allclose(episodes[3].states[0, :3], [0.268, -0.065, 0.191], atol=1e-3)


@needs_sample
@pytest.mark.parametrize(("camera", "step"), [("wrist", 0), ("image_0", 10), ("image_0", -1)])
def test_absent_image_is_a_sentence(camera: str, step: int) -> None:
    episode = next(iter(read_rlds(SAMPLE)))
    with pytest.raises(DataError, match="camera"):
        episode.image(camera, step)


@pytest.mark.parametrize("packed", [True, False])
def test_written_values_come_back(tmp_path: Path, packed: bool) -> None:
    values = _values(4)
    write_dataset(tmp_path / "1.0.0", [encode_example(values, packed), encode_example(_values(2, 1))])
    first, second = read_rlds(tmp_path)
    assert np.array_equal(first.actions, values["steps/action"].reshape(4, 7))
    assert first.images["image_0"] == tuple(values["steps/observation/image_0"])
    assert first.instruction == "pick ü" and len(second) == 2
    assert first.metadata == {"file_path": "/a/b", "episode_id": -5}
    assert first.is_last.tolist() == [False, False, False, True]


def _set(values: dict, key: str, value: object) -> dict:
    return {**values, key: value} if value is not None else {k: v for k, v in values.items() if k != key}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("steps/action", None, "missing"),
        ("steps/action", np.zeros(20, np.float32), "values where"),
        ("steps/action", np.zeros(21, np.int64), "holds int64"),
        ("steps/observation/state", [b"x"] * 21, "holds bytes"),
        ("steps/observation/image_0", np.zeros(3, np.int64), "holds numbers"),
        ("steps/language_instruction", [b"\xff"] * 3, "UTF-8"),
    ],
)
def test_record_that_breaks_its_promise_is_named(tmp_path: Path, key: str, value: object, words: str) -> None:
    write_dataset(tmp_path, [encode_example(_values()), encode_example(_set(_values(), key, value))])
    with pytest.raises(DataError, match=rf"record 1.*{words}"):
        list(read_rlds(tmp_path))


def test_folder_that_is_no_data_set_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        open_rlds(tmp_path / "absent")
    with pytest.raises(DataError, match="no features.json"):
        open_rlds(tmp_path)
    for version in ("1.0.0", "2.0.0"):
        write_dataset(tmp_path / version, [encode_example(_values())])
    with pytest.raises(DataError, match="several versions"):
        open_rlds(tmp_path)
    shard = write_dataset(tmp_path / "3", [encode_example(_values())])
    with pytest.raises(DataError, match="no split 'test'"):
        list(read_rlds(tmp_path / "3", "test"))
    shard.write_bytes(shard.read_bytes() * 2)
    with pytest.raises(DataError, match="holds 2 records"):
        list(read_rlds(tmp_path / "3"))
    shard.unlink()
    with pytest.raises(DataError, match="which is not in"):
        open_rlds(tmp_path / "3")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("rlds"), [encode_example(_values(3, s)) for s in range(3)])


def replace(path: Path, content: bytes) -> None:
    """Some file systems write a truncated file to disk at once, a new one later."""
    path.unlink()
    path.write_bytes(content)


FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), max_size=3)


@given(cut=st.integers(0, 3000), flips=FLIPS)
@settings(max_examples=150, deadline=None)
def test_broken_shard_gives_equal_episodes_then_a_data_error(
    shard: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    whole = list(read_rlds(shard.parent))
    good = shard.read_bytes()
    bad = bytearray(good[: max(0, len(good) - cut)])
    for position, bit in flips:
        if bad:
            bad[position % len(bad)] ^= 1 << bit
    try:
        replace(shard, bytes(bad))
        read: list[Episode] = []
        if bytes(bad) == good:
            assert len(list(read_rlds(shard.parent))) == 3
        else:
            with pytest.raises(DataError, match="toy-train"):
                for episode in read_rlds(shard.parent):
                    read.append(episode)
        assert all(_same(a, b) for a, b in zip(read, whole, strict=False))
    finally:
        replace(shard, good)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_wire_decoder_survives_anything(shard: Path, data: st.DataObject) -> None:
    good = encode_example(_values(2))
    bad = bytearray(data.draw(st.sampled_from([good, b""])) or data.draw(st.binary(max_size=200)))
    for _ in range(data.draw(st.integers(0, 4))):
        if bad:
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    bad = bad[: data.draw(st.integers(0, len(bad)))]
    try:
        parse_example(bytes(bad))
    except WireError as error:
        assert 0 <= error.offset <= len(bad)
    try:
        features = load_features(shard.parent / "features.json")
        episode = decode_episode(Record(shard, 7, 12, bytes(bad)), features)
        assert episode.actions.shape[1] == 7
    except DataError as error:
        assert "record 7" in str(error)


JSON_KEYS = st.sampled_from(
    ["featuresDict", "features", "sequence", "feature", "steps", "tensor", "dtype", "shape", "splits", "name"]
)
JSON = st.recursive(
    st.none() | st.floats() | st.text(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans())
@settings(max_examples=150, deadline=None)
def test_broken_json_is_a_data_error(shard: Path, content: object, info: bool) -> None:
    path = shard.parent / ("dataset_info.json" if info else "features.json")
    good = path.read_bytes()
    try:
        replace(path, json.dumps(content).encode())
        list(read_rlds(shard.parent))
    except DataError as error:
        assert str(shard.parent) in str(error)
    finally:
        replace(path, good)


def test_claimed_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    length = struct.pack("<Q", 1 << 62)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"abc")
    with pytest.raises(DataError, match="more than the file holds"):
        list(read_records(path))
    assert parse_example(b"") == {}
    with pytest.raises(WireError, match="beyond its message"):
        parse_example(b"\x0a\xff\xff\xff\xff\x0f")


@needs_sample
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.integers(0, 2000))
@settings(max_examples=60, deadline=None)
def test_broken_image_is_an_image_or_a_data_error(changes: list[tuple[int, int]], cut: int) -> None:
    global _IMAGE
    _IMAGE = _IMAGE or next(iter(read_rlds(SAMPLE))).images["image_0"][0]
    bad = bytearray(_IMAGE[: max(0, len(_IMAGE) - cut)])
    for position, value in changes:
        if bad:
            bad[position % len(bad)] = value
    try:
        assert decode_image(bytes(bad), "here").ndim == 3
    except DataError as error:
        assert str(error).startswith("here")


_IMAGE = b""


def test_image_bomb_is_refused_by_its_header() -> None:
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 60000, 60000) + bytes(20)
    assert image_size(png) == (60000, 60000)
    with pytest.raises(DataError, match="at most"):
        decode_image(png, "here")
    with pytest.raises(DataError, match="neither JPEG nor PNG"):
        decode_image(b"BM" + bytes(60), "here")
