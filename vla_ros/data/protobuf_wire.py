"""The protocol buffers wire format, as far as tf.train.Example needs it.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.data.blobs import FileView

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Malformed bytes; `offset` counts from the start of the outermost buffer."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def read_varint(buffer: bytes | FileView, position: int, end: int) -> tuple[int, int]:
    """Return an unsigned base-128 integer of at most 64 bits and the position behind it."""
    value = shift = 0
    start = position
    while position < end:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise WireError("an integer is wider than 64 bits", start)
            return value, position
        shift += 7
        if shift >= 70:
            raise WireError("an integer is longer than ten bytes", start)
    raise WireError("the data ends inside an integer", start)


def fields(buffer: bytes | FileView, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, first, last) of each field of the message in `buffer[start:end]`.

    `first:last` is the range of the field's value; for a varint the range of its bytes.
    """
    position = start
    while position < end:
        tag_at = position
        tag, position = read_varint(buffer, position, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0 is not allowed", tag_at)
        first = position
        if wire_type == VARINT:
            _, position = read_varint(buffer, position, end)
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        elif wire_type == LENGTH_DELIMITED:
            length, first = read_varint(buffer, position, end)
            position = first + length
        else:
            raise WireError(f"wire type {wire_type} is unknown", tag_at)
        if position > end:
            raise WireError(f"field {number} reaches beyond its message", tag_at)
        yield number, wire_type, first, position
