"""From a camera's frame to the pixels OpenVLA's towers see, bit for bit as in its training.

Sizes are brought together with PIL's bicubic filter; then each tower's own mean and deviation are taken out
and the towers' channels stacked (openvla, prismatic image processor).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vla_ros.errors import ObservationError
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.types import Image

CROP_SHARE = 0.9
"""Area that is kept of a frame where training cut frames at random (openvla, evaluation scripts)."""


def pixels(frame: Image, config: OpenVlaConfig, crop: bool = False) -> NDArray[np.float32]:
    """Normalised pixels (3 * towers, size, size) of a frame (h, w, 3).

    `crop`: first cut the middle out as evaluations of models trained on cut frames do.
    Raises `ObservationError` for a frame of another shape or type.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ObservationError(f"A frame must be (h, w, 3) of uint8, but is {frame.shape} of {frame.dtype}.")
    size = config.image_size
    if crop:
        whole = Pillow.fromarray(frame).resize((size, size), Pillow.Resampling.BICUBIC)
        frame = center_crop(np.asarray(whole), size)
    picture = np.asarray(_sized(Pillow.fromarray(frame), config), dtype=np.float32) / np.float32(255.0)
    planes = picture.transpose(2, 0, 1)
    towers = []
    for tower in config.towers:
        mean = np.array(tower.mean, dtype=np.float32)[:, None, None]
        std = np.array(tower.std, dtype=np.float32)[:, None, None]
        towers.append((planes - mean) / std)
    return np.concatenate(towers)


def _sized(picture: Pillow.Image, config: OpenVlaConfig) -> Pillow.Image:
    size = config.image_size
    if config.resizing == "resize-naive":
        return picture.resize((size, size), Pillow.Resampling.BICUBIC)
    if config.resizing == "letterbox":
        # every tower's frame is filled with the last tower's mean: so the original does it
        fill = tuple(int(255 * value) for value in config.towers[-1].mean)
        picture = _padded(picture, fill)
    return _shorter_side(picture, size)


def _padded(picture: Pillow.Image, fill: tuple[int, ...]) -> Pillow.Image:
    """Bars of equal width on both sides; an odd difference leaves the picture one pixel off a square."""
    width, height = picture.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    wide = Pillow.new("RGB", (width + 2 * left, height + 2 * top), fill)
    wide.paste(picture, (left, top))
    return wide


def _shorter_side(picture: Pillow.Image, size: int) -> Pillow.Image:
    """The shorter side becomes `size`, of the longer the middle is kept."""
    width, height = picture.size
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    picture = picture.resize((width, height), Pillow.Resampling.BICUBIC)
    left, top = int(round((width - size) / 2.0)), int(round((height - size) / 2.0))
    return picture.crop((left, top, left + size, top + size))


def center_crop(frame: Image, size: int) -> Image:
    """The middle 0.9 of a frame's area, sampled bilinearly at (size, size).

    As tf.image.crop_and_resize: corners of the box fall on corner samples, the result is cut off to 8 bits.
    """
    values = frame.astype(np.float32) * np.float32(1.0 / 255.0)
    rows, columns = (_samples(n, size) for n in frame.shape[:2])
    upper, down = _between(rows, frame.shape[0])
    left, right = _between(columns, frame.shape[1])
    dy = (rows - upper).astype(np.float32)[:, None, None]
    dx = (columns - left).astype(np.float32)[None, :, None]
    top = values[upper][:, left] + (values[upper][:, right] - values[upper][:, left]) * dx
    bottom = values[down][:, left] + (values[down][:, right] - values[down][:, left]) * dx
    result = np.clip(top + (bottom - top) * dy, 0.0, 1.0)
    cut: Image = np.minimum(result * np.float32(255.5), 255.0).astype(np.uint8)
    return cut


def _samples(length: int, size: int) -> NDArray[np.float32]:
    side = np.float32(np.sqrt(CROP_SHARE))
    first = (np.float32(1.0) - side) / np.float32(2.0)
    step = side * np.float32(length - 1) / np.float32(size - 1)
    at: NDArray[np.float32] = first * np.float32(length - 1) + np.arange(size, dtype=np.float32) * step
    return at


def _between(positions: NDArray[np.float32], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lower = np.floor(positions).astype(np.int64)
    return lower, np.minimum(np.ceil(positions).astype(np.int64), length - 1)
