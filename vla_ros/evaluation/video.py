"""What the cameras saw, as H.264 video with instruction, state and time drawn in."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vla_ros.data.bag import BagMessage, read_bag
from vla_ros.data.encoded_image import decode_image
from vla_ros.errors import DataError
from vla_ros.evaluation.run_data import RunData
from vla_ros.evaluation.timeline import state_spans
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.types import Image, SafetyState

RATE = 15
"""Frames per second of bag time."""
HEIGHT = 360
"""Height of every camera's picture."""
_BAR = 56
_RECENT = 400_000_000
"""An intervention is shown for this long [ns]."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_STATE_RGB = {
    SafetyState.IDLE: (150, 158, 172),
    SafetyState.RUNNING: (60, 170, 110),
    SafetyState.LIMITED: (224, 176, 32),
    SafetyState.HOLDING: (74, 134, 216),
    SafetyState.STOPPING: (224, 123, 42),
    SafetyState.STOPPED: (210, 50, 56),
    SafetyState.FAULT: (160, 70, 190),
}


@dataclass(frozen=True)
class Caption:
    """What is written over a frame."""

    instruction: str
    state: SafetyState | None
    seconds: float
    intervention: str


def make_video(run: RunData, robot: RobotSpec, path: Path) -> int:
    """Write the cameras of a run side by side; return the number of frames, 0 when no camera was recorded.

    Raises `DataError` when an image cannot be decoded or the file cannot be written.
    """
    # The primary camera first.
    cameras = sorted(
        (camera for name, camera in robot.cameras.items() if len(run.cameras[name])),
        key=lambda camera: (camera.name != "primary", camera.name),
    )
    if not cameras:
        return 0
    caption_at = captions(run)
    frames = (compose(pictures, caption_at(stamp)) for stamp, pictures in _moments(run, cameras))
    try:
        return _encode(frames, path)
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"{path} cannot be written: {error}.") from error


def captions(run: RunData) -> Callable[[int], Caption]:
    """Instruction, state and newest intervention of a run by time [ns]."""
    spans = state_spans(run)
    starts = [start for _, start, _ in spans]
    said = [when for when, _ in run.instructions]
    events = sorted(run.interventions, key=lambda event: event.stamp)
    reported = [event.stamp for event in events]

    def at(stamp: int) -> Caption:
        k = bisect_right(said, stamp) - 1
        instruction = run.instructions[k][1] if k >= 0 else ""
        k = bisect_right(starts, stamp) - 1
        state = spans[k][0] if k >= 0 else None
        k = bisect_right(reported, stamp) - 1
        latest = ""
        if k >= 0 and stamp - reported[k] < _RECENT:
            event = events[k]
            latest = f"{event.action.name.lower()}: {event.reason.replace('_', ' ')} {event.subject}".strip()
        return Caption(instruction, state, (stamp - run.start) * 1e-9, latest)

    return at


def compose(pictures: list[Image], caption: Caption) -> Image:
    """Pictures (RGB, `HEIGHT` high) side by side under a bar with the caption; even width and height."""
    row = np.hstack(pictures)
    width = row.shape[1] + row.shape[1] % 2
    frame = np.full((_BAR + HEIGHT, width, 3), (24, 28, 38), np.uint8)
    frame[_BAR:, : row.shape[1]] = row
    clock = f"{caption.seconds:.1f} s"
    state = caption.state.name if caption.state is not None else "no state"
    shade = _STATE_RGB[caption.state] if caption.state is not None else (120, 120, 120)
    _write(frame, caption.instruction or "no instruction", 12, 23, 0.6, (240, 242, 246), width - 130)
    left = width - 12 - cv2.getTextSize(clock, _FONT, 0.55, 1)[0][0]
    _write(frame, clock, left, 23, 0.55, (200, 206, 216), 105)
    cv2.rectangle(frame, (12, 33), (26, 47), shade, -1)
    _write(frame, state, 34, 46, 0.48, (225, 228, 234), 110)
    _write(frame, caption.intervention, 150, 46, 0.48, (240, 190, 90), width - 160)
    return frame


def image_of(entry: BagMessage) -> Image:
    """RGB picture of a recorded `Image` or `CompressedImage`.  Raises `DataError`."""
    message = entry.message
    where = f"topic {entry.topic} at {entry.stamp} ns"
    if not hasattr(message, "height"):
        return decode_image(message.data.tobytes(), where)
    height, width, encoding = int(message.height), int(message.width), str(message.encoding)
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(encoding)
    if channels is None:
        raise DataError(f"{where}: images encoded as '{encoding}' are not read.")
    step = int(message.step)
    if height < 1 or width < 1 or step < width * channels or len(message.data) < height * step:
        raise DataError(f"{where}: {len(message.data)} bytes are no {width}x{height} image in {encoding}.")
    rows = np.asarray(message.data[: height * step], np.uint8).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    rgb: Image = pixels[..., [2, 1, 0]] if encoding.startswith("bgr") else pixels[..., :3]
    return rgb


def _moments(run: RunData, cameras: Sequence[CameraSpec]) -> Iterator[tuple[int, list[Image]]]:
    """(stamp, picture per camera) at a constant rate from the first frame to the last."""
    cells = {camera.topic: max(2, round(HEIGHT * camera.width / camera.height)) for camera in cameras}
    newest: dict[str, Image] = {
        topic: np.zeros((HEIGHT, width, 3), np.uint8) for topic, width in cells.items()
    }
    clock: int | None = None
    period = round(1e9 / RATE)
    for entry in read_bag(run.path, topics=cells.keys(), salvage=True):
        if clock is None:
            clock = entry.stamp
        while clock < entry.stamp:
            yield clock, list(newest.values())
            clock += period
        newest[entry.topic] = _fitted(image_of(entry), cells[entry.topic])
    if clock is not None:
        yield clock, list(newest.values())


def _fitted(picture: Image, width: int) -> Image:
    """The picture scaled into a cell of `HEIGHT` x `width`, its aspect kept."""
    scale = min(HEIGHT / picture.shape[0], width / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    cell = np.zeros((HEIGHT, width, 3), np.uint8)
    top, left = (HEIGHT - size[1]) // 2, (width - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = scaled
    return cell


def _write(
    frame: Image, text: str, x: int, y: int, scale: float, rgb: tuple[int, int, int], room: int
) -> None:
    """Draw text no wider than `room` pixels: smaller first, then cut."""
    # OpenCV's built-in font has ASCII only.
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    while text:
        width = cv2.getTextSize(text, _FONT, scale, 1)[0][0]
        if width <= room:
            break
        if scale > 0.4:
            scale -= 0.05
        else:
            text = text[:-4].rstrip(".") + "..." if len(text) > 7 else ""
    cv2.putText(frame, text, (x, y), _FONT, scale, rgb, 1, cv2.LINE_AA)


def _encode(frames: Iterator[Image], path: Path) -> int:
    count = 0
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"}
                )
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.time_base = Fraction(1, RATE)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = count
            container.mux(stream.encode(picture))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count


def stills(path: Path, count: int = 4) -> list[bytes]:
    """JPEG pictures spread evenly over a video.  Raises `DataError` when it cannot be read."""
    try:
        with av.open(str(path)) as container:
            total = max(container.streams.video[0].frames, 1)
            wanted = {int((k + 0.5) * total / count) for k in range(count)}
            found = []
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    bgr = np.ascontiguousarray(frame.to_ndarray(format="bgr24"))
                    found.append(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
            return found
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
