"""The tfrecord container: length, masked CRC of the length, payload, masked CRC of the payload.

Format: tensorflow/core/lib/io/record_writer.h.  Both checksums are verified before a payload is handed out,
and a length is believed only when the file is long enough to hold it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_ros.data.blobs import FileView, view_of
from vla_ros.data.crc32c import crc32c, masked, masked_crc32c
from vla_ros.errors import DataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
BLOCK = 1 << 20
"""Bytes that are read or written, and summed up, at once."""


@dataclass(frozen=True)
class Record:
    """One payload: `number` counts from 0, `offset` is the payload's first byte in the file."""

    path: Path
    number: int
    offset: int
    data: bytes | FileView
    """A view, where the payload stays in its file."""

    def where(self, position: int = 0) -> str:
        """Place of a byte of the payload, in words."""
        return f"{self.path}, record {self.number}, byte {self.offset + position}"


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a tfrecord file.

    Raises `DataError` naming file, record and byte offset when the file cannot be read, ends inside a record
    or fails a checksum.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            number = offset = 0
            while offset < size:
                here = f"{path}, record {number}, byte {offset}"
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    raise DataError(f"{here}: the file ends inside a record header; it is cut off.")
                length, length_crc = _HEADER.unpack(header)
                if masked_crc32c(header[:8]) != length_crc:
                    raise DataError(f"{here}: the record length fails its checksum; the file is corrupt.")
                if length > size - offset - _HEADER.size - _FOOTER.size:
                    raise DataError(f"{here}: the record claims {length} bytes, more than the file holds.")
                data = file.read(length)
                footer = file.read(_FOOTER.size)
                if len(data) < length or len(footer) < _FOOTER.size:
                    raise DataError(f"{here}: the file ends inside a record; it is cut off.")
                if masked_crc32c(data) != _FOOTER.unpack(footer)[0]:
                    raise DataError(f"{here}: the record fails its checksum; the file is corrupt.")
                yield Record(path, number, offset + _HEADER.size, data)
                offset += _HEADER.size + length + _FOOTER.size
                number += 1
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def record_offsets(path: Path) -> list[int]:
    """Where each record begins, from the headers alone.  Raises `DataError` as `read_records` does."""
    offsets: list[int] = []
    try:
        size, offset = path.stat().st_size, 0
        with path.open("rb") as file:
            while offset < size:
                file.seek(offset)
                here = f"{path}, record {len(offsets)}, byte {offset}"
                length = _read_length(file.read(_HEADER.size), here)
                if length > size - offset - _HEADER.size - _FOOTER.size:
                    raise DataError(f"{here}: the record claims {length} bytes, more than the file holds.")
                offsets.append(offset)
                offset += _HEADER.size + length + _FOOTER.size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    return offsets


def read_record(path: Path, number: int, offset: int) -> Record:
    """One record that begins at `offset`; `number` is for sentences.

    The checksum is verified; the payload stays in the file.  Raises `DataError`.
    """
    here = f"{path}, record {number}, byte {offset}"
    checksum = 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            length = _read_length(file.read(_HEADER.size), here)
            if length > path.stat().st_size - offset - _HEADER.size - _FOOTER.size:
                raise DataError(f"{here}: the record claims {length} bytes, more than the file holds.")
            left = length
            while left > 0 and (block := file.read(min(left, BLOCK))):
                checksum, left = crc32c(block, checksum), left - len(block)
            footer = file.read(_FOOTER.size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(footer) < _FOOTER.size or masked(checksum) != _FOOTER.unpack(footer)[0]:
        raise DataError(f"{here}: the record fails its checksum; the file is corrupt.")
    begin = offset + _HEADER.size
    return Record(path, number, begin, view_of(path, begin, length))


def _read_length(header: bytes, here: str) -> int:
    if len(header) < _HEADER.size:
        raise DataError(f"{here}: the file ends inside a record header; it is cut off.")
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        raise DataError(f"{here}: the record length fails its checksum; the file is corrupt.")
    return int(length)


def frame_record(data: bytes) -> bytes:
    """Return `data` framed as one tfrecord record."""
    return b"".join(framed(len(data), (data,)))


def framed(length: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A payload of `length` bytes that comes in pieces, framed as one record, in blocks of about `BLOCK`."""
    packed = struct.pack("<Q", length)
    yield packed + _FOOTER.pack(masked_crc32c(packed))
    checksum, block = 0, bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= BLOCK:
            checksum = crc32c(block, checksum)
            yield bytes(block)
            block.clear()
    yield bytes(block) + _FOOTER.pack(masked(crc32c(block, checksum)))
