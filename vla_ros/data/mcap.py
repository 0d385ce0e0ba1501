"""Reader of MCAP files: record by record, every length checked before it is believed.

Format: mcap.dev/spec.  Unlike a reader that starts at the index in the footer, this one also reads a file
whose writer was killed: everything up to the last whole record is there.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vla_ros.errors import DataError

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK = 1 << 30
"""Largest decompressed chunk that is read [bytes]."""

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _METADATA = 0x03, 0x04, 0x05, 0x06, 0x0B, 0x0C
_METADATA_INDEX = 0x0D
_FOOTER_SIZE = 9 + 20 + len(MAGIC)


class _MalformedError(Exception):
    """A record does not hold what it claims."""


@dataclass(frozen=True)
class Channel:
    """A topic as recorded: its type and the definition that the file carries."""

    topic: str
    type_name: str
    encoding: str
    definition: str


@dataclass
class McapFile:
    """One MCAP file.  The fields below `path` fill while `messages` runs and are complete behind its end."""

    path: Path
    lenient: bool = False
    """Step over damaged records instead of refusing the file."""
    closed: bool = True
    """The file ends as its writer ends it."""
    channels: dict[int, Channel] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    """MCAP metadata records by name."""
    lost_bytes: int = 0
    """Bytes of records that are not whole: behind the last whole one, or damaged."""
    position: int = 0
    """Where the record in the file begins that holds the message just given."""
    offset: int = 0
    """Where that message's data begin in the record's content (`content`)."""
    _schemas: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    _expected: int | None = None

    def messages(self) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield (channel, stamp [ns], data) in the order of recording.

        Raises `DataError` when the file is not MCAP, or is damaged elsewhere than at an unclosed end.
        """
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise DataError(f"{self.path} is not an MCAP file ({size} bytes, no MCAP signature).")
                self.closed = _has_footer(file, size)
                yield from self._file_messages(file, size)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def content(self, position: int) -> bytes:
        """Content of the record at `position`, that of a chunk decompressed.  Raises `DataError`."""
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                op, length = struct.unpack("<BQ", file.read(9))
                body = file.read(length) if length <= self.path.stat().st_size - position else b""
            return _chunk_content(body) if op == _CHUNK else body
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        except (_MalformedError, struct.error) as error:
            raise DataError(f"{self.path}, byte {position}: a record is malformed; corrupt.") from error

    def closing_record(self, name: str) -> dict[str, str]:
        """The MCAP metadata record `name` that the index at the end of the file points to; else empty."""
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                if not _has_footer(file, size):
                    return {}
                file.seek(size - _FOOTER_SIZE + 9)
                start = struct.unpack("<Q", file.read(8))[0]
                while 0 < start < size - _FOOTER_SIZE:
                    file.seek(start)
                    op, length = struct.unpack("<BQ", file.read(9))
                    if op == _METADATA_INDEX and length < 1 << 16:
                        body = file.read(length)
                        if _string(body, 16)[0] == name:
                            body = self.content(struct.unpack_from("<Q", body)[0])
                            return _string_map(body, _string(body, 0)[1])
                    start += 9 + length
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        except (_MalformedError, struct.error, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: the index at the end is malformed; corrupt.") from error
        return {}

    def _file_messages(self, file: BinaryIO, size: int) -> Iterator[tuple[Channel, int, bytes]]:
        position, count = len(MAGIC), 0
        end = size - len(MAGIC) if self.closed else size
        if self.lenient and self.closed:
            self._summary(file, end)
        while position < end:
            file.seek(position)
            head = file.read(9)
            length = struct.unpack("<Q", head[1:])[0] if len(head) == 9 else end
            if length > end - position - 9 or head[0] == 0:
                # A power cut may leave zeros where the file had grown but nothing was written.
                if self.closed and not self.lenient:
                    raise DataError(
                        f"{self.path}, byte {position}: a record reaches beyond the file; corrupt."
                    )
                self.lost_bytes += end - position
                return
            op = head[0]
            self.position = position
            if op in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _METADATA):
                body = file.read(length)
                self.offset = 0
                try:
                    for message in self._record(op, body):
                        count += 1
                        yield message
                except (_MalformedError, struct.error, UnicodeDecodeError) as error:
                    if self.closed and not self.lenient:
                        raise DataError(
                            f"{self.path}, byte {position}: a record is malformed; corrupt."
                        ) from error
                    self.lost_bytes += 9 + length
            position += 9 + length
        if self._expected is not None and self._expected != count and not self.lenient:
            raise DataError(f"{self.path} holds {count} messages, its index says {self._expected}; corrupt.")

    def _summary(self, file: BinaryIO, end: int) -> None:
        """Channels as the end of the file repeats them: the chunk that told them may be damaged."""
        position = len(MAGIC)
        while position < end:
            file.seek(position)
            op, length = struct.unpack("<BQ", file.read(9).ljust(9, b"\0"))
            if length > end - position - 9:
                return
            if op in (_SCHEMA, _CHANNEL):
                with suppress(_MalformedError, struct.error, UnicodeDecodeError):
                    for _ in self._record(op, file.read(length)):
                        pass
            position += 9 + length

    def _record(self, op: int, body: bytes) -> Iterator[tuple[Channel, int, bytes]]:
        if op == _MESSAGE:
            self.offset += 22
            yield self._message(body)
        elif op == _CHUNK:
            yield from self._chunk(body)
        elif op == _SCHEMA:
            number, cursor = struct.unpack_from("<H", body)[0], 2
            name, cursor = _string(body, cursor)
            encoding, cursor = _string(body, cursor)
            text, _ = _string(body, cursor)
            self._schemas[number] = (name, encoding, text)
        elif op == _CHANNEL:
            number, schema = struct.unpack_from("<HH", body)
            topic, cursor = _string(body, 4)
            encoding, _ = _string(body, cursor)
            name, kind, text = self._schemas.get(schema, ("", "", ""))
            self.channels[number] = Channel(topic, name, encoding, text if kind == "ros2msg" else "")
        elif op == _STATISTICS:
            self._expected = struct.unpack_from("<Q", body)[0]
        elif op == _METADATA:
            name, cursor = _string(body, 0)
            self.metadata[name] = _string_map(body, cursor)

    def _message(self, body: bytes) -> tuple[Channel, int, bytes]:
        number, _, stamp, _ = struct.unpack_from("<HIQQ", body)
        channel = self.channels.get(number)
        if channel is None:
            raise _MalformedError
        return channel, stamp, body[22:]

    def _chunk(self, body: bytes) -> Iterator[tuple[Channel, int, bytes]]:
        data = _chunk_content(body)
        size = len(data)
        position = 0
        while position < size:
            if size - position < 9:
                raise _MalformedError
            op, length = struct.unpack_from("<BQ", data, position)
            position += 9
            if length > size - position or op == _CHUNK:
                raise _MalformedError
            self.offset = position
            yield from self._record(op, data[position : position + length])
            position += length


def _chunk_content(body: bytes) -> bytes:
    _, _, size, checksum = struct.unpack_from("<QQQI", body)
    compression, cursor = _string(body, 28)
    stored = struct.unpack_from("<Q", body, cursor)[0]
    cursor += 8
    if stored != len(body) - cursor or size > MAX_CHUNK:
        raise _MalformedError
    data = _decompress(body[cursor:], compression, size)
    if len(data) != size or (checksum and crc32(data) != checksum):
        raise _MalformedError
    return data


def _has_footer(file: BinaryIO, size: int) -> bool:
    if size < _FOOTER_SIZE + len(MAGIC):
        return False
    file.seek(size - _FOOTER_SIZE)
    tail = file.read(_FOOTER_SIZE)
    return tail.endswith(MAGIC) and tail[:9] == struct.pack("<BQ", 0x02, 20)


def _string(body: bytes, cursor: int) -> tuple[str, int]:
    length = struct.unpack_from("<I", body, cursor)[0]
    cursor += 4
    if length > len(body) - cursor:
        raise _MalformedError
    return body[cursor : cursor + length].decode("utf-8"), cursor + length


def _string_map(body: bytes, cursor: int) -> dict[str, str]:
    end = cursor + 4 + struct.unpack_from("<I", body, cursor)[0]
    cursor += 4
    if end > len(body):
        raise _MalformedError
    entries = {}
    while cursor < end:
        key, cursor = _string(body, cursor)
        entries[key], cursor = _string(body, cursor)
    return entries


def _decompress(data: bytes, compression: str, size: int) -> bytes:
    """Decompress at most one byte more than the chunk claims."""
    try:
        if compression == "":
            return data
        if compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

            return bytes(LZ4FrameDecompressor().decompress(data, max_length=size + 1))
        if compression == "zstd":
            from backports.zstd import ZstdDecompressor

            return bytes(ZstdDecompressor().decompress(data, max_length=size + 1))
    except Exception as error:  # lz4 raises RuntimeError, zstd an error of its own
        raise _MalformedError from error
    raise _MalformedError
