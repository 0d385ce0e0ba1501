"""A camera's frame as OpenVLA-OFT was shown it: as in its training data, then the evaluation's crop.

Frames of other sizes go through JPEG and an antialiased Lanczos-3 filter, as when its data sets were written
(moojink/openvla-oft, openvla_utils.py); then comes what every OpenVLA sees.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vla_ros.errors import ObservationError
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.preprocess import center_crop, pixels
from vla_ros.types import Image

QUALITY = 95
"""Of the JPEG; TensorFlow's default."""


def prepare(frame: Image, config: OpenVlaConfig, crop: bool) -> NDArray[np.float32]:
    """Normalised pixels (3 * towers, size, size) of a frame (h, w, 3).

    Raises `ObservationError` for a frame of another shape or type.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ObservationError(f"A frame must be (h, w, 3) of uint8, but is {frame.shape} of {frame.dtype}.")
    size = config.image_size
    if frame.shape[:2] != (size, size):
        frame = resized_frame(frame, size)
    return pixels(center_crop(frame, size) if crop else frame, config)


def resized_frame(frame: Image, size: int) -> Image:
    """(h, w, 3) to (size, size, 3) by JPEG and Lanczos-3, rounded and cut to 8 bits."""
    memory = io.BytesIO()
    Pillow.fromarray(frame).save(memory, format="JPEG", quality=QUALITY)
    decoded = np.asarray(Pillow.open(memory).convert("RGB"), dtype=np.float32)
    return lanczos(decoded, size)


def lanczos(values: NDArray[np.float32], size: int) -> Image:
    """Channels of (h, w, 3) filtered in floating point: a filter in 8 bits would round between its passes."""
    planes = [
        np.asarray(
            Pillow.fromarray(np.ascontiguousarray(values[..., channel])).resize(
                (size, size), Pillow.Resampling.LANCZOS
            )
        )
        for channel in range(3)
    ]
    result: Image = np.clip(np.round(np.stack(planes, axis=-1)), 0.0, 255.0).astype(np.uint8)
    return result
