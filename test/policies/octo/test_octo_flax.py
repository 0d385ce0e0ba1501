"""Flax's msgpack form: read exactly, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from octo_checkpoint import arrays, flax_bytes, packed, tree

from vla_ros.errors import PolicyError
from vla_ros.policies.octo.files import read_weights, weights_file
from vla_ros.policies.octo.flax_msgpack import flatten, parse_flax, read_flax

KINDS = [np.bool_, np.int8, np.int32, np.int64, np.uint8, np.uint16, np.float16, np.float32, np.float64]


@given(hnp.arrays(st.sampled_from(KINDS), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
def test_arrays_come_back_as_they_were(array: np.ndarray) -> None:
    content = msgpack.packb({"a": {"b": packed(np.asarray(array))}}, strict_types=True)
    found = flatten(parse_flax(content, "file"))["a/b"]
    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=8))
def test_bfloat16_is_the_upper_half_of_a_float(values: list[float]) -> None:
    whole = np.array(values, dtype=np.float32)
    upper = (whole.view(np.uint32) >> 16).astype(np.uint16)
    content = msgpack.packb({"a": packed(upper, "bfloat16")}, strict_types=True)
    found = parse_flax(content, "file")["a"]
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), upper.astype(np.uint32) << 16)


def test_scalars_and_chunks() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    chunks = {str(i): packed(whole.reshape(-1)[i * 10 : i * 10 + 10]) for i in range(3)}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3, "2": 4}, "chunks": chunks}
    content = msgpack.packb({"a": chunked, "b": packed(np.array(3.5), code=3)}, strict_types=True)
    found = parse_flax(content, "file")
    assert np.array_equal(found["a"], whole)
    assert found["b"] == 3.5 and found["b"].shape == ()
    for broken in (
        {**chunked, "chunks": {"0": chunks["0"], "2": chunks["2"]}},
        {**chunked, "shape": {"0": 2, "1": 3}},
        {**chunked, "chunks": {"0": 1}},
        {**chunked, "shape": None},
        {**chunked, "shape": {"0": -4, "1": -6}},
    ):
        with pytest.raises(PolicyError, match="file cannot be used: .*'a'|shape"):
            parse_flax(msgpack.packb({"a": broken}, strict_types=True), "file")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (packed(np.zeros(3, np.float32), "object"), "type 'object', allowed are bfloat16, bool"),
        (packed(np.zeros(3, np.complex64)), "type 'complex64'"),
        (msgpack.ExtType(7, b""), "extension 7, allowed are 1 and 3"),
        (msgpack.ExtType(2, b""), "extension 2"),
        (msgpack.ExtType(1, msgpack.packb([1, 2])), "not shape, type and bytes"),
        (msgpack.ExtType(1, msgpack.packb([[2**39, 2**39], "float32", b""])), "needs .* but has 0"),
        (msgpack.ExtType(1, msgpack.packb([[-1], "float32", b""])), "shape"),
        (msgpack.ExtType(1, msgpack.packb([[2], "float32", b"1234"])), "needs 8 bytes but has 4"),
        (msgpack.ExtType(1, msgpack.packb([[2], "float32", "text"])), "no bytes"),
        (packed(np.zeros(2), code=3), "scalar"),
        ("PLACEHOLDER://a.b", "'a' lies in a file of its own, as several hosts write it"),
        ({1: 2}, "strict_map_key|keys are names|int is not allowed"),
    ],
)
def test_what_is_wrong_is_said(value: object, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence) as caught:
        parse_flax(msgpack.packb({"a": value}, strict_types=True), "weights.msgpack")
    assert str(caught.value).startswith("weights.msgpack ")


def test_deep_nesting_and_other_content() -> None:
    deep: object = 1
    for _ in range(200):
        deep = {"a": deep}
    for content in (
        msgpack.packb(deep),
        msgpack.packb([1]),
        b"",
        b"\xc1",
        b"\x91" * 3000,
        msgpack.packb(1) * 2,
    ):
        with pytest.raises(PolicyError, match="file"):
            parse_flax(content, "file")


def test_a_thousand_damaged_files() -> None:
    """Truncated or tampered: a sentence, or arrays of numbers; nothing else, nothing executed."""
    few = {name: one for name, one in list(arrays().items())[:12]}
    content = flax_bytes({name: one.reshape(-1)[:6] for name, one in few.items()})
    random = np.random.default_rng(0)
    refused = 0
    for case in range(1000):
        damaged = bytearray(content)
        if case % 3 == 0:
            damaged = damaged[: random.integers(len(content))]
        else:
            for _ in range(random.integers(1, 12)):
                damaged[random.integers(len(damaged))] = random.integers(256)
        try:
            found = flatten(parse_flax(bytes(damaged), "file"))
        except PolicyError as error:
            refused += 1
            assert str(error).startswith("file ") and "\n" not in str(error)
        else:
            assert all(not isinstance(one, np.ndarray) or one.dtype != object for one in found.values())
    assert refused > 500


def test_files(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no folder in it is named by a number"):
        weights_file(tmp_path)
    for step in (5, 40, 300):
        (tmp_path / str(step) / "default").mkdir(parents=True)
        content = flax_bytes({"a/b": np.full(3, step, np.float32)})
        (tmp_path / str(step) / "default" / "checkpoint").write_bytes(content)
    assert read_weights(tmp_path)[0]["a/b"][0] == 300
    assert read_weights(tmp_path, 40)[0]["a/b"][0] == 40
    with pytest.raises(PolicyError, match="step 41, only of 5, 40, 300"):
        read_weights(tmp_path, 41)
    (tmp_path / "500" / "default").mkdir(parents=True)
    with pytest.raises(PolicyError, match="no file default/checkpoint"):
        read_weights(tmp_path)
    (tmp_path / "500" / "default" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(PolicyError, match="zarr"):
        read_weights(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(PolicyError, match="is empty"):
        read_flax(tmp_path / "empty")
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        read_flax(tmp_path / "missing")
    (tmp_path / "600").mkdir()
    state = tree({"params/x": packed(np.ones(2, np.float32)), "step": packed(np.array(7), code=3)})
    (tmp_path / "600" / "checkpoint").write_bytes(msgpack.packb(state, strict_types=True))
    assert list(read_weights(tmp_path)[0]) == ["x"]
