"""From a camera's frame to the image Octo was trained on.

As in octo-models/octo's evaluation (octo/utils/gym_wrappers.py, ResizeImageWrapper): antialiased Lanczos-3
to the size of the model's input, for the primary camera then the middle 90 % of the area (the mean of the
crops seen in training) blown up bilinearly, rounded and cut to 0..255.  The resampler is TensorFlow's
`ScaleAndTranslate` (half-pixel centres, kernel widened when shrinking, weights normalised to 1).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ObservationError, PolicyError
from vla_ros.types import Image

CROP = 0.9
"""Share of the area that is left of the primary camera's image."""
_LOBES = 3.0

Weights = NDArray[np.float32]


@lru_cache(maxsize=32)
def lanczos_weights(inputs: int, outputs: int) -> Weights:
    """How much of each of `inputs` pixels makes up each of `outputs`, (outputs, inputs)."""
    scale = max(inputs / outputs, 1.0)
    centres = (np.arange(outputs) + 0.5) * inputs / outputs
    distance = (np.arange(inputs)[None, :] + 0.5 - centres[:, None]) / scale
    weights = np.where(np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(weights, dtype=np.float32)


@lru_cache(maxsize=8)
def crop_weights(size: int, area: float) -> Weights:
    """Bilinear resampling of the middle `sqrt(area)` of `size` pixels to as many, (size, size).

    The corners of box and output coincide (`tf.image.crop_and_resize`).
    """
    side = np.sqrt(area)
    places = (0.5 * (1.0 - side) + side * np.linspace(0.0, 1.0, size)) * (size - 1)
    lower = np.clip(np.floor(places).astype(int), 0, max(size - 2, 0))
    weights = np.zeros((size, size), dtype=np.float32)
    rows = np.arange(size)
    weights[rows, lower] = 1.0 - (places - lower)
    weights[rows, np.minimum(lower + 1, size - 1)] += places - lower
    return weights


@lru_cache(maxsize=32)
def _weights(inputs: int, outputs: int, crop: bool) -> Weights:
    """Resizing, and with `crop` the crop behind it, along one axis (outputs, inputs)."""
    resized = np.eye(outputs, dtype=np.float32) if inputs == outputs else lanczos_weights(inputs, outputs)
    return crop_weights(outputs, CROP) @ resized if crop else resized


def prepare(rgb: Image, size: tuple[int, int], crop: bool) -> Image:
    """A frame (height, width, 3) as the model's input (*size, 3); `crop` for the primary camera.

    Raises `ObservationError` unless it is a colour image of bytes.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ObservationError(f"an image has shape {rgb.shape} and type {rgb.dtype}, but must be RGB bytes")
    if rgb.shape[:2] == size and not crop:
        return np.ascontiguousarray(rgb)
    vertical, horizontal = (_weights(rgb.shape[axis], size[axis], crop) for axis in (0, 1))
    found = _resampled(rgb, vertical, horizontal)
    # rounded once, at the end, to the even neighbour at a half, as TensorFlow rounds
    return np.ascontiguousarray(np.clip(np.rint(found), 0, 255).astype(np.uint8))


def _resampled(image: NDArray[Any], vertical: Weights, horizontal: Weights) -> NDArray[np.float32]:
    height, width, channels = image.shape
    rows = vertical @ image.reshape(height, width * channels).astype(np.float32)
    columns = rows.reshape(-1, width, channels).transpose(1, 0, 2).reshape(width, -1)
    found: NDArray[np.float32] = (horizontal @ columns).reshape(len(horizontal), -1, channels)
    turned: NDArray[np.float32] = found.transpose(1, 0, 2)
    return turned


def read_image(path: Path) -> Image:
    """An image file as RGB bytes (height, width, 3).  Raises `PolicyError`."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with Pillow.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError, Pillow.DecompressionBombError) as error:
        detail = getattr(error, "strerror", None) or error
        raise PolicyError(f"the goal image {path} cannot be read: {detail}.") from error
