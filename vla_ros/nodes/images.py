"""Image messages of the usual encodings, raw and compressed, to RGB arrays."""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from vla_ros.errors import ObservationError
from vla_ros.nodes.color_conversion import CHANNELS, converter
from vla_ros.types import Image


def rgb_of(message: ImageMessage, topic: str) -> Image:
    """Pixels (height, width, 3) of an Image message; rgb8 without padding is a read-only view, no copy.

    What is converted has been checked before: cv_bridge itself takes depth, Bayer patterns and 16 bits too,
    and more data than an image has.
    Raises `ObservationError` for another encoding, data that do not fit height, width and step, or when
    cv_bridge cannot convert.
    """
    channels = CHANNELS.get(message.encoding)
    if channels is None:
        raise ObservationError(
            f"Image on {topic} has encoding '{message.encoding}', allowed are {', '.join(CHANNELS)}."
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels
    if height == 0 or width == 0 or step < row or len(message.data) != height * step:
        raise ObservationError(
            f"Image on {topic} has {len(message.data)} bytes, but {width} x {height} pixels of "
            f"{message.encoding} with step {step} need {height * max(step, row)}."
        )
    pixels = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row]
    pixels = pixels.reshape(height, width, channels)
    if message.encoding == "rgb8":
        return pixels
    try:
        return converter().convert(pixels, message.encoding)
    except ObservationError as error:
        raise ObservationError(f"Image on {topic}: {error}") from error


def rgb_of_compressed(message: CompressedImage, topic: str) -> Image:
    """Pixels (height, width, 3) of a jpeg or png.  Raises `ObservationError` when it is neither.

    By OpenCV on every machine: cv_bridge does the same, but takes a grey or transparent png for BGR and
    ignores the orientation in a jpeg.
    """
    data = np.frombuffer(message.data, np.uint8)
    pixels = None
    if data[:3].tobytes() == b"\xff\xd8\xff" or data[:8].tobytes() == b"\x89PNG\r\n\x1a\n":
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise ObservationError(
            f"Compressed image on {topic} (format '{message.format}', {data.size} bytes) cannot be decoded, "
            "allowed are jpeg and png of 8 bits."
        )
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def resized(rgb: Image, width: int, height: int) -> Image:
    """`rgb` at another size; area averaging, so that shrinking does not alias."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
