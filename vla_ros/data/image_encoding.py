"""Camera images made smaller while they are recorded, with the loss measured.

JPEG goes out as sensor_msgs/CompressedImage on `<topic>/compressed`, H.264 as foxglove_msgs/CompressedVideo
on `<topic>/h264`: Annex B, a key frame each second, no B-frames, as Foxglove's schema asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.data.message_types import MessageTypes, stamp_of
from vla_ros.errors import ConfigurationError, DataError, did_you_mean
from vla_ros.types import Image

IMAGES = ("raw", "jpeg", "h264")
"""How a recorder may keep camera images."""
LOSS_EVERY = 10
"""The loss of every n-th frame is measured (H.264: in one group of five)."""
LOSS_GROUPS = 5
KEY_INTERVAL = 1_000_000_000
"""Time between key frames [ns]."""
LOSSLESS = 99.0
_IMAGE = "sensor_msgs/msg/Image"
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def psnr(image: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two 8-bit images [dB]; 99 where they are equal."""
    error = float(np.mean((image.astype(np.float32) - other.astype(np.float32)) ** 2))
    return LOSSLESS if error == 0.0 else float(10.0 * np.log10(255.0**2 / error))


def image_pixels(message: Any) -> Image:
    """RGB pixels (height, width, 3) of a sensor_msgs/Image.  Raises `DataError`."""
    encoding, height, width, row = message.encoding, message.height, message.width, message.step
    channels = _CHANNELS.get(encoding)
    if channels is None:
        raise DataError(f"images encoded as '{encoding}' are not read; known are {', '.join(_CHANNELS)}.")
    data = np.asarray(message.data, np.uint8)
    if height < 1 or width < 1 or row < width * channels or len(data) < height * row:
        raise DataError(f"{len(data)} bytes are no {width} x {height} image in {encoding}.")
    pixels = data[: height * row].reshape(height, row)[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if encoding == "bgr8" else pixels)


class ImageEncoder(ABC):
    """Turns the raw images of one topic into smaller messages; belongs to one thread."""

    suffix = ""
    """What is added to the name of the topic."""
    type_name = ""

    def __init__(self, quality: int) -> None:
        """`quality`: 1 to 100, as of JPEG."""
        if not 1 <= quality <= 100:
            raise ConfigurationError(f"the quality of images is {quality}; allowed is 1 to 100.")
        self.quality = quality
        self.losses: list[float] = []
        """Peak signal-to-noise ratio of every n-th frame [dB]."""
        self.frames = 0

    def encode(self, raw: bytes, types: MessageTypes) -> bytes:
        """One sensor_msgs/Image as CDR to one message of `type_name`.  Raises `DataError`."""
        message = types.deserialize(raw, _IMAGE)
        pixels = image_pixels(message)
        encoded, shown = self._encode(pixels, message, self.frames % LOSS_EVERY == 0)
        if shown is not None:
            self.losses.append(psnr(pixels, shown))
        self.frames += 1
        return types.serialize(types.create(self.type_name, **encoded), self.type_name)

    @abstractmethod
    def _encode(self, pixels: Image, message: Any, look: bool) -> tuple[dict[str, Any], Image | None]:
        """Fields of the message; where `look`, also what a reader will see."""


class JpegEncoder(ImageEncoder):
    """One JPEG a frame."""

    suffix, type_name = "/compressed", "sensor_msgs/msg/CompressedImage"

    def _encode(self, pixels: Image, message: Any, look: bool) -> tuple[dict[str, Any], Image | None]:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        fields = {"header": message.header, "format": "rgb8; jpeg compressed bgr8", "data": jpeg.ravel()}
        if not look:
            return fields, None
        return fields, np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1]


class H264Encoder(ImageEncoder):
    """H.264 by libx264 without delay: one frame in, one message out."""

    suffix, type_name = "/h264", "foxglove_msgs/msg/CompressedVideo"

    def __init__(self, quality: int) -> None:
        """`quality`: 1 to 100; 90 is a constant rate factor of 19, 50 one of 31."""
        super().__init__(quality)
        self._encoder: Any = None
        self._decoder: Any = None
        self._size = (0, 0)
        self._last_key = 0
        self._groups = 0

    def _encode(self, pixels: Image, message: Any, look: bool) -> tuple[dict[str, Any], Image | None]:
        import av

        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            raise DataError(f"H.264 needs an even width and height, images are {width} x {height}.")
        if (width, height) != self._size:
            self._size, self._encoder = (width, height), self._open(width, height)
            self._decoder, self._last_key = None, 0
        stamp = stamp_of(message.header.stamp)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts = self.frames
        if not self._last_key or not 0 <= stamp - self._last_key < KEY_INTERVAL:
            frame.pict_type = av.video.frame.PictureType.I
            self._last_key = stamp
            self._groups += 1
        packets = self._encoder.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        if not data:
            raise DataError("the H.264 encoder gave nothing for a frame.")
        shown = self._follow(data, look)
        fields = {
            "timestamp": message.header.stamp,
            "frame_id": message.header.frame_id,
            "data": np.frombuffer(data, np.uint8),
            "format": "h264",
        }
        return fields, shown

    def _open(self, width: int, height: int) -> Any:
        import av

        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, 30), Fraction(30, 1)
        encoder.options = {
            "preset": "ultrafast", "tune": "zerolatency", "crf": str(round(46 - 0.3 * self.quality)),
            "g": "300", "bf": "0", "forced-idr": "1", "x264-params": "repeat-headers=1:annexb=1:threads=1",
        }  # fmt: skip
        return encoder

    def _follow(self, data: bytes, look: bool) -> Image | None:
        """Decode along in one group of frames of five; frames that follow a key frame lose more than it."""
        if self._groups % LOSS_GROUPS != 1:
            self._decoder = None
            return None
        self._decoder = self._decoder or h264_decoder()
        frames = decode_h264(self._decoder, data)
        return frames[-1].to_ndarray(format="rgb24") if frames and look else None


def h264_decoder() -> Any:
    """Decoder that gives each frame as soon as it has it."""
    import av

    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type, decoder.thread_count = "SLICE", 1
    return decoder


def decode_h264(decoder: Any, data: bytes) -> list[Any]:
    """Frames that came out for one message.  Raises `DataError`."""
    import av

    try:
        return list(decoder.decode(av.Packet(data)))
    except av.FFmpegError as error:
        raise DataError(f"{len(data)} bytes of H.264 cannot be decoded: {error}.") from error


def is_key_frame(data: bytes) -> bool:
    """Whether Annex B data holds an IDR slice."""
    start = data.find(b"\x00\x00\x01")
    while 0 <= start < len(data) - 3:
        kind = data[start + 3] & 0x1F
        if kind in (1, 5):
            return kind == 5
        start = data.find(b"\x00\x00\x01", start + 3)
    return False


def image_encoder(images: str, quality: int) -> ImageEncoder | None:
    """Encoder for one topic; None for `raw`.  Raises `ConfigurationError`."""
    if images not in IMAGES:
        raise ConfigurationError(
            f"images '{images}' are unknown, known are {', '.join(IMAGES)}.{did_you_mean(images, IMAGES)}"
        )
    return {"jpeg": JpegEncoder, "h264": H264Encoder}[images](quality) if images != "raw" else None
