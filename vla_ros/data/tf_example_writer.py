"""Encoding of tf.train.Example; the inverse of `tf_example`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.blobs import sizes_of
from vla_ros.data.protobuf_wire import LENGTH_DELIMITED

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_Part = tuple[int, Iterator[bytes]]
"""How many bytes, and they, piece by piece."""


def encode_example(features: Mapping[str, Sequence[bytes] | NDArray[Any]]) -> bytes:
    """One serialised Example in memory; see `example_pieces`."""
    return b"".join(example_pieces(features)[1])


def example_pieces(features: Mapping[str, Sequence[bytes] | NDArray[Any]]) -> _Part:
    """The length of one serialised Example, and its bytes piece by piece; features in the order of names.

    Sequences of byte strings as they are, read one by one; floating arrays as float32 (the format has no
    other), integers and bools as int64; arrays are laid end to end.
    """
    entries = [
        _delimited(1, _join([_delimited(1, _whole(name.encode("utf-8"))), _delimited(2, _feature(value))]))
        for name, value in sorted(features.items())
    ]
    return _delimited(1, _join(entries))


def _feature(value: Sequence[bytes] | NDArray[Any]) -> _Part:
    if not isinstance(value, np.ndarray):
        heads = [_head(1, size) for size in sizes_of(value)]
        length = sum(map(len, heads)) + sum(sizes_of(value))
        return _delimited(_BYTES, (length, _alternating(heads, value)))
    numbers = value.reshape(-1)
    if numbers.dtype.kind == "f":
        kind, packed = _FLOATS, numbers.astype("<f4").tobytes()
    else:
        kind, packed = _INTEGERS, _varints(numbers.astype(np.int64).view(np.uint64).tolist())
    return _delimited(kind, _delimited(1, _whole(packed)) if packed else _whole(b""))


def _alternating(heads: Sequence[bytes], items: Sequence[bytes]) -> Iterator[bytes]:
    for head, item in zip(heads, items, strict=True):
        yield head
        yield item


def _whole(body: bytes) -> _Part:
    return len(body), iter((body,))


def _join(parts: Sequence[_Part]) -> _Part:
    return sum(length for length, _ in parts), (piece for _, pieces in parts for piece in pieces)


def _delimited(number: int, part: _Part) -> _Part:
    head = _head(number, part[0])
    return _join([_whole(head), part])


def _head(number: int, size: int) -> bytes:
    return _varints((number << 3 | LENGTH_DELIMITED, size))


def _varints(values: Iterable[int]) -> bytes:
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
