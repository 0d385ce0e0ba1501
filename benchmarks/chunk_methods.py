"""Ways to execute chunks: what public stacks do, and ours.

Each has the same two calls: `submit` a delivery at the tick at which it is known, `sample` the reference at a
tick.  Each writes down its jump at every border between two chunks: the difference of the one-sided limits of
position, velocity and acceleration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from benchmarks.chunk_streams import Delivery
from vla_ros.actions import rotations
from vla_ros.errors import ActionError
from vla_ros.execution.blending import make_blending
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.execution.pace import IN_TIME
from vla_ros.execution.reference import CartesianSample
from vla_ros.execution.targets import POSES, Path
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import ActionKind, Array, Pose

_ZERO = np.zeros(6)


class Method(Protocol):
    """One way to execute chunks."""

    jumps: list[Array]
    """One (3, 2) a border: of position, velocity and acceleration; linear [m, s] and angular [rad, s]."""

    def submit(self, delivery: Delivery, time: float) -> None:
        """Take a chunk over at the tick `time` [s]."""
        ...

    def sample(self, time: float) -> CartesianSample:
        """Reference at the tick `time` [s]; times must not decrease."""
        ...


def jump(before: CartesianSample, after: CartesianSample) -> Array:
    """(3, 2): distance of two samples in position, velocity and acceleration, linear and angular."""
    turn = rotations.log(
        rotations.multiply(after.pose.quaternion, rotations.conjugate(before.pose.quaternion))
    )
    rows = [
        np.concatenate([after.pose.position - before.pose.position, turn]),
        after.twist - before.twist,
        after.acceleration - before.acceleration,
    ]
    return np.linalg.norm(np.array(rows).reshape(3, 2, 3), axis=2)


class Baseline:
    """What the three baselines share: composition of deltas and the origin a chunk counts from.

    Aligned, a chunk counts from the stamp of its observation, and steps of the past are skipped, with ours
    those within half a period too; else it counts from its arrival.  Deltas add to the path of targets, so
    that what a method does not reach is not lost.
    """

    def __init__(self, pose: Pose, aligned: bool) -> None:
        """Rest at `pose`."""
        self.aligned = aligned
        self.jumps: list[Array] = []
        self._paths = [(-np.inf, Path(np.zeros(1), _row(pose), POSES))]

    def submit(self, delivery: Delivery, time: float) -> None:
        """See `Method`."""
        origin = delivery.stamp if self.aligned else time
        path = self._path(delivery, origin)
        if not _ahead(path, time).any():
            return
        before = self.sample(time)
        self._paths.append((time, path))
        self._take(path, before, time)
        self.jumps.append(jump(before, self.sample(time)))

    def _take(self, path: Path, before: CartesianSample, time: float) -> None:
        """Go over to a path of targets at `time` [s]."""
        raise NotImplementedError

    def sample(self, time: float) -> CartesianSample:
        """See `Method`."""
        raise NotImplementedError

    def _path(self, delivery: Delivery, origin: float) -> Path:
        """Targets of a chunk that counts from `origin` [s]."""
        chunk = delivery.chunk
        base = next(path for begin, path in reversed(self._paths) if begin <= origin).points_at(
            np.array([origin])
        )
        positions, quaternions = np.asarray(chunk.translation), np.asarray(chunk.quaternion)
        if chunk.kind is ActionKind.CARTESIAN_DELTA:
            positions = base[:, :3] + np.cumsum(positions, axis=0)
            turned, rows = base[0, 3:], []
            for delta in quaternions:
                turned = rotations.normalize(rotations.multiply(delta, turned))
                rows.append(turned)
            quaternions = np.array(rows)
        times = origin + chunk.period * np.arange(chunk.horizon + 1)
        return Path(times, np.vstack([base, np.hstack([positions, quaternions])]), POSES)


class Hold(Baseline):
    """Hold-last-target: one step is sent a period and held, after the last step the last.

    By arrival, as the action queues of openpi's `ActionChunkBroker` and LeRobot's loops are read: on the grid
    of the control steps, a new chunk's first step at the first grid point after its arrival.
    """

    def __init__(self, pose: Pose, aligned: bool) -> None:
        super().__init__(pose, aligned)
        self._held = self._paths[0][1]
        self._waiting: Delivery | None = None
        self._grid = np.nan

    def submit(self, delivery: Delivery, time: float) -> None:
        """See `Method`."""
        if self.aligned:
            super().submit(delivery, time)
            return
        self._waiting = delivery
        if np.isnan(self._grid):
            self._grid = time

    def _take(self, path: Path, before: CartesianSample, time: float) -> None:
        self._held = path

    def sample(self, time: float) -> CartesianSample:
        """See `Method`."""
        waiting = self._waiting
        if waiting is not None and time >= self._grid - 1e-9:
            self._waiting = None
            before = self.sample(self._grid - 1e-6)
            path = self._path(waiting, self._grid)
            self._paths.append((self._grid, path))
            self._held = path
            self.jumps.append(jump(before, self.sample(self._grid)))
        path = self._held
        if len(path.times) == 1:
            return _resting(path.points[0])
        period = path.times[1] - path.times[0]
        while not self.aligned and self._grid <= time + 1e-9:
            self._grid += period
        step = int(np.floor((time - path.times[0]) / period + 1e-9)) + 1
        return _resting(path.points[min(step, len(path.points) - 1)])


class Linear(Baseline):
    """Straight lines and slerp from the present pose through the steps.

    As `PoseTrajectoryInterpolator` of Diffusion Policy and UMI does, which aligns by stamps, and the
    `interpolation_multiplier` of LeRobot, which does not.
    """

    def __init__(self, pose: Pose, aligned: bool) -> None:
        super().__init__(pose, aligned)
        self._line = self._paths[0][1]

    def _take(self, path: Path, before: CartesianSample, time: float) -> None:
        ahead = _ahead(path, time)
        points = np.vstack([_row(before.pose), path.points[ahead]])
        self._line = Path(np.concatenate([[time], path.times[ahead]]), points, POSES)

    def sample(self, time: float) -> CartesianSample:
        """See `Method`."""
        line = self._line
        point = line.points_at(np.array([time]))[0]
        after = int(np.searchsorted(line.times, time, side="right"))
        if after in (0, len(line.times)):
            return _resting(point)
        a, b = line.points[after - 1], line.points[after]
        way = np.concatenate([b[:3] - a[:3], _turn(a[3:], b[3:])])
        rate = way / (line.times[after] - line.times[after - 1])
        return CartesianSample(Pose(point[:3], point[3:]), rate, _ZERO)


class Cubic(Baseline):
    """A cubic spline from the present pose through the steps, at rest at both ends of every chunk.

    As `positions_upsampling` of ros2_controllers' joint_trajectory_controller (#2491) makes of one chunk.
    """

    def __init__(self, pose: Pose, aligned: bool) -> None:
        super().__init__(pose, aligned)
        self._pose, self._curves, self._end = pose, None, -np.inf

    def _take(self, path: Path, before: CartesianSample, time: float) -> None:
        ahead = _ahead(path, time)
        anchor = before.pose.quaternion
        turns = np.vstack([np.zeros(3), [_turn(anchor, q) for q in path.points[ahead, 3:]]])
        positions = np.vstack([before.pose.position, path.points[ahead, :3]])
        times = np.concatenate([[time], path.times[ahead]])
        curve = CubicSpline(times, np.hstack([positions, turns]), bc_type="clamped")
        self._pose, self._end = before.pose, path.end
        self._curves = (curve, curve.derivative(), curve.derivative(2))

    def sample(self, time: float) -> CartesianSample:
        """See `Method`."""
        if self._curves is None:
            return CartesianSample(self._pose, _ZERO, _ZERO)
        p, v, a = (curve(min(time, self._end)) for curve in self._curves)
        pose = Pose(p[:3], rotations.multiply(rotations.exp(p[3:]), self._pose.quaternion))
        if time >= self._end:
            return CartesianSample(pose, _ZERO, _ZERO)
        # rotation vectors of less than a radian: their derivatives stand for the angular motion
        return CartesianSample(pose, v, a)


@contextmanager
def border(executor: ChunkExecutor, time: float, jumps: list[Array]) -> Iterator[None]:
    """Around a submission at `time` [s]: add the jump from the curve followed until then to the new one."""
    relay = executor._cartesian
    followed = relay.at(time)
    yield
    # the new curve begins now, or at the end of the committed prefix
    begin, before = max([(time, followed), *relay._earlier], key=lambda entry: entry[0])
    jumps.append(jump(before.sample(begin), relay.newest.sample(begin)))


class Ours:
    """`ChunkExecutor` alone: the curve before any limit."""

    def __init__(self, spec: RobotSpec, pose: Pose, joints: Array, mode: str, period: float) -> None:
        """`mode`: the contract's blending; `period` of the ticks [s]."""
        self.jumps: list[Array] = []
        self.refused = 0
        self._executor = ChunkExecutor(spec, pose, int(4.0 / period), make_blending(mode))
        self._executor.anchor(pose, joints, spec.gripper.max_width)
        self._period = period
        self._recorded = 0.0
        self._executor.record(0.0, pose)

    def submit(self, delivery: Delivery, time: float) -> None:
        """See `Method`."""
        try:
            with border(self._executor, time, self.jumps):
                self._executor.submit(delivery.chunk, time, delivery.stamp)
        except ActionError:
            self.refused += 1

    def sample(self, time: float) -> CartesianSample:
        """See `Method`."""
        if time > self._recorded:
            self._executor.record(time, self._executor.targets.at(time))
            self._recorded = time
        return self._executor.sample(time)


def _ahead(path: Path, time: float) -> NDArray[np.bool_]:
    """Which targets are not of the past at `time` [s], nor too near."""
    return np.asarray(path.times > time + IN_TIME * (path.times[1] - path.times[0]) - 1e-9)


def _turn(a: Array, b: Array) -> Array:
    """Rotation vector (3,) [rad] along base axes from orientation a to b."""
    return rotations.log(rotations.multiply(b, rotations.conjugate(a)))


def _row(pose: Pose) -> Array:
    return np.concatenate([pose.position, pose.quaternion])[None]


def _resting(point: Array) -> CartesianSample:
    return CartesianSample(Pose(point[:3], point[3:]), _ZERO, _ZERO)
