"""MCAP storage that keeps a promise to the disk: whole chunks with checksums, written without copying.

Built on rosbags' storage, which makes the index and the summary.  What differs: large messages go to the
file as they came (`writev`), every chunk has its CRC-32, a chunk that the disk refused is taken back so
that the file ends with a whole one, and `sync` waits for the disk from any thread.
"""

from __future__ import annotations

import os
import struct
from binascii import crc32
from collections import Counter, defaultdict
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk

CHUNK_SIZE = 1 << 20
"""A chunk is closed when it is larger [bytes]."""
_LARGE = 1 << 14
"""Messages from this size on are written as they are, smaller ones are gathered first [bytes]."""
_MAX_PARTS = 512
_CHUNK, _MESSAGE, _MESSAGE_INDEX, _CHUNK_INDEX = 0x06, 0x05, 0x07, 0x08


class DurableMcap(McapWriter):
    """One MCAP file.  All methods but `sync` belong to one thread.  Raise `OSError`."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        """Create the file in the folder `path`."""
        super().__init__(path, compression)
        self.bio.flush()
        self._descriptor = os.dup(self.bio.fileno())
        self._parts: list[bytes] = []
        self._small = bytearray()
        self._size = 0
        self.written = self.bio.tell()
        """Bytes of the file that are whole records."""
        self.refused: Counter[int] = Counter()
        """Messages per connection that were in chunks which the disk refused."""

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Put one message into the pending chunk; a full chunk is written."""
        self._gather()
        self.message_start_time = min(timestamp, self.message_start_time)
        self.message_end_time = max(timestamp, self.message_end_time)
        self.channel_stats[connection.id] += 1
        chunk = self.chunk
        chunk.message_start_time = min(timestamp, chunk.message_start_time)
        chunk.message_end_time = max(timestamp, chunk.message_end_time)
        chunk.msgs[connection.id].append((timestamp, self._size))
        self._small += struct.pack(
            "<BQHIQQ", _MESSAGE, 22 + len(data), connection.id, 0, timestamp, timestamp
        )
        if len(data) < _LARGE:
            self._small += data
        else:
            self._cut()
            self._parts.append(bytes(data))
        self._size += 31 + len(data)
        if self._size > CHUNK_SIZE:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Write the pending chunk with its index; on failure the file ends where it did before."""
        self._gather()
        self._cut()
        parts, chunk, size = self._parts, self.chunk, self._size
        self._parts, self._size = [], 0
        self.chunk = PendingChunk(2**63 - 1, 0, BytesIO(), defaultdict(list))
        if not size:
            return
        checksum = 0
        for part in parts:
            checksum = crc32(part, checksum)
        times = struct.pack("<QQ", chunk.message_start_time, chunk.message_end_time)
        head = times + struct.pack("<QIIQ", size, checksum, 0, size)
        start, length = self.written, 9 + len(head) + size
        index, offsets = bytearray(), bytearray()
        for number, entries in chunk.msgs.items():
            offsets += struct.pack("<HQ", number, start + length + len(index))
            index += struct.pack("<BQHI", _MESSAGE_INDEX, 6 + 16 * len(entries), number, 16 * len(entries))
            index += struct.pack(f"<{2 * len(entries)}Q", *(value for entry in entries for value in entry))
        record = struct.pack("<BQ", _CHUNK, len(head) + size) + head
        try:
            self._write_all([record, *parts, bytes(index)])
        except OSError:
            self._take_back()
            for number, entries in chunk.msgs.items():
                self.channel_stats[number] -= len(entries)
                self.refused[number] += len(entries)
            raise
        self.written = start + length + len(index)
        summary = BytesIO()
        summary.write(times + struct.pack("<QQI", start, length, len(offsets)) + offsets)
        summary.write(struct.pack("<QIQQ", len(index), 0, size, size))
        self.chunks.append(summary)

    def flush(self) -> None:
        """Hand everything to the operating system: a killed process loses nothing of it."""
        self.close_chunk()

    def sync(self) -> None:
        """Wait until the disk has what was flushed: a power cut loses nothing of it."""
        os.fdatasync(self._descriptor)

    def close(self, version: int, metadata: str) -> None:
        """Write index and footer; where the disk refuses, the file ends with its last whole chunk."""
        try:
            self.close_chunk()
            super().close(version, metadata)
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                self.bio.close()
            self._take_back()
            raise
        finally:
            os.close(self._descriptor)

    def _gather(self) -> None:
        """Schemas and channels, which rosbags puts into a stream of its own."""
        if self.chunk.bio.tell():
            self._small += self.chunk.bio.getvalue()
            self._size += self.chunk.bio.tell()
            self.chunk.bio = BytesIO()

    def _cut(self) -> None:
        if self._small:
            self._parts.append(bytes(self._small))
            self._small = bytearray()

    def _take_back(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.written)
            os.lseek(self._descriptor, self.written, os.SEEK_SET)

    def _write_all(self, parts: list[bytes]) -> None:
        for first in range(0, len(parts), _MAX_PARTS):
            views: list[Any] = [memoryview(part) for part in parts[first : first + _MAX_PARTS] if part]
            while views:
                done = os.writev(self._descriptor, views)
                while views and done >= len(views[0]):
                    done -= len(views.pop(0))
                if done:
                    views[0] = views[0][done:]


class DurableRosbag(Writer):
    """rosbags' writer of bag folders on that storage."""

    STORAGE_PLUGINS = {StoragePlugin.MCAP: DurableMcap}

    def close(self) -> None:
        """Write index and metadata.yaml, without the messages that the disk refused."""
        if isinstance(self.storage, DurableMcap):
            for number, count in self.storage.refused.items():
                self.counts[number] -= count
        super().close()
