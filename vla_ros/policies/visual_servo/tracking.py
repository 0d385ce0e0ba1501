"""What is known of the objects on the table: detections of all cameras fused, remembered with their age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.policies.visual_servo.detection import Detection
from vla_ros.types import NANOSECONDS

Key = tuple[str, str]
"""(colour, kind)."""

_DRIFT = 0.002
"""Standard deviation an unobserved object gains in one second [m]; settles how fast old sightings fade."""
_GATE = 0.02
"""Farther than this from the estimate a detection is another place [m]: believed when seen there twice."""
_AGREE = 0.015
CONFIRMED = 2
"""Sightings after which an object is believed to exist."""


@dataclass(frozen=True)
class Estimate:
    """Where an object on the table is believed to be."""

    key: Key
    x: float
    y: float
    """[m] in the base frame."""
    yaw: float
    """[rad] in [0, pi/2) for blocks, 0 for plates."""
    sigma: float
    """Standard deviation of x and y [m]."""
    stamp: int
    """Of the image it was last seen in."""
    sightings: int

    @property
    def name(self) -> str:
        """As an instruction says it, "red block"."""
        return " ".join(self.key)

    def age(self, stamp: int) -> float:
        """Seconds since it was last seen."""
        return (stamp - self.stamp) / NANOSECONDS


class Tracker:
    """A static Kalman filter per object, with a second hypothesis for one that was moved."""

    def __init__(self) -> None:
        self._known: dict[Key, Estimate] = {}
        self._elsewhere: dict[Key, Estimate] = {}

    def get(self, key: Key) -> Estimate | None:
        """The estimate of a confirmed object, however old."""
        estimate = self._known.get(key)
        return estimate if estimate is not None and estimate.sightings >= CONFIRMED else None

    def confirmed(self) -> list[Estimate]:
        """Every confirmed object."""
        return [estimate for estimate in self._known.values() if estimate.sightings >= CONFIRMED]

    def forget(self, key: Key) -> None:
        """Drop an object whose place is no longer believed."""
        self._known.pop(key, None)
        self._elsewhere.pop(key, None)

    def update(self, detections: Sequence[Detection], stamp: int, camera_speed: float = 0.0) -> None:
        """Add one camera's detections; `camera_speed` [m/s] blurs them by the skew of image and joints."""
        for detection in detections:
            sigma = float(np.hypot(detection.sigma, 0.02 * camera_speed))
            seen = Estimate(
                (detection.colour, detection.kind),
                detection.x, detection.y, detection.yaw, sigma, stamp, 1,
            )  # fmt: skip
            self._add(seen)

    def _add(self, seen: Estimate) -> None:
        known = self._known.get(seen.key)
        if known is None:
            self._known[seen.key] = seen
            return
        if _distance(known, seen) < max(_GATE, 3.0 * seen.sigma):
            self._known[seen.key] = _fuse(known, seen)
            self._elsewhere.pop(seen.key, None)
            return
        other = self._elsewhere.get(seen.key)
        if other is not None and _distance(other, seen) < _AGREE:
            self._known[seen.key] = _fuse(other, seen)
            del self._elsewhere[seen.key]
        else:
            self._elsewhere[seen.key] = seen


def _distance(a: Estimate, b: Estimate) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y))


def _fuse(known: Estimate, seen: Estimate) -> Estimate:
    elapsed = max(0.0, (seen.stamp - known.stamp) / NANOSECONDS)
    variance = known.sigma**2 + _DRIFT**2 * elapsed
    gain = variance / (variance + seen.sigma**2)
    quarter = 0.5 * np.pi
    turn = (seen.yaw - known.yaw + 0.5 * quarter) % quarter - 0.5 * quarter
    return replace(
        known,
        x=known.x + gain * (seen.x - known.x),
        y=known.y + gain * (seen.y - known.y),
        yaw=float((known.yaw + gain * turn) % quarter),
        sigma=float(np.sqrt((1.0 - gain) * variance)),
        stamp=max(known.stamp, seen.stamp),
        sightings=known.sightings + 1,
    )
