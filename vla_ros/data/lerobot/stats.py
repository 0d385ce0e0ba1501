"""Statistics as LeRobot defines them: of every episode, and of the whole from those.

Minimum, maximum, mean, standard deviation (of the population), count and five quantiles.  Images are sampled
and thinned; their numbers are those of a channel, in 0 to 1, shape (3, 1, 1).  The quantiles of the whole are
the episodes' quantiles weighted by their counts (`lerobot` 0.4.4, `compute_stats.py`), which is not the
quantile of all values: that one is in `dataset_statistics.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.types import Image

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = Mapping[str, Any]
_THIN_ABOVE, _THIN_TO = 300, 150
_BLACK, _GREY = 16.0, 128.0
_GAINS = np.array([[1.164384, 0.0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0.0]])
_TO_RGB = np.hstack([_GAINS, -_GAINS @ [[_BLACK], [_GREY], [_GREY]]])
"""RGB of (Y, U, V, 1), ITU-R BT.601 of 8 bits."""


def sampled_steps(length: int) -> list[int]:
    """Frames of an episode whose images count: length^0.75 of them, at least 100, at most 10,000."""
    count = max(min(length, 100), min(int(length**0.75), 10_000))
    return [int(k) for k in np.round(np.linspace(0, length - 1, count))]


def number_stats(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Statistics over the first axis of (T, ...) numbers; bools count as 0 and 1."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    quantiles = np.quantile(numbers, list(QUANTILES.values()), axis=0)
    return {
        "min": numbers.min(axis=0).tolist(),
        "max": numbers.max(axis=0).tolist(),
        "mean": numbers.mean(axis=0).tolist(),
        "std": numbers.std(axis=0).tolist(),
        "count": [len(numbers)],
        **{name: row.tolist() for name, row in zip(QUANTILES, quantiles, strict=True)},
    }


class ImageStats:
    """Statistics of images, by a histogram of each channel: exact, whatever their number."""

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), np.int64)
        self._count = 0

    def add(self, image: Image) -> None:
        """One RGB image (height, width, 3), thinned."""
        for channel in range(3):
            self._histogram[channel] += np.bincount(image[..., channel].reshape(-1), minlength=256)
        self._count += 1

    def stats(self) -> dict[str, list[Any]]:
        """The statistics of all images so far; there must be one."""
        levels = np.arange(256) / 255.0
        total = self._histogram.sum(axis=1, keepdims=True)
        mean = (self._histogram * levels).sum(axis=1, keepdims=True) / total
        variance = (self._histogram * (levels - mean) ** 2).sum(axis=1) / total[:, 0]
        there = self._histogram > 0
        rising = np.cumsum(self._histogram, axis=1) / total
        found = {
            "min": levels[there.argmax(axis=1)],
            "max": levels[255 - there[:, ::-1].argmax(axis=1)],
            "mean": mean[:, 0],
            "std": np.sqrt(variance),
            **{name: levels[(rising >= q).argmax(axis=1)] for name, q in QUANTILES.items()},
        }
        shaped = {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}
        return {**shaped, "count": [self._count]}


def thinned(image: Image) -> Image:
    """Every so manieth pixel of an image (height, width, 3), as LeRobot takes them."""
    every = _thinning(*image.shape[:2])
    return image[::every, ::every]


def thinned_planes(planes: Image) -> Image:
    """The same, in RGB, of Y, U and V in the range of video, stacked: (3 / 2 height, width), ITU-R BT.601."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    every = _thinning(height, width)
    if every % 2:
        return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)[::every, ::every]
    colours = planes[height:].reshape(2, height // 2, width // 2)[:, :: every // 2, :: every // 2]
    thin = np.dstack([planes[:height:every, ::every], *colours])
    return np.asarray(cv2.transform(thin, _TO_RGB), np.uint8)


def _thinning(height: int, width: int) -> int:
    if max(height, width) < _THIN_ABOVE:
        return 1
    return max(width // _THIN_TO if width > height else height // _THIN_TO, 1)


def aggregate(stats: Sequence[Stats]) -> dict[str, Any]:
    """Statistics of the whole from those of its parts."""
    counts = np.array([float(s["count"][0]) for s in stats])
    stacked = {name: np.array([s[name] for s in stats], np.float64) for name in stats[0] if name != "count"}
    weights = (counts / counts.sum()).reshape((-1,) + (1,) * (stacked["mean"].ndim - 1))
    mean = (stacked["mean"] * weights).sum(axis=0)
    variance = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * weights).sum(axis=0)
    whole = {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: (stacked[name] * weights).sum(axis=0) for name in QUANTILES},
    }
    return {**{name: value.tolist() for name, value in whole.items()}, "count": [int(counts.sum())]}
