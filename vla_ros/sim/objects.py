"""The things on the table: sizes in metres, colours in rgb."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.types import Array

BLOCK_SIZE = 0.04
BLOCK_MASS = 0.045
"""A 4 cm cube of beech [kg]."""
PLATE_RADIUS = 0.06
PLATE_HEIGHT = 0.006

COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.80, 0.08, 0.08),
    "green": (0.08, 0.58, 0.16),
    "blue": (0.08, 0.22, 0.80),
    "yellow": (0.92, 0.78, 0.06),
}


def block_name(colour: str) -> str:
    """Name of a block in the simulator."""
    return f"block_{colour}"


def plate_name(colour: str) -> str:
    """Name of a plate in the simulator."""
    return f"plate_{colour}"


@dataclass(frozen=True)
class Block:
    """A cube standing on the table: centre (3,) [m] and yaw [rad] in the base frame."""

    colour: str
    position: Array
    yaw: float


@dataclass(frozen=True)
class Plate:
    """A disc fixed to the table: centre of its underside (3,) [m] in the base frame."""

    colour: str
    position: Array
