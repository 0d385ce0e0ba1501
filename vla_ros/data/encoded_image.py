"""Decoding of JPEG and PNG images that came from a file nobody vouches for."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from vla_ros.errors import DataError
from vla_ros.types import Image

MAX_PIXELS = 64_000_000
"""Largest image that is decoded; a corrupt header can claim four thousand times more."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn markers, ITU-T T.81 table B.1
_JPEG_BARE = frozenset(range(0xD0, 0xDA)) | {0x01}  # markers without a length


def is_png(encoded: bytes) -> bool:
    """Whether the bytes carry the PNG signature."""
    return encoded.startswith(_PNG)


def image_size(encoded: bytes) -> tuple[int, int] | None:
    """(height, width) that the header of a JPEG or PNG states; None when there is no such header."""
    if is_png(encoded):
        if len(encoded) < 24:
            return None
        width, height = struct.unpack_from(">II", encoded, 16)
        return height, width
    if not encoded.startswith(_JPEG):
        return None
    position = 2
    while position + 9 <= len(encoded):
        if encoded[position] != 0xFF:
            return None
        marker = encoded[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        elif marker in _JPEG_FRAME:
            height, width = struct.unpack_from(">HH", encoded, position + 5)
            return height, width
        else:
            position += 2 + max(2, int(struct.unpack_from(">H", encoded, position + 2)[0]))
    return None


def decode_image(encoded: bytes, where: str) -> Image:
    """Decode to RGB, shape (height, width, 3), uint8.

    Raises `DataError`, starting with `where`, when the bytes are no JPEG or PNG or the image is larger than
    `MAX_PIXELS`.
    """
    size = image_size(encoded)
    if size is None:
        raise DataError(f"{where}: the {len(encoded)} bytes of the image are neither JPEG nor PNG.")
    height, width = size
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError(f"{where}: the image claims {width}x{height} pixels, of at most {MAX_PIXELS}.")
    try:
        bgr = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{where}: the image cannot be decoded ({error.err}).") from error
    if bgr is None:
        raise DataError(f"{where}: the image cannot be decoded.")
    rgb: Image = np.ascontiguousarray(bgr[..., ::-1])
    return rgb
