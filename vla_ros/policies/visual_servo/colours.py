"""Colour segmentation by hue: the same for flat-shaded and lit images, where only brightness differs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.types import Image

Mask = NDArray[np.uint8]

HUES: dict[str, tuple[int, int]] = {
    "orange": (9, 20),
    "yellow": (21, 36),
    "green": (37, 84),
    "cyan": (85, 96),
    "blue": (97, 129),
    "purple": (130, 152),
    "pink": (153, 168),
    "red": (169, 188),
}
"""First and last hue of each colour on OpenCV's circle of 180; red wraps around."""

MIN_SATURATION = 100
MIN_VALUE = 35
"""Of 255.  Greys, wood and skin of the robot stay below the saturation, black below the value."""


@dataclass(frozen=True)
class Region:
    """One connected piece of a colour."""

    colour: str
    mask: Mask
    """(h, w), 0 or 255: the region alone, cut to its box."""
    corner: tuple[int, int]
    """(x, y) of the box in the image [pixel]."""
    area: int
    """Pixels."""

    @property
    def centroid(self) -> tuple[float, float]:
        """(x, y) in the image [pixel]."""
        moments = cv2.moments(self.mask, binaryImage=True)
        return (
            moments["m10"] / moments["m00"] + self.corner[0],
            moments["m01"] / moments["m00"] + self.corner[1],
        )


def segment(rgb: Image, min_area: int = 12) -> list[Region]:
    """Connected regions of each colour in an image (h, w, 3), largest first within a colour."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    vivid = (hsv[..., 1] >= MIN_SATURATION) & (hsv[..., 2] >= MIN_VALUE)
    hue = hsv[..., 0].astype(np.int16)
    # hues 0..8 continue red, which begins at 169
    hue[hue < HUES["orange"][0]] += 180
    regions: list[Region] = []
    for colour, (first, last) in HUES.items():
        mask = (vivid & (hue >= first) & (hue <= last)).astype(np.uint8)
        if int(mask.sum()) < min_area:
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))
        for label in order:
            area = int(stats[label, cv2.CC_STAT_AREA])
            if area < min_area:
                break
            x, y = int(stats[label, cv2.CC_STAT_LEFT]), int(stats[label, cv2.CC_STAT_TOP])
            w, h = int(stats[label, cv2.CC_STAT_WIDTH]), int(stats[label, cv2.CC_STAT_HEIGHT])
            piece = (labels[y : y + h, x : x + w] == label).astype(np.uint8) * 255
            regions.append(Region(colour, piece, (x, y), area))
    return regions
