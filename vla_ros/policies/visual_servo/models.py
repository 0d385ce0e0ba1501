"""The shapes that are looked for, as points whose convex hull is the silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.types import Array

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
_RIM = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)


@dataclass(frozen=True)
class Shape:
    """A convex solid standing upright on a support."""

    kind: str
    outline: Array
    """(n, 3) points in its own frame [m]: origin below its middle on the support, z up."""
    height: float
    """Top above the support [m]."""
    period: float
    """Turning by this about z changes nothing [rad]; 0 when no turn does."""

    def points(self, x: float, y: float, yaw: float, support: float) -> Array:
        """Outline (n, 3) in the base frame with the shape at (x, y) on a support at z [m], turned by yaw."""
        c, s = np.cos(yaw), np.sin(yaw)
        turned = self.outline @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        points: Array = turned + np.array([x, y, support])
        return points


def cube(side: float) -> Shape:
    """A cube of `side` [m]; named "block"."""
    return Shape("block", _CORNERS * side, side, 0.5 * np.pi)


def disc(radius: float, height: float) -> Shape:
    """A flat disc [m]; named "plate"."""
    rim = np.column_stack([radius * np.cos(_RIM), radius * np.sin(_RIM), np.zeros_like(_RIM)])
    return Shape("plate", np.vstack([rim, rim + [0.0, 0.0, height]]), height, 0.0)


BLOCK = cube(0.04)
PLATE = disc(0.06, 0.006)
SHAPES = (BLOCK, PLATE)
