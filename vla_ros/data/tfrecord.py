"""The tfrecord container: length, masked CRC of the length, payload, masked CRC of the payload.

Format: tensorflow/core/lib/io/record_writer.h.  Both checksums are verified before a payload is handed out,
and a length is believed only when the file is long enough to hold it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_ros.data.crc32c import masked_crc32c
from vla_ros.errors import DataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


@dataclass(frozen=True)
class Record:
    """One payload: `number` counts from 0, `offset` is the payload's first byte in the file."""

    path: Path
    number: int
    offset: int
    data: bytes

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


def frame_record(data: bytes) -> bytes:
    """Return `data` framed as one tfrecord record."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(masked_crc32c(length)), data, _FOOTER.pack(masked_crc32c(data))))
