"""Byte strings that stay in a file until they are asked for, such as the images of an episode."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import overload

from vla_ros.errors import DataError

BLOCK = 4096
"""Bytes read at once where single ones are asked for."""


class FileView:
    """A part of a file that looks like `bytes`; single bytes come from the block that was read last."""

    def __init__(self, read: Callable[[int, int], bytes], length: int) -> None:
        """`read(position, count)` gives the bytes there, counted from the view's first."""
        self._read, self._length = read, length
        self._block, self._at = b"", 0

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> bytes: ...
    def __getitem__(self, index: int | slice) -> int | bytes:
        """One byte as a number, or some of them; the reading may raise `DataError`."""
        if isinstance(index, slice):
            first, last, _ = index.indices(self._length)
            return self._read(first, max(last - first, 0))
        if not 0 <= index < self._length:
            raise IndexError(index)
        if not self._at <= index < self._at + len(self._block):
            self._block = self._read(index, min(BLOCK, self._length - index))
            self._at = index
        return self._block[index - self._at]


class Blobs(Sequence[bytes]):
    """Byte strings at places in a view, read every time they are asked for."""

    def __init__(self, view: FileView, places: Sequence[tuple[int, int]]) -> None:
        """`places`: (first, last) of each, as a slice has them."""
        self._view, self._places = view, tuple(places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        """Read one; of several, none is read yet."""
        if isinstance(index, slice):
            return Blobs(self._view, self._places[index])
        first, last = self._places[index]
        return self._view[first:last]

    def __eq__(self, other: object) -> bool:
        """Whether the bytes are the same."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(other) == len(self) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each."""
        return [last - first for first, last in self._places]


def sizes_of(items: Sequence[bytes]) -> list[int]:
    """Bytes of each, unread where they lie in a file."""
    return items.sizes if isinstance(items, Blobs) else [len(item) for item in items]


def view_of(path: Path, offset: int, length: int) -> FileView:
    """A part of a file, which is opened for every reading: thousands of views hold no file open."""

    def read(position: int, count: int) -> bytes:
        try:
            with path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), count, offset + position)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
        if len(data) < count:
            raise DataError(f"{path} became shorter while it was read.")
        return data

    return FileView(read, length)


class Spool:
    """Byte strings put aside in a nameless file of a folder; a context manager, after which they are gone."""

    def __init__(self, folder: Path) -> None:
        """Raises `DataError` when nothing can be written there."""
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}.") from error
        self._folder, self._end = folder, 0

    def __enter__(self) -> Spool:
        """The spool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file back."""
        self._file.close()

    def put(self, items: Iterable[bytes]) -> Blobs:
        """Take them, one after the other.  Raises `DataError` when the disk does not."""
        places = []
        try:
            for item in items:
                self._file.write(item)
                places.append((self._end, self._end + len(item)))
                self._end += len(item)
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self._folder} cannot be written: {error.strerror or error}.") from error
        handle = self._file.fileno()
        return Blobs(FileView(lambda first, count: os.pread(handle, count, first), self._end), places)
