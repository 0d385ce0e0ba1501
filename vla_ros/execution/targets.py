"""What was asked for: timed targets and the straight lines between them, for joints and for poses alike."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.actions import rotations
from vla_ros.kernels.curve import on_path
from vla_ros.types import Array, Pose

_ITERATIONS = 3
"""Steps of the rotations' mean: it is exact after one for two rotations, and below 1e-5 rad off after three
for any number within 1 rad of each other."""

_ARM = 0.1
"""What a turn of a tool moves its ends by [m/rad]; fingers are about that long."""


class Space(Protocol):
    """Where targets live: how to go from one to another, and what lies amid several."""

    def between(self, a: Array, b: Array, share: Array) -> Array:
        """The points (k, d) a share (k,) of the way from a (k, d) to b (k, d)."""
        ...

    def mean(self, points: Array, weights: Array) -> Array:
        """Weighted means (k, d) of points (m, k, d); weights (m, k) add up to one for each k."""
        ...

    def distance(self, a: Array, b: Array) -> Array:
        """From each of the points (k, d) to b (d,)."""
        ...


class JointSpace:
    """Joint positions (..., n) [rad]."""

    def between(self, a: Array, b: Array, share: Array) -> Array:
        """See `Space`."""
        return np.asarray(a + share[:, None] * (b - a))

    def mean(self, points: Array, weights: Array) -> Array:
        """See `Space`."""
        return np.asarray((weights[..., None] * points).sum(axis=0))

    def distance(self, a: Array, b: Array) -> Array:
        """See `Space` [rad]."""
        return np.asarray(np.linalg.norm(a - b, axis=1))


class PoseSpace:
    """Position [m] and quaternion (x, y, z, w) side by side, (..., 7): lines in R3 and geodesics in SO(3)."""

    def between(self, a: Array, b: Array, share: Array) -> Array:
        """See `Space`; rotations take the shorter way."""
        turn = rotations.log(rotations.multiply(b[:, 3:], rotations.conjugate(a[:, 3:])))
        turned = rotations.multiply(rotations.exp(share[:, None] * turn), a[:, 3:])
        return np.hstack([a[:, :3] + share[:, None] * (b[:, :3] - a[:, :3]), turned])

    def mean(self, points: Array, weights: Array) -> Array:
        """See `Space`; rotations by the mean that makes the weighted sum of the turns to them zero.

        (Karcher mean; Manton, "A globally convergent numerical algorithm for computing the centre of mass on
        compact Lie groups", ICARCV 2004.)
        """
        heaviest = np.argmax(weights, axis=0)
        middle = points[heaviest, np.arange(points.shape[1]), 3:]
        for _ in range(_ITERATIONS if len(points) > 1 else 0):
            turns = rotations.log(rotations.multiply(points[..., 3:], rotations.conjugate(middle)))
            middle = rotations.multiply(rotations.exp((weights[..., None] * turns).sum(axis=0)), middle)
        positions = (weights[..., None] * points[..., :3]).sum(axis=0)
        return np.hstack([positions, rotations.normalize(middle)])

    def distance(self, a: Array, b: Array) -> Array:
        """See `Space` [m]; a turn counts `_ARM` metres a radian."""
        turn = rotations.log(rotations.multiply(a[:, 3:], rotations.conjugate(b[3:])))
        ways = np.linalg.norm(a[:, :3] - b[:3], axis=1)
        return np.asarray(np.hypot(ways, _ARM * np.linalg.norm(turn, axis=1)))


JOINTS, POSES = JointSpace(), PoseSpace()


class Path:
    """Straight lines through points at their times; before the first and after the last it rests there."""

    def __init__(self, times: Array, points: Array, space: Space) -> None:
        """Vertices: times (k,) [s], strictly increasing, and points (k, d)."""
        self.times, self.points, self.space = times, points, space

    @property
    def end(self) -> float:
        """Time of the last vertex [s]."""
        return float(self.times[-1])

    def points_at(self, times: Array) -> Array:
        """Points (m, d) at times (m,)."""
        if len(self.times) == 1:
            return np.repeat(self.points, len(times), axis=0)
        after = np.clip(np.searchsorted(self.times, times, side="right"), 1, len(self.times) - 1)
        before = after - 1
        length = self.times[after] - self.times[before]
        share = np.clip((times - self.times[before]) / length, 0.0, 1.0)
        return self.space.between(self.points[before], self.points[after], share)

    def span(self, begin: float, end: float) -> tuple[Array, Array]:
        """Times and points of the vertices within [begin, end), and of the path at `end` itself."""
        inside = (self.times >= begin) & (self.times < end)
        times = np.append(self.times[inside], end)
        return times, np.vstack([self.points[inside], self.points_at(times[-1:])])


class TargetPath(Path):
    """A path of poses.  Deltas add to this, not to the curve: a target left out or reached late is not lost
    to those after it.
    """

    def __init__(self, times: Array, positions: Array, quaternions: Array) -> None:
        """Vertices: times (k,) [s], positions (k, 3) [m], quaternions (k, 4)."""
        points = np.ascontiguousarray(np.hstack([positions, quaternions]), dtype=float)
        super().__init__(np.ascontiguousarray(times, dtype=float), points, POSES)

    @classmethod
    def at_rest(cls, pose: Pose) -> TargetPath:
        """The same pose at all times."""
        return cls(np.zeros(1), pose.position[None], pose.quaternion[None])

    @classmethod
    def of(cls, path: Path) -> TargetPath:
        """A path of points (k, 7)."""
        return cls(path.times, path.points[:, :3], path.points[:, 3:])

    def at(self, time: float) -> Pose:
        """Target at `time` [s].  Called every tick."""
        return Pose(*on_path(self.times, self.points, time))
