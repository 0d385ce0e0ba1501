"""Videos of many episodes: written with a key frame at every episode, read frame by frame.

Codec settings: every second frame is a key frame (as LeRobot's own sets), so that a training run reaches any
frame in two steps of decoding; no B frames, so that packets lie in the order of the frames and can be copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from vla_ros.data.encoded_image import MAX_PIXELS, image_size
from vla_ros.data.frames import Frames, LazyFrames
from vla_ros.errors import DataError, MachineError
from vla_ros.types import Image

CODECS = ("h264", "av1")
_GOP = "2"
_ENCODERS = {
    # x264 calls crf 17 to 18 visually lossless; ultrafast costs file size, not quality.
    "h264": ("libx264", {"preset": "ultrafast", "crf": "16", "g": _GOP, "bf": "0", "forced-idr": "1"}),
    "av1": ("libsvtav1", {"preset": "12", "crf": "24", "g": _GOP, "svtav1-params": "lp=1:pred-struct=1"}),
}


def time_base(rate: float) -> Fraction:
    """Seconds a frame."""
    return 1 / Fraction(rate).limit_denominator(10_000)


def pixel_format(codec: str, size: tuple[int, int]) -> str:
    """`yuv420p`; H.264 cannot halve odd sizes, and keeps the colours of these at full size."""
    return "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"


_COLOURS = np.array([[0.439, -0.291, -0.148, 128.0], [-0.071, -0.368, 0.439, 128.0]])
"""U and V of (B, G, R, 1): ITU-R BT.601, 16 to 240."""


class VideoWriter:
    """Write one mp4.  A context manager; the file is whole when the block is left without an exception."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float, codec: str = "h264") -> None:
        """`size`: (height, width).  Raises `DataError`."""
        import av

        name, options = _ENCODERS[codec]
        if name not in av.codecs_available:
            raise MachineError(f"this machine's PyAV has no encoder {name}, which '{codec}' needs.")
        self._path, self._base, self._size = path, time_base(rate), size
        self._frames = 0
        self._output: Any = av.open(str(path), "w", format="mp4")
        self._encoder_name, self._options, self._rate = name, options, 1 / self._base
        self._pixels = pixel_format(codec, size)
        self._stream: Any = None
        self._copied: bytes | None = None
        self._jpegs = JpegPlanes()

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._frames

    def write(self, image: Image, first: bool) -> None:
        """Append one BGR frame (height, width, 3); `first` of its episode makes it a key frame."""
        import av

        if self._stream is None:
            self._open_encoder()
        if image.shape[:2] != self._size:
            height, width = self._size
            raise DataError(
                f"{self._path}: a frame has {image.shape[1]}x{image.shape[0]} pixels, others "
                f"{width}x{height}."
            )
        if self._pixels == "yuv420p":
            self._encode(av.VideoFrame.from_ndarray(_planes(image), format="yuv420p"), first)
        else:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            self._encode(frame.reformat(format=self._pixels), first)

    def write_jpeg(self, data: bytes, first: bool) -> Image | None:
        """Append a JPEG without the long way through RGB; its planes, None: this one has to go it."""
        import av

        if self._pixels != "yuv420p":
            return None
        planes = self._jpegs.planes(data)
        if planes is None or planes.shape != (self._size[0] * 3 // 2, self._size[1]):
            return None
        if self._stream is None:
            self._open_encoder()
        self._encode(av.VideoFrame.from_ndarray(planes, format="yuv420p"), first)
        return planes

    def _encode(self, frame: Any, first: bool) -> None:
        import av

        frame.pts, frame.time_base = self._frames, self._base
        frame.pict_type = av.video.frame.PictureType.I if first else av.video.frame.PictureType.NONE
        self._frames += 1
        for packet in self._stream.encode(frame):
            self._output.mux(packet)

    def copy(self, segment: VideoFrames) -> None:
        """Append the packets of an episode as they are; see `VideoFrames.copyable`."""
        with segment.packets() as (source, packets):
            if self._stream is None:
                # Opaque: of a codec that this machine can decode only, packets can be copied all the same.
                self._stream = self._output.add_stream_from_template(source, opaque=True)
                self._copied = bytes(source.codec_context.extradata or b"")
            for packet in packets:
                packet.stream = self._stream
                packet.time_base = self._base
                packet.pts = packet.dts = self._frames
                packet.duration = 1
                self._frames += 1
                self._output.mux(packet)

    def _open_encoder(self) -> None:
        self._stream = self._output.add_stream(self._encoder_name, rate=self._rate, options=self._options)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = self._pixels
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = self._base
        with _ordinary_priority():
            self._stream.codec_context.open()

    def close(self) -> None:
        """Write what the encoder holds back, and the index."""
        if self._stream is not None and self._copied is None:
            for packet in self._stream.encode():
                self._output.mux(packet)
        self._output.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with suppress(OSError, ValueError):  # the exception that brought us here says it
            self._output.close()


class VideoFrames(LazyFrames):
    """The frames of one episode in a video; reading them in order decodes each once."""

    def __init__(
        self, path: Path, times: Sequence[float], size: tuple[int, int], rate: float, where: str,
        stats: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`times` [s] of the frames in the video; `stats` that are known of them."""
        super().__init__(len(times), size, self._read)
        self.path, self.rate, self.stats = path, rate, stats
        self._times, self._where = list(times), where
        self._container: Any = None
        self._decoded: Any = None
        self._next: Any = None
        self._last = -1.0

    def _read(self, step: int) -> Image:
        wanted, near = self._times[step], 0.5 / self.rate
        try:
            if self._container is None:
                self._open()
            # A step back, or a leap farther than a few frames: the key frame before it is sought.
            if self._decoded is None or wanted < self._last - near or wanted > self._last + 10 / self.rate:
                self._seek(wanted)
            if self._next is not None and abs(self._last - wanted) < near:
                return self._image(self._next)
            for frame in self._decoded:
                self._next, self._last = frame, float(frame.pts * frame.time_base)
                if self._last > wanted - near:
                    break
            else:
                raise DataError(f"{self._where}: {self.path} ends before step {step} at {wanted:.3f} s.")
        except (OSError, ValueError) as error:
            raise DataError(f"{self._where}: {self.path} cannot be decoded: {error}.") from error
        if abs(self._last - wanted) >= near:
            raise DataError(f"{self._where}: {self.path} has no frame at {wanted:.3f} s, step {step}.")
        return self._image(self._next)

    @staticmethod
    def _image(frame: Any) -> Image:
        image: Image = frame.to_ndarray(format="rgb24")
        return image

    def _open(self) -> None:
        import av

        self._container = av.open(str(self.path))
        if not self._container.streams.video:
            raise DataError(f"{self._where}: {self.path} holds no video.")
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1
        found = (stream.codec_context.height, stream.codec_context.width)
        if found != self.size:
            raise DataError(
                f"{self._where}: {self.path} has {found[1]}x{found[0]} pixels, info.json says "
                f"{self.size[1]}x{self.size[0]}."
            )

    def _seek(self, wanted: float) -> None:
        stream = self._container.streams.video[0]
        self._container.seek(max(round((wanted + 0.25 / self.rate) / stream.time_base), 0), stream=stream)
        self._decoded, self._next, self._last = self._container.decode(stream), None, -1.0

    def signature(self) -> tuple[Any, ...]:
        """What the packets of two segments must share to lie in one video."""
        import av

        try:
            with av.open(str(self.path)) as container:
                context = container.streams.video[0].codec_context
                return (context.name, context.pix_fmt, self.size, bytes(context.extradata or b""))
        except (OSError, IndexError) as error:
            raise DataError(f"{self._where}: {self.path} cannot be read: {error}.") from error

    def copyable(self) -> bool:
        """Whether its packets stand for themselves: a key frame first, one packet a frame, in order."""
        with self.packets() as (_, packets):
            if len(packets) != len(self) or not packets[0].is_keyframe:
                return False
            # No packet of a later frame before an earlier one's: no frame refers to the next episode.
            return all(a.pts < b.pts and a.pts == a.dts for a, b in zip(packets, packets[1:], strict=False))

    def packets(self) -> _Packets:
        """A context of (stream, packets) of the episode."""
        return _Packets(self.path, self._times[0], self._times[-1], 0.5 / self.rate, self._where)

    def close(self) -> None:
        """Let go of the file."""
        if self._container is not None:
            self._container.close()
        self._container = self._decoded = self._next = None

    def __del__(self) -> None:
        """Let go of the file."""
        if getattr(self, "_container", None) is not None:
            self.close()


class _Packets:
    def __init__(self, path: Path, first: float, last: float, near: float, where: str) -> None:
        self._path, self._first, self._last, self._near, self._where = path, first, last, near, where
        self._container: Any = None

    def __enter__(self) -> tuple[Any, list[Any]]:
        import av

        try:
            self._container = av.open(str(self._path))
            stream = self._container.streams.video[0]
            start = round((self._first + self._near / 2) / stream.time_base)
            self._container.seek(max(start, 0), stream=stream)
            packets = []
            for packet in self._container.demux(stream):
                if packet.pts is None or packet.pts * stream.time_base > self._last + self._near:
                    break
                if packet.pts * stream.time_base > self._first - self._near:
                    packets.append(packet)
        except (OSError, IndexError, ValueError) as error:
            raise DataError(f"{self._where}: {self._path} cannot be read: {error}.") from error
        return stream, packets

    def __exit__(self, *error: object) -> None:
        self._container.close()


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does as root: it puts its threads, and the caller's, under real-time scheduling."""
    before = os.sched_getscheduler(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(OSError):  # ended meanwhile
                if os.sched_getscheduler(thread) != before and before == os.SCHED_OTHER:
                    os.sched_setscheduler(thread, before, os.sched_param(0))


def _planes(image: Image) -> Image:
    """Y, U and V of a BGR image of even size, stacked; colours are averaged over 2 x 2 pixels.

    OpenCV's own conversion takes the colour of one of the four, which costs 2 dB on small pictures.
    """
    height, width = image.shape[:2]
    planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    colours = np.asarray(cv2.transform(half, _COLOURS))
    planes[height:].reshape(2, height // 2, width // 2)[:] = np.moveaxis(colours, 2, 0)
    return planes


class JpegPlanes:
    """Y, U and V of JPEGs whose colours are halved both ways, as cameras make them."""

    _WHOLE = np.arange(256, dtype=np.float64)
    _LIGHT = np.round(16.0 + _WHOLE * 219.0 / 255.0).astype(np.uint8)
    _COLOUR = np.round(128.0 + (_WHOLE - 128.0) * 224.0 / 255.0).astype(np.uint8)
    """From JPEG's whole range (JFIF 1.02) to that of video (ITU-R BT.601)."""

    def __init__(self) -> None:
        self._decoder: Any = None

    def planes(self, data: bytes) -> Image | None:
        """Stacked (3 / 2 height, width); None for a JPEG of another kind, also one that is to be turned."""
        import av

        if b"Exif" in data[:64]:
            return None
        if self._decoder is None:
            self._decoder = av.CodecContext.create("mjpeg", "r")
            self._decoder.thread_count = 1
        try:
            frames = self._decoder.decode(av.Packet(data))
        except (OSError, ValueError, EOFError):
            frames = []
        if len(frames) != 1:
            # what is behind bytes that are no picture must not be read as what is left of them
            self._decoder = None
            return None
        if frames[0].format.name != "yuvj420p" or frames[0].height % 2:
            return None
        whole: Image = frames[0].to_ndarray()
        height = int(frames[0].height)
        planes: Image = np.empty_like(whole)
        cv2.LUT(whole[:height], self._LIGHT, planes[:height])
        cv2.LUT(whole[height:], self._COLOUR, planes[height:])
        return planes


def bgr(frames: Frames, step: int) -> Image:
    """One frame as BGR, the way that costs least."""
    if frames.native:
        data = frames.encoded(step)
        height, width = image_size(data) or (0, 0)
        if 0 < height * width <= MAX_PIXELS:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if image is not None:
                return np.asarray(image, np.uint8)
    return np.asarray(cv2.cvtColor(frames.image(step), cv2.COLOR_RGB2BGR), np.uint8)


def squared_error(a: Image, b: Image) -> float:
    """Mean squared difference of two images [levels^2]."""
    return float(np.mean((a.astype(np.float32) - b) ** 2))
