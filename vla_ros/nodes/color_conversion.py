"""Colours of raw images to RGB: by cv_bridge where it is installed and works, by OpenCV elsewhere."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import NamedTuple

import cv2
import numpy as np
from sensor_msgs.msg import Image as ImageMessage

from vla_ros.errors import ObservationError
from vla_ros.types import Image

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Encodings that are understood, and their bytes per pixel."""
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}

Convert = Callable[[Image, str], Image]
"""From pixels (height, width, channels) and their encoding to RGB (height, width, 3)."""


class Converter(NamedTuple):
    """What converts."""

    name: str
    """`cv_bridge` or `OpenCV`."""
    convert: Convert
    """Raises `ObservationError`."""
    trouble: str = ""
    """One sentence when cv_bridge is installed but cannot be used."""


@lru_cache(maxsize=1)
def converter() -> Converter:
    """Chosen once in each process.

    cv_bridge is tried on a small image of every encoding first: where NumPy is newer than the one that its
    library was compiled against, it imports and then raises at every image.
    """
    try:
        module = import_module("cv_bridge")
    except ModuleNotFoundError as error:
        missing = error.name == "cv_bridge"
        return Converter("OpenCV", by_opencv, "" if missing else _unusable(f"{error}"))
    except Exception as error:
        # a library in binary form raises what it likes when another version of NumPy is installed
        return Converter("OpenCV", by_opencv, _unusable(f"{type(error).__name__}: {error}"))
    try:
        convert = _by_cv_bridge(module.CvBridge())
        for encoding in _TO_RGB:
            channels = CHANNELS[encoding]
            pixels = np.arange(40, 40 + 6 * channels, dtype=np.uint8).reshape(2, 3, channels)
            if not np.array_equal(convert(pixels, encoding), by_opencv(pixels, encoding)):
                return Converter(
                    "OpenCV", by_opencv, _unusable(f"its {encoding} pixels differ from those of OpenCV")
                )
    except Exception as error:
        return Converter("OpenCV", by_opencv, _unusable(f"{error}"))
    return Converter("cv_bridge", convert)


def by_opencv(pixels: Image, encoding: str) -> Image:
    """RGB (height, width, 3) of pixels (height, width, channels) in any encoding of `CHANNELS` but rgb8."""
    return np.asarray(cv2.cvtColor(pixels, _TO_RGB[encoding]), np.uint8)


def _by_cv_bridge(bridge: object) -> Convert:
    def convert(pixels: Image, encoding: str) -> Image:
        height, width, channels = pixels.shape
        # Without padding: cv_bridge shears an image whose step is no multiple of its bytes per pixel
        # (imgmsg_to_cv2 in cv_bridge/core.py).  And never big-endian: there it calls what NumPy 2 has not.
        message = ImageMessage(height=height, width=width, encoding=encoding, step=width * channels)
        message.data = array("B", pixels.tobytes())
        try:
            rgb = bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")  # type: ignore[attr-defined]
        except Exception as error:
            # CvBridgeError is a TypeError; OpenCV's own and NumPy's errors come through as well
            raise ObservationError(
                f"cv_bridge cannot convert {width} x {height} pixels of {encoding} to rgb8: "
                f"{type(error).__name__}: {' '.join(str(error).split())}."
            ) from error
        if not isinstance(rgb, np.ndarray) or rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
            raise ObservationError(
                f"cv_bridge made {getattr(rgb, 'dtype', type(rgb).__name__)} {getattr(rgb, 'shape', '')} of "
                f"{width} x {height} pixels of {encoding}, but uint8 ({height}, {width}, 3) is rgb8."
            )
        return rgb

    return convert


def _unusable(why: str) -> str:
    words = " ".join(why.split()).rstrip(".")
    return f"cv_bridge is installed but cannot be used ({words}), so OpenCV converts the images."
