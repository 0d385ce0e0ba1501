"""Chunk execution: a late, jumpy stream of chunks becomes one continuous reference.

Every chunk counts from the stamp of its observation.  Steps already due are skipped, deltas are composed on
the pose that was commanded at the stamp, a blending joins the targets with those of the chunks before, and
the curve goes on from the present position, velocity and acceleration through them to rest at the last one,
so that starvation ends in a planned stop.  Where all steps are due their motion begins now, at the pace that
the answers allow (`pace`, `late`).
"""

from __future__ import annotations

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ActionError
from vla_ros.execution.blending import Blended, Blending, Replace
from vla_ros.execution.delay import DelayStatistics
from vla_ros.execution.ease import Gentle
from vla_ros.execution.history import History
from vla_ros.execution.late import deferred
from vla_ros.execution.pace import IN_TIME, MARGIN, SLOW, AnswerIntervals, in_time, lasting, slow_sentence
from vla_ros.execution.reference import CartesianReference, CartesianSample, JointReference
from vla_ros.execution.relay import Relay
from vla_ros.execution.schedule import Schedule
from vla_ros.execution.spline import CurveState
from vla_ros.execution.targets import JOINTS, POSES, Path, TargetPath
from vla_ros.kernels.curve import same_sign
from vla_ros.policies.base import ActionPrefix
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import ActionChunk, ActionKind, Array, Composition, Pose, Source

_SHARE = 0.75
"""Share of the tool's acceleration and jerk limits a chunk may ask for; a curve through few waypoints of a
braking motion takes up to 1.3 times as much."""

_REMEMBERED = 32
"""Chunks an ensemble is made of at most."""


class ChunkExecutor:
    """Aligns and joins chunks.  One instance serves Cartesian and joint chunks; a switch happens at rest."""

    def __init__(
        self, spec: RobotSpec, pose: Pose, history_capacity: int = 2000, blending: Blending | None = None
    ) -> None:
        """Start at rest at `pose`, at the robot's home with its gripper open; default blending: replace."""
        self.blending: Blending = blending or Replace()
        self.delays = DelayStatistics()
        """Of the source in charge."""
        self.intervals = AnswerIntervals()
        """Of the source in charge."""
        self.pace: float
        """Share (0, 1] of the policy's own pace at which the newest chunk is executed."""
        self.slowness: str
        """What a policy that is too slow costs, one plain sentence; empty: it is not."""
        self._source: Source | None = None
        self._taken_over = False
        """Whether the motion under way is still another source's."""
        self._chunks: dict[int, Path] = {}
        self._workspace = spec.workspace
        tcp, applied = spec.tcp, spec.applied
        self._gentle = Gentle(
            _SHARE * np.repeat([tcp.acceleration, tcp.angular_acceleration], 3),
            _SHARE * np.repeat([tcp.jerk, tcp.angular_jerk], 3),
        )
        self._gentle_joints = Gentle(_SHARE * applied.acceleration, _SHARE * applied.jerk)
        self._history = History(7, history_capacity)
        self.anchor(pose, spec.home, spec.gripper.max_width)

    def anchor(self, pose: Pose, joints: Array, gripper_width: float) -> None:
        """Forget all chunks and rest here (activation, reset, after a joint motion)."""
        self.rest_at(pose)
        self._joint = Relay(JointReference(joints))
        self._joint_path = Path(np.zeros(1), np.asarray(joints, dtype=float)[None], JOINTS)
        self.joint_mode = False
        self._gripper = Schedule.constant(gripper_width)
        self.delay, self.pace, self.slowness = 0.0, 1.0, ""
        self.sequence = 0
        self.stamp = 0

    @property
    def joint(self) -> JointReference:
        """The joint reference of the newest chunk, or of the motion begun by `begin_joint_motion`."""
        return self._joint.newest

    @property
    def end_time(self) -> float:
        """When the present motion comes to rest [s]; -inf when it never began."""
        return self._joint.newest.end_time if self.joint_mode else self._cartesian.newest.end_time

    def record(self, time: float, target: Pose) -> None:
        """Remember the target at `time` [s]; called every tick."""
        self._history.append(time, same_sign(target.position, target.quaternion, self._history.newest))

    @property
    def commanded(self) -> Array:
        """The target that `record` remembered last (7,): what deltas that come now are added to."""
        return self._history.newest

    def submit(
        self, chunk: ActionChunk, time: float, stamp_time: float, measured: Pose | None = None
    ) -> float:
        """Take over a chunk.

        Args:
            chunk: checked by the controller's list of incoming checks.
            time: now [s].
            stamp_time: the chunk's stamp on the same clock [s].
            measured: pose measured at the stamp, for deltas that are to be added to it.

        Returns: the largest distance [m] a target was clipped by to lie in the workspace box; the reference
        cannot wind up outside it.

        Raises:
            ActionError: the chunk cannot be followed; the present motion stays as it was.
        """
        self._belong_to(chunk.source)
        age = time - stamp_time
        self.delays.add(age)
        self.intervals.add(time)
        clipped = 0.0
        if chunk.kind is ActionKind.JOINT_POSITION:
            meant, current = self._joint_path_of(chunk, time, stamp_time), self._joint_path
        else:
            meant, clipped = self._cartesian_path_of(chunk, time, stamp_time, measured)
            current = self.targets
        new, spacing, begins, late = self._timed(meant, chunk, time, age, current)
        blended = self._blended(new, chunk, stamp_time, current, time)
        times, points = _ahead(blended, spacing)
        times[-1] = max(times[-1], self._until_the_next(chunk, time, bool(new is not meant)))
        if chunk.kind is ActionKind.JOINT_POSITION:
            self._follow_joints(blended, times, points, time)
        else:
            self._follow_poses(blended, times, points, time)
        self._remember(new, chunk.stamp, time)
        if chunk.stamp >= max(self._chunks):
            # the newest has the say: a mean of open and closed would be neither
            self._gripper = self._gripper.then(blended.begin, begins, chunk.gripper_width)
        self.delay, (self.pace, self.slowness) = age, late
        self.sequence, self.stamp = chunk.sequence, chunk.stamp
        return clipped

    def upcoming(self, time: float) -> ActionPrefix | None:
        """The steps of the present path, counted from `time` [s]; None at rest or when none is left.

        A blending that commits leaves those as they are that are due within `delays.p95` after the stamp of
        any chunk to come.  Steps of the past are among them (`after` <= 0) as far back as an observation
        may lie whose chunk is still to come.
        """
        path: Path = self._joint_path if self.joint_mode else self.targets
        if not time < min(path.end, self.end_time):
            return None
        shown = path.times > time - self.delays.p95
        kind = ActionKind.JOINT_POSITION if self.joint_mode else ActionKind.CARTESIAN_ABSOLUTE
        due = path.times[shown]
        # a step's opening is in force on the way to its target, until the next step's
        widths = np.array([self._gripper.at(instant - 1e-6) for instant in due])
        return ActionPrefix(kind, due - time, path.points[shown], widths)

    def begin_joint_motion(self, positions: Array) -> None:
        """Leave Cartesian execution, at rest at `positions` (n,) [rad]; `joint` then takes the motion."""
        self._joint = Relay(JointReference(positions))
        self._joint_path = Path(np.zeros(1), np.asarray(positions, dtype=float)[None], JOINTS)
        self._chunks = {}
        self.joint_mode = True

    def rest_at(self, pose: Pose) -> None:
        """The Cartesian reference rests at `pose`; what was commanded before is forgotten."""
        self._cartesian = Relay(CartesianReference(pose))
        self.targets = TargetPath.at_rest(pose)
        self._history.clear()
        self._chunks = {}

    def set_gripper(self, width: float) -> None:
        """Want an opening [m] from now on."""
        self._gripper = Schedule.constant(width)

    def sample(self, time: float) -> CartesianSample:
        """Cartesian reference at `time` [s]."""
        return self._cartesian.at(time).sample(time)

    def sample_joints(self, time: float) -> CurveState:
        """Joint reference at `time` [s]."""
        return self._joint.at(time).sample(time)

    def gripper(self, time: float) -> float:
        """Wanted opening at `time` [m]: that of the newest step due."""
        return self._gripper.at(time)

    def slow_down(self, time: float, seconds: float) -> None:
        """Come to rest within `seconds` and keep the gripper as it is, whatever was upcoming."""
        if self.joint_mode:
            joint = self._joint.branch(time)
            joint.slow_down(time, seconds)
            self._joint.hand_over(time, time, joint)
            rest = joint.sample(time + seconds).position
            self._joint_path = Path(np.zeros(1), rest[None], JOINTS)
        else:
            cartesian = self._cartesian.branch(time)
            cartesian.slow_down(time, seconds)
            self._cartesian.hand_over(time, time, cartesian)
            self.targets = TargetPath.at_rest(cartesian.sample(time + seconds).pose)
        self._gripper = Schedule.constant(self.gripper(time))
        self._chunks = {}

    def _belong_to(self, source: Source) -> None:
        """A chunk of another source than before: what that one predicted or promised binds nobody."""
        if source is self._source:
            return
        if self._source is not None:
            self._chunks = {}
            self.delays = DelayStatistics()
            self.intervals = AnswerIntervals()
            self._taken_over = True
        self._source = source

    def _timed(
        self, meant: Path, chunk: ActionChunk, time: float, age: float, current: Path
    ) -> tuple[Path, float, Array, tuple[float, str]]:
        """The chunk's path in the robot's time, seconds between its vertices, when its steps begin [s]; the
        pace and what is to be said of it.

        A policy that is late as a rule keeps its pace when a single answer is not.
        """
        age = max(age, self.delays.p50)
        if in_time(chunk.horizon, chunk.period, age):
            return meant, chunk.period, meant.times[:-1], (1.0, "")
        interval = self.intervals.usual or max(age, chunk.period)
        seconds = lasting(chunk.horizon, chunk.period, age, interval)
        here = None if meant.space is JOINTS else self._history.at(time)
        if here is None:
            here = current.points_at(np.array([time]))[0]
        late = deferred(meant, time, here, seconds)
        pace = min(1.0, chunk.horizon * chunk.period / seconds)
        slow = slow_sentence(chunk.horizon, chunk.period, age, interval, pace) if pace < SLOW else ""
        return late.path, late.spacing, late.begins, (pace, slow)

    def _until_the_next(self, chunk: ActionChunk, time: float, late: bool) -> float:
        """Until when [s] the motion of a policy's chunk is to last, so that the robot does not rest before
        the next answer; a person's steps end when they are due.
        """
        usual = self.intervals.usual
        if usual is None or chunk.source is Source.PERSON:
            return -np.inf
        # the path of a late one keeps its speed until then, and brakes after it
        return time + (1.5 if late else 1.0) * MARGIN * usual

    def _cartesian_path_of(
        self, chunk: ActionChunk, time: float, stamp_time: float, measured: Pose | None
    ) -> tuple[Path, float]:
        """The targets as they were meant, and the largest distance [m] one was clipped by."""
        if self.joint_mode:
            raise ActionError("a Cartesian chunk came while a joint motion is under way")
        base, positions, quaternions = self._targets(chunk, stamp_time, measured)
        inside = np.clip(positions, self._workspace.minimum, self._workspace.maximum)
        points = np.vstack(
            [np.concatenate([base.position, base.quaternion]), np.hstack([inside, quaternions])]
        )
        times = _vertices(chunk, stamp_time)
        counted = times[1:] > time + IN_TIME * chunk.period - 1e-9
        if not counted.any():
            counted[:] = True
        return Path(times, points, POSES), float(np.abs(inside - positions)[counted].max())

    def _joint_path_of(self, chunk: ActionChunk, time: float, stamp_time: float) -> Path:
        """The targets as they were meant."""
        if chunk.joints is None:
            raise ActionError("a joint chunk must hold joint positions")
        if not self.joint_mode and time < self.end_time:
            raise ActionError("a joint chunk came while a Cartesian motion is under way")
        if not self.joint_mode:
            self._chunks = {}
        times = _vertices(chunk, stamp_time)
        start = self._joint_path.points_at(times[:1])
        return Path(times, np.vstack([start, chunk.joints]), JOINTS)

    def _follow_poses(self, blended: Blended, times: Array, points: Array, time: float) -> None:
        """A new Cartesian curve through waypoints (k,), (k, 7)."""
        reference = self._cartesian.branch(blended.begin)
        reference.replan(blended.begin, times, points[:, :3], points[:, 3:], self._gentle)
        self._cartesian.hand_over(time, blended.begin, reference)
        self.targets = TargetPath.of(blended.path)

    def _follow_joints(self, blended: Blended, times: Array, points: Array, time: float) -> None:
        """A new joint curve through waypoints (k,), (k, n)."""
        reference = self._joint.branch(blended.begin)
        reference.replan(blended.begin, times, points, self._gentle_joints)
        self._joint.hand_over(time, blended.begin, reference)
        self._joint_path = blended.path
        self.joint_mode = True

    def _blended(
        self, new: Path, chunk: ActionChunk, stamp_time: float, current: Path, time: float
    ) -> Blended:
        """The new chunk joined with what is known, by the contract's blending."""
        keep = time
        if self._taken_over or (self.blending.commits and chunk.horizon == 1):
            # of a single step nothing can be promised: the next would always lie within the promise
            return Replace().blend(new, [], current, keep)
        if self.blending.commits:
            # what was due within the usual delay when the observation was made was as good as done
            keep = max(time, min(stamp_time + self.delays.p95, self.end_time))
        return self.blending.blend(new, list(self._others(chunk.stamp, time).values()), current, keep)

    def _remember(self, new: Path, stamp: int, time: float) -> None:
        """Keep a chunk; one of the same stamp takes its place, the oldest gives way."""
        self._taken_over = False
        chunks = sorted({**self._others(stamp, time), stamp: new}.items())
        self._chunks = dict(chunks[-_REMEMBERED:])

    def _others(self, stamp: int, time: float) -> dict[int, Path]:
        """The chunks that still predict something, without that of `stamp`."""
        return {other: path for other, path in self._chunks.items() if path.end > time and other != stamp}

    def _targets(
        self, chunk: ActionChunk, stamp_time: float, measured: Pose | None
    ) -> tuple[Pose, Array, Array]:
        """The pose a Cartesian chunk starts from, and its absolute targets (k, 3), (k, 4)."""
        if chunk.translation is None or chunk.quaternion is None:
            raise ActionError("a Cartesian chunk must hold translations and quaternions")
        if chunk.kind is ActionKind.CARTESIAN_ABSOLUTE:
            return self.targets.at(stamp_time), chunk.translation, chunk.quaternion
        if chunk.composition is Composition.MEASURED:
            base = None if measured is None else np.concatenate([measured.position, measured.quaternion])
        else:
            base = self._history.at(stamp_time)
        if base is None:
            raise ActionError("a chunk of deltas came before anything was commanded or measured")
        positions = base[:3] + np.cumsum(chunk.translation, axis=0)
        quaternions = np.empty((chunk.horizon, 4))
        turned = base[3:] = rotations.normalize(base[3:])
        for step, delta in enumerate(chunk.quaternion):
            turned = rotations.normalize(rotations.multiply(delta, turned))
            quaternions[step] = turned
        return Pose(base[:3], base[3:]), positions, quaternions


def _vertices(chunk: ActionChunk, stamp_time: float) -> Array:
    """Times (k + 1,) [s] of the stamp and of the steps as they were meant."""
    return np.asarray(stamp_time + chunk.period * np.arange(chunk.horizon + 1), dtype=float)


def _ahead(blended: Blended, spacing: float) -> tuple[Array, Array]:
    """Times and points of the targets that the curve is to pass; `spacing` [s] is that of the new ones.

    Raises `ActionError` when there are none: all lie before the curve begins, or too close after it.
    """
    ahead = blended.path.times > blended.begin + IN_TIME * spacing - 1e-9
    if not ahead.any():
        raise ActionError("all steps lie before the motion can change, or too close after it")
    return blended.path.times[ahead], blended.path.points[ahead]
