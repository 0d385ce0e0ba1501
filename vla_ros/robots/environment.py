"""What stands around the robot: boxes, spheres, cylinders and planes in its base frame.

Obstacles come from the robot's YAML, from the contract and, at run time, from a service; whoever makes one
gets a valid one or a `ConfigurationError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vla_ros.errors import ConfigurationError
from vla_ros.types import Array, Pose

MOST_OBSTACLES = 64
"""More are refused: every obstacle is a row per moving body in every tick."""
FARTHEST = 100.0
"""Largest size and coordinate [m]; what is beyond was meant in other units."""


def _identity() -> Pose:
    return Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


@dataclass(frozen=True, kw_only=True)
class _Obstacle:
    name: str
    allowed_links: tuple[str, ...] = ()
    """Links that may touch it and are not checked against it, such as those of a fixture beside the base."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigurationError("an obstacle has no name, but each needs one of its own")

    def _error(self, what: str, value: object, allowed: str) -> ConfigurationError:
        return ConfigurationError(f"obstacle '{self.name}': {what} is {value}, but must be {allowed}")

    def _set(self, **values: object) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _vector(self, what: str, value: Array, size: int) -> Array:
        vector = np.array(value, dtype=np.float64)
        if vector.shape != (size,) or not np.isfinite(vector).all():
            raise self._error(what, np.asarray(value).tolist(), f"{size} finite numbers")
        if np.abs(vector).max() > FARTHEST:
            raise self._error(what, vector.tolist(), f"within {FARTHEST:g} m of the base")
        vector.setflags(write=False)
        return vector

    def _size(self, what: str, value: float) -> float:
        if not 0.0 < value <= FARTHEST:
            raise self._error(what, value, f"above 0 and at most {FARTHEST:g} m")
        return float(value)

    def _pose(self, pose: Pose) -> Pose:
        quaternion = self._vector("quaternion", pose.quaternion, 4)
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > 1e-3:
            raise self._error("quaternion", quaternion.tolist(), f"of unit norm, not {norm:.4f}")
        return Pose(self._vector("position", pose.position, 3), quaternion / norm)


@dataclass(frozen=True, kw_only=True)
class Box(_Obstacle):
    """A solid box; `size` (3,) are its edge lengths [m] along the axes of `pose`, which is its centre's."""

    size: Array
    pose: Pose = field(default_factory=_identity)

    def __post_init__(self) -> None:
        """Raises `ConfigurationError`."""
        super().__post_init__()
        size = self._vector("size", self.size, 3)
        if not (size > 0.0).all():
            raise self._error("size", size.tolist(), "above 0 m along every axis")
        self._set(size=size, pose=self._pose(self.pose))


@dataclass(frozen=True, kw_only=True)
class Sphere(_Obstacle):
    """A solid ball about `position` (3,) [m]."""

    radius: float
    position: Array

    def __post_init__(self) -> None:
        """Raises `ConfigurationError`."""
        super().__post_init__()
        self._set(
            radius=self._size("radius", self.radius), position=self._vector("position", self.position, 3)
        )


@dataclass(frozen=True, kw_only=True)
class Cylinder(_Obstacle):
    """A solid cylinder along z of `pose`, which is its centre's; `radius` and `length` in metres."""

    radius: float
    length: float
    pose: Pose = field(default_factory=_identity)

    def __post_init__(self) -> None:
        """Raises `ConfigurationError`."""
        super().__post_init__()
        self._set(
            radius=self._size("radius", self.radius),
            length=self._size("length", self.length),
            pose=self._pose(self.pose),
        )


@dataclass(frozen=True, kw_only=True)
class Plane(_Obstacle):
    """A wall, ceiling or table top: all points p with `normal` . p < `offset` are solid.

    `normal` (3,) points to the free side and is made a unit vector; `offset` is in metres along it.
    """

    normal: Array
    offset: float

    def __post_init__(self) -> None:
        """Raises `ConfigurationError`."""
        super().__post_init__()
        normal = self._vector("normal", self.normal, 3)
        length = float(np.linalg.norm(normal))
        if length < 1e-6:
            raise self._error("normal", normal.tolist(), "a direction, not zero")
        if not abs(self.offset) <= FARTHEST:
            raise self._error("offset", self.offset, f"within {FARTHEST:g} m of the base")
        self._set(normal=normal / length, offset=float(self.offset))


Obstacle = Box | Sphere | Cylinder | Plane


@dataclass(frozen=True)
class EnvironmentSpec:
    """The obstacles known from the start and the zones about them; robots without any have none."""

    obstacles: tuple[Obstacle, ...] = ()
    stop_distance: float = 0.02
    """Closer than this never [m] (MoveIt Servo's scene proximity threshold)."""
    slow_distance: float = 0.10
    """Slow-down begins here [m]."""


def merged(first: Iterable[Obstacle], second: Iterable[Obstacle]) -> tuple[Obstacle, ...]:
    """Both sets; an obstacle of `second` takes the place of one of the same name in `first`."""
    return tuple({item.name: item for item in (*first, *second)}.values())


def check_obstacles(obstacles: Sequence[Obstacle], links: Iterable[str]) -> None:
    """Refuse names given twice, links the robot lacks, and more than `MOST_OBSTACLES`.

    Raises:
        ConfigurationError: with one sentence that names the obstacle.
    """
    if len(obstacles) > MOST_OBSTACLES:
        raise ConfigurationError(
            f"{len(obstacles)} obstacles were given, at most {MOST_OBSTACLES} are allowed"
        )
    known, seen = sorted(set(links)), set()
    for item in obstacles:
        if item.name in seen:
            raise ConfigurationError(f"obstacle '{item.name}' was given twice, but names must differ")
        seen.add(item.name)
        for link in item.allowed_links:
            if link not in known:
                raise ConfigurationError(
                    f"obstacle '{item.name}': allowed link '{link}' is no link of the robot;"
                    f" it has {', '.join(known)}"
                )
