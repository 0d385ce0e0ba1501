"""The wire form: what openpi sends is understood, what we send it understands, and nothing else gets in."""

from __future__ import annotations

import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vla_ros.errors import PolicyError
from vla_ros.policies.remote.wire import DTYPES, MAX_DEPTH, pack, unpack

CASES = 1000


def test_bytes_of_an_array_are_openpis() -> None:
    """By hand, from openpi's msgpack_numpy: a map with keys of bytes, the dtype as numpy says it."""
    array = np.array([[1.0, 2.0]], dtype=np.float32)
    by_hand = (
        b"\x81\xa7actions\x84"
        b"\xc4\x0b__ndarray__\xc3"
        b"\xc4\x04data\xc4\x08" + array.tobytes() + b"\xc4\x05dtype\xa3<f4"
        b"\xc4\x05shape\x92\x01\x02"
    )
    assert pack({"actions": array}) == by_hand
    (found,) = unpack(by_hand).values()
    assert found.dtype == np.float32 and np.array_equal(found, array)
    assert unpack(msgpack.packb({b"__npgeneric__": True, b"data": 3, b"dtype": "<i8"})) == np.int64(3)


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.booleans(), st.none(),
            arrays.arrays(
                st.sampled_from(sorted(DTYPES)).map(np.dtype), arrays.array_shapes(min_dims=0, min_side=0),
                elements=None,
            ),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_what_is_sent_arrives(message: dict) -> None:
    found = unpack(pack(message))
    assert found.keys() == message.keys()
    for key, value in message.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
            assert found[key].tobytes() == value.tobytes() and found[key].flags.writeable
        else:
            assert found[key] == value


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array(["text"]), np.array([1 + 2j]), np.zeros(2, "V8"), np.zeros(2, "M8[s]")],
)
def test_no_other_kind_of_array_is_sent_or_let_in(array: np.ndarray) -> None:
    with pytest.raises(PolicyError, match="cannot be sent"):
        pack({"x": array})
    kind = array.dtype.str
    frame = msgpack.packb({b"__ndarray__": True, b"data": b"\0" * 16, b"dtype": kind, b"shape": [2]})
    with pytest.raises(PolicyError, match="allowed are"):
        unpack(frame)


@pytest.mark.parametrize("shape", [[3], [-2, -4], [2**40], [True, 8], ["8"], 8, [8.0], [1] * 9, None])
def test_shape_and_bytes_must_agree(shape: object) -> None:
    frame = msgpack.packb({b"__ndarray__": True, b"data": b"\0" * 32, b"dtype": "<f4", b"shape": shape})
    with pytest.raises(PolicyError):
        unpack(frame)


@pytest.mark.parametrize("shape", [[2**62, 4, 0], [2**26, 2**26, 2**26, 0], [0, 2**26, 2**26]])
def test_a_side_of_zero_excuses_no_other(shape: list[int]) -> None:
    frame = msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": shape})
    with pytest.raises(PolicyError):
        unpack(frame)


def test_depth_is_bounded() -> None:
    message: object = 1
    for _ in range(MAX_DEPTH + 1):
        message = [message]
    with pytest.raises(PolicyError, match="deep"):
        unpack(msgpack.packb(message))
    with pytest.raises(PolicyError):
        unpack(b"\x91" * 100_000 + b"\x01")


def test_a_flood_of_small_maps_is_refused_while_it_is_read() -> None:
    """Millions of entries in a few megabytes would fill the memory of whoever believes them."""
    flood: object = 0
    for _ in range(4):
        flood = [flood] * 40
    frame = msgpack.packb([flood] * 3)
    assert len(frame) > 5_000_000
    tracemalloc.start()
    with pytest.raises(PolicyError, match="more than 4096 entries"):
        unpack(frame)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    with pytest.raises(PolicyError):
        unpack(msgpack.packb({str(number): number for number in range(300)}))


def test_a_thousand_hostile_frames_are_refused_or_understood() -> None:
    random = np.random.default_rng(7)
    sound = pack({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "prompt": "go", "n": np.float64(2.0)})
    refused = 0
    for _ in range(CASES):
        frame = bytearray(sound)
        kind = random.integers(3)
        if kind == 0:
            frame = bytearray(random.integers(0, 256, random.integers(0, 60), np.uint8).tobytes())
        elif kind == 1:
            del frame[random.integers(len(frame)) :]
        else:
            for at in random.integers(len(frame), size=random.integers(1, 5)):
                frame[at] = random.integers(256)
        try:
            unpack(bytes(frame))
        except PolicyError:
            refused += 1
    assert refused > CASES // 3
