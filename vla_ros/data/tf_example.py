"""Decoding of tf.train.Example: named lists of bytes, floats or integers.

Messages (tensorflow/core/example/{example,feature}.proto):
Example {1: Features}; Features {1: map<string, Feature>}; Feature {1: BytesList | 2: FloatList |
3: Int64List}; each list {1: repeated value}, numbers packed or not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.blobs import Blobs, FileView
from vla_ros.data.protobuf_wire import FIXED32, LENGTH_DELIMITED, VARINT, WireError, fields, read_varint

Value = list[bytes] | Blobs | NDArray[np.float32] | NDArray[np.int64]
"""A feature: byte strings, in memory or in their file, (n,) float32 or (n,) int64."""


def parse_example(buffer: bytes | FileView) -> dict[str, Value]:
    """Decode one serialised Example.  Raises `WireError` with the offset of the trouble."""
    features: dict[str, Value] = {}
    for number, kind, first, last in fields(buffer, 0, len(buffer)):
        if number == 1:
            _need(kind, LENGTH_DELIMITED, "features", first)
            _parse_features(buffer, first, last, features)
    return features


def _parse_features(buffer: bytes | FileView, start: int, end: int, features: dict[str, Value]) -> None:
    for number, kind, first, last in fields(buffer, start, end):
        if number != 1:
            continue
        _need(kind, LENGTH_DELIMITED, "feature entry", first)
        name, value = "", None
        for part, part_kind, part_first, part_last in fields(buffer, first, last):
            if part not in (1, 2):
                continue
            _need(part_kind, LENGTH_DELIMITED, "feature", part_first)
            if part == 1:
                name = _text(buffer[part_first:part_last], part_first)
            else:
                value = _parse_feature(buffer, part_first, part_last)
        features[name] = value if value is not None else []


def _parse_feature(buffer: bytes | FileView, start: int, end: int) -> Value | None:
    value: Value | None = None
    for number, kind, first, last in fields(buffer, start, end):
        if number not in (1, 2, 3):
            continue
        _need(kind, LENGTH_DELIMITED, "list", first)
        if number == 1:
            value = _bytes_list(buffer, first, last)
        elif number == 2:
            value = _float_list(buffer, first, last)
        else:
            value = _int64_list(buffer, first, last)
    return value


def _bytes_list(buffer: bytes | FileView, start: int, end: int) -> list[bytes] | Blobs:
    places = []
    for number, kind, first, last in fields(buffer, start, end):
        if number == 1:
            _need(kind, LENGTH_DELIMITED, "byte string", first)
            places.append((first, last))
    if isinstance(buffer, FileView):
        return Blobs(buffer, places)
    return [buffer[first:last] for first, last in places]


def _float_list(buffer: bytes | FileView, start: int, end: int) -> NDArray[np.float32]:
    parts = []
    for number, kind, first, last in fields(buffer, start, end):
        if number != 1:
            continue
        if kind not in (FIXED32, LENGTH_DELIMITED) or (last - first) % 4:
            raise WireError("a float list holds something else than 4-byte floats", first)
        parts.append(buffer[first:last])
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)


def _int64_list(buffer: bytes | FileView, start: int, end: int) -> NDArray[np.int64]:
    values: list[int] = []
    for number, kind, first, last in fields(buffer, start, end):
        if number != 1:
            continue
        if kind not in (VARINT, LENGTH_DELIMITED):
            raise WireError("an integer list holds something else than integers", first)
        packed, position = buffer[first:last], 0
        while position < len(packed):
            try:
                value, position = read_varint(packed, position, len(packed))
            except WireError as error:
                raise WireError(str(error), first + error.offset) from error
            values.append(value)
    return np.array(values, np.uint64).astype(np.int64)


def _need(kind: int, wanted: int, what: str, offset: int) -> None:
    if kind != wanted:
        raise WireError(f"a {what} has wire type {kind} instead of {wanted}", offset)


def _text(data: bytes, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a feature name is not UTF-8", offset) from error
