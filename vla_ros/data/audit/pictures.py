"""Looks at the frames of a camera while they pass: equal, black, a strip of small pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.data.audit.record import CameraRecord, Thumbnail
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.encoded_image import image_size, is_png
from vla_ros.errors import DataError
from vla_ros.types import NANOSECONDS, Image

KEPT = 24
"""Most pictures kept; when there are more, every second one goes and half as many are taken from then on."""
STRIP_HEIGHT = 120
"""Height of a small picture [pixels]."""
BLOCK, CODEC_NOISE = 8, 4.0
"""Key frames of H.264 show the same when no block of so many pixels a side differs by more than this in
its mean grey value (of 255): the codec's loss stays below it, a moving arm does not.
"""
_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


class CameraWatch:
    """Takes the messages of one camera in their order and fills a `CameraRecord`."""

    def __init__(self, record: CameraRecord, rules: AuditRules, pictures: bool) -> None:
        """`pictures`: keep small ones."""
        self.record, self._rules, self._pictures = record, rules, pictures
        self._before: NDArray[np.uint8] | None = None
        self._sampled: int | None = None
        self._taken: int | None = None
        self._key: tuple[int, NDArray[np.float32]] | None = None
        self._spacing = int(rules.image_sampling * NANOSECONDS)

    def take(self, message: Any, recorded: int, stamp: int) -> None:
        """One `Image`, `CompressedImage` or `CompressedVideo`."""
        self.record.stream.add(stamp, recorded)
        data = np.asarray(message.data, np.uint8)
        raw = hasattr(message, "height")
        video = not raw and str(message.format) == "h264"
        self.record.equal.append(0 if video else self._equal(data))
        self._before = data
        due = self._sampled is None or abs(stamp - self._sampled) >= self._rules.image_sampling * NANOSECONDS
        wanted = self._pictures and (self._taken is None or stamp - self._taken >= self._spacing)
        try:
            if raw:
                self._raw(message, data, stamp, wanted)
            elif video:
                self._key_frame(data, stamp, wanted)
            elif due or wanted:
                self._sampled = stamp
                self._look(_reduced(data), _size(data), stamp, wanted)
        except DataError as error:
            self.record.undecodable += 1
            self.record.trouble = self.record.trouble or str(error)

    def _equal(self, data: NDArray[np.uint8]) -> int:
        before = self._before
        if before is None or len(before) != len(data):
            return 0
        # Pictures that differ mostly differ in a thousandth of their bytes already.
        return int(np.array_equal(before[::997], data[::997]) and np.array_equal(before, data))

    def _raw(self, message: Any, data: NDArray[np.uint8], stamp: int, wanted: bool) -> None:
        width, height, encoding = int(message.width), int(message.height), str(message.encoding)
        channels, row = _CHANNELS.get(encoding), int(message.step)
        if channels is None:
            raise DataError(f"images encoded as '{encoding}' are not read; known are {', '.join(_CHANNELS)}.")
        if height < 1 or width < 1 or row < width * channels or len(data) < height * row:
            raise DataError(f"{len(data)} bytes are no {width} x {height} image in {encoding}.")
        pixels = data[: height * row].reshape(height, row)[:, : width * channels].reshape(height, width, -1)
        if wanted:
            picture = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels[..., :3]
            if encoding.startswith("bgr"):
                picture = picture[..., ::-1]
            self._keep(np.ascontiguousarray(picture), stamp)
        self._note(int(pixels[::8, ::8].max()), (width, height), stamp)

    def _key_frame(self, data: NDArray[np.uint8], stamp: int, wanted: bool) -> None:
        """Key frames stand alone; the others are not needed for a look now and then."""
        if not _is_key_frame(data[:4096]):
            return
        import av

        # A decoder that was drained takes no more: each key frame gets its own.
        decoder: Any = av.CodecContext.create("h264", "r")
        try:
            frames = decoder.decode(av.Packet(data.tobytes())) + decoder.decode(None)
        except av.FFmpegError as error:
            raise DataError(f"a key frame cannot be decoded: {error}.") from error
        for frame in frames[:1]:
            rgb = frame.to_ndarray(format="rgb24")
            self._compare_keys(rgb)
            self._look(rgb, (rgb.shape[1], rgb.shape[0]), stamp, wanted)

    def _compare_keys(self, rgb: Image) -> None:
        """Two key frames that show the same: so did all frames between them."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        size = (max(1, grey.shape[1] // BLOCK), max(1, grey.shape[0] // BLOCK))
        small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
        now = len(self.record.equal) - 1
        if self._key is not None:
            last, before = self._key
            if before.shape == small.shape and float(np.abs(small - before).max()) <= CODEC_NOISE:
                for k in range(last + 1, now + 1):
                    self.record.equal[k] = 1
        self._key = now, small

    def _look(self, rgb: Image, size: tuple[int, int], stamp: int, wanted: bool) -> None:
        self._note(int(rgb.max()), size, stamp)
        if wanted:
            self._keep(rgb, stamp)

    def _note(self, brightest: int, size: tuple[int, int], stamp: int) -> None:
        self.record.looked.append(stamp)
        self.record.black.append(int(brightest < self._rules.black_level))
        self.record.sizes[size] += 1

    def _keep(self, rgb: Image, stamp: int) -> None:
        height, width = rgb.shape[:2]
        scale = STRIP_HEIGHT / height
        small = cv2.resize(rgb, (max(1, round(width * scale)), STRIP_HEIGHT), interpolation=cv2.INTER_AREA)
        done, jpeg = cv2.imencode(
            ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80]
        )
        if done:
            self.record.thumbnails.append(Thumbnail(stamp, bytes(jpeg.data)))
        self._taken = stamp
        if len(self.record.thumbnails) > KEPT:
            del self.record.thumbnails[1::2]
            self._spacing *= 2


def _size(data: NDArray[np.uint8]) -> tuple[int, int]:
    size = image_size(data.tobytes())
    if size is None or not 0 < size[0] * size[1] <= 64_000_000:
        raise DataError(f"{len(data)} bytes are neither a JPEG nor a PNG of a usable size.")
    return size[1], size[0]


def _reduced(data: NDArray[np.uint8]) -> Image:
    """A frame at a quarter of its size: JPEG is decoded at that size, which is several times faster."""
    _size(data)
    mode = cv2.IMREAD_COLOR if is_png(data[:16].tobytes()) else cv2.IMREAD_REDUCED_COLOR_4
    try:
        bgr = cv2.imdecode(data, mode)
    except cv2.error as error:
        raise DataError(f"a frame cannot be decoded ({error.err}).") from error
    if bgr is None:
        raise DataError("a frame cannot be decoded.")
    rgb: Image = np.ascontiguousarray(bgr[..., ::-1])
    return rgb


def _is_key_frame(head: NDArray[np.uint8]) -> bool:
    """Whether an access unit in Annex B form holds a key frame (NAL unit type 5, ITU-T H.264)."""
    raw, at = head.tobytes(), 0
    while (at := raw.find(b"\x00\x00\x01", at)) >= 0 and at + 3 < len(raw):
        if raw[at + 3] & 0x1F == 5:
            return True
        at += 3
    return False
