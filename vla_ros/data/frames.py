"""The images of one camera in one episode, read when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import cv2

from vla_ros.data.blobs import Blobs
from vla_ros.data.encoded_image import decode_image, image_size
from vla_ros.errors import DataError
from vla_ros.types import Image

JPEG_QUALITY = 95
"""Of frames that their source does not hold as JPEG or PNG, where they are asked for in that form."""


class Frames(Sequence[bytes]):
    """T frames; `frames[k]` is frame k as JPEG or PNG, `frames.image(k)` its pixels."""

    native = False
    """Whether `frames[k]` gives the very bytes that the source holds."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames."""

    @abstractmethod
    def image(self, step: int) -> Image:
        """Pixels of one frame, RGB (height, width, 3), uint8.  Raises `DataError`."""

    @abstractmethod
    def encoded(self, step: int) -> bytes:
        """One frame as JPEG or PNG.  Raises `DataError`."""

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        """Encoded frames."""
        if isinstance(index, slice):
            return tuple(self.encoded(k) for k in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.encoded(index % len(self))


class EncodedFrames(Frames):
    """Frames that the source holds as JPEG or PNG; their bytes stay as they are."""

    native = True

    def __init__(self, frames: Iterable[bytes], where: str = "") -> None:
        """`where` they come from, for sentences.  `Blobs` stay in their file."""
        self._frames: Sequence[bytes] = frames if isinstance(frames, Blobs) else tuple(frames)
        self._where = where

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the first frame's header states; (0, 0) for none."""
        return (image_size(self._frames[0]) if self._frames else None) or (0, 0)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __eq__(self, other: object) -> bool:
        """Whether the bytes are the same."""
        if isinstance(other, EncodedFrames):
            return self._frames == other._frames
        return self._frames == other

    __hash__ = None  # type: ignore[assignment]

    def image(self, step: int) -> Image:
        """Decode one frame."""
        return decode_image(self._frames[step], f"{self._where}, step {step}")

    def encoded(self, step: int) -> bytes:
        """The source's own bytes."""
        return self._frames[step]


class LazyFrames(Frames):
    """Frames that `load(step)` reads as pixels, from raw images or a video."""

    def __init__(self, count: int, size: tuple[int, int], load: Callable[[int], Image]) -> None:
        self._count, self._size, self._load = count, size, load

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._size

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._count

    def image(self, step: int) -> Image:
        """Read one frame."""
        return self._load(step)

    def encoded(self, step: int) -> bytes:
        """One frame as JPEG of quality `JPEG_QUALITY`."""
        bgr = cv2.cvtColor(self.image(step), cv2.COLOR_RGB2BGR)
        done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise DataError(f"a frame of {bgr.shape[1]} x {bgr.shape[0]} pixels cannot be encoded as JPEG.")
        return bytes(jpeg.data)
