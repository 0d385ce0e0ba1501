"""What goes between node and model: exact for numbers, a sentence for anything hostile."""

from __future__ import annotations

import socket
import struct
import threading
import time

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vla_ros.errors import PolicyError
from vla_ros.policies.process import messages
from vla_ros.policies.process.channel import Channel, ChannelClosedError, ChannelTimeoutError

KINDS = st.sampled_from([np.dtype(name) for name in messages.DTYPES])


@given(KINDS.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0))))
def test_arrays_come_over_bit_for_bit(array: np.ndarray) -> None:
    got = messages.unpack(messages.pack({"a": array}))["a"]
    assert got.dtype == array.dtype and got.shape == array.shape and got.tobytes() == array.tobytes()
    got[...] = 0  # its own, to be written to


def test_foreign_byte_order_strides_and_numpy_scalars_come_over() -> None:
    array = np.arange(24.0).reshape(4, 6)[::2, ::-1].astype(">f4")
    got = messages.unpack(messages.pack({"a": array, "b": np.float32(0.5), "c": np.int64(3), "d": True}))
    np.testing.assert_array_equal(got["a"], array)
    assert (got["b"], got["c"], got["d"]) == (0.5, 3, True)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([None]), np.array([1j]), np.array(["x"]), np.zeros(2, "f4,i4"), 2**70],
)
def test_what_is_neither_plain_nor_an_array_of_numbers_is_not_sent(value: object) -> None:
    with pytest.raises(PolicyError, match="cannot be sent") as caught:
        messages.pack({"a": value})
    assert "\n" not in str(caught.value)


def ext(kind: str, shape: list[object], data: bytes, code: int = messages.ARRAY) -> bytes:
    return bytes(msgpack.packb({"a": msgpack.ExtType(code, msgpack.packb([kind, shape, data]))}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        ext("|O", [1], b"12345678"),
        ext("V8", [1], b"12345678"),
        ext("<f8", [2], b"12345678"),
        ext("<f8", [-1], b"12345678"),
        ext("<f8", [2**40], b"12345678"),
        ext("<f8", ["x"], b"12345678"),
        ext("<f8", [1] * 9, b"12345678"),
        ext("<f8", [1], b"12345678", code=2),
        bytes(msgpack.packb({"a": msgpack.ExtType(1, b"\x90")})),
    ],
)
def test_what_is_no_message_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(PolicyError) as caught:
        messages.unpack(data)
    assert "\n" not in str(caught.value)


def test_a_thousand_damaged_messages_end_in_a_sentence_or_a_map() -> None:
    random = np.random.default_rng(7)
    good = messages.pack(
        {"number": 1, "values": np.arange(28.0).reshape(4, 7), "text": "pick", "list": [1, 2]}
    )
    for case in range(1000):
        data = bytearray(good)
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data))] = random.integers(256)
        if case % 3 == 0:
            data = data[: random.integers(len(data))]
        try:
            assert isinstance(messages.unpack(bytes(data)), dict)
        except PolicyError as error:
            assert "\n" not in str(error)


def ends() -> tuple[Channel, socket.socket]:
    one, two = socket.socketpair()
    return Channel(one), two


def test_long_messages_pass_in_pieces() -> None:
    channel, other = ends()
    data = bytes(range(256)) * 40000
    sending = threading.Thread(target=Channel(other).send, args=(data, time.monotonic() + 30.0))
    sending.start()
    assert channel.receive(time.monotonic() + 30.0) == data
    sending.join()
    with pytest.raises(PolicyError, match="at most"):
        channel.send(bytes(messages.LARGEST + 1))
    channel.close()
    other.close()


def test_waiting_ends_with_the_time_with_the_other_side_and_when_shut() -> None:
    channel, other = ends()
    with pytest.raises(ChannelTimeoutError):
        channel.receive(time.monotonic() + 0.05)
    other.send(struct.pack("<I", 10) + b"half")
    with pytest.raises(ChannelTimeoutError):
        channel.receive(time.monotonic() + 0.05)
    threading.Timer(0.1, channel.shut).start()
    with pytest.raises(ChannelClosedError):
        channel.receive(time.monotonic() + 30.0)
    channel.close()
    other.close()
    channel, other = ends()
    other.close()
    with pytest.raises(ChannelClosedError):
        channel.receive()
    with pytest.raises(ChannelClosedError):
        channel.send(b"x")
    channel.close()


def test_a_length_that_is_too_long_is_refused_before_it_is_believed() -> None:
    channel, other = ends()
    other.send(struct.pack("<I", messages.LARGEST + 1))
    with pytest.raises(PolicyError, match="announced"):
        channel.receive(time.monotonic() + 5.0)
    channel.close()
    other.close()
