"""Chunk execution: a late, jumpy stream of chunks becomes one continuous reference.

Receding horizon (`replace`): every chunk counts from the stamp of its observation.  Steps already due are
skipped, deltas are composed on the pose that was commanded at the stamp, and the curve goes on from the
present position, velocity and acceleration through the remaining targets to rest at the last one, so that
starvation ends in a planned stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import rotations
from vla_ros.errors import ActionError
from vla_ros.execution.history import History
from vla_ros.execution.reference import CartesianReference, CartesianSample, JointReference
from vla_ros.execution.spline import CurveState
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import ActionChunk, ActionKind, Array, Composition, Pose

LEAD = 0.5
"""A target nearer than this many periods is left out: reaching it would need a jerk, not a motion."""

_SHARE = 0.8
"""Share of the tool's acceleration limit a chunk may ask for on the way to its first target."""


@dataclass(frozen=True)
class Schedule:
    """Gripper widths [m] by due time [s]."""

    times: Array
    widths: Array


class TargetPath:
    """Straight lines through a chunk's targets at their times: what was asked for, however followed.

    Deltas add to this, not to the curve: a target left out or reached late is not lost to those after it.
    """

    def __init__(self, times: Array, positions: Array, quaternions: Array) -> None:
        """Vertices: times (k,) [s], positions (k, 3) [m], quaternions (k, 4)."""
        self._times, self._positions, self._quaternions = times, positions, quaternions

    @classmethod
    def at_rest(cls, pose: Pose) -> TargetPath:
        """The same pose at all times."""
        return cls(np.zeros(1), pose.position[None], pose.quaternion[None])

    def at(self, time: float) -> Pose:
        """Target at `time` [s]; before the first and after the last vertex that vertex."""
        after = int(np.searchsorted(self._times, time, side="right"))
        if after == 0 or after == len(self._times):
            index = min(after, len(self._times) - 1)
            return Pose(self._positions[index], self._quaternions[index])
        before = after - 1
        share = (time - self._times[before]) / (self._times[after] - self._times[before])
        start = self._quaternions[before]
        turn = rotations.log(rotations.multiply(self._quaternions[after], rotations.conjugate(start)))
        return Pose(
            self._positions[before] + share * (self._positions[after] - self._positions[before]),
            rotations.multiply(rotations.exp(share * turn), start),
        )


class ChunkExecutor:
    """Aligns and joins chunks.  One instance serves Cartesian and joint chunks; a switch happens at rest."""

    def __init__(self, spec: RobotSpec, pose: Pose, history_capacity: int = 2000) -> None:
        """Start at rest at `pose`, at the robot's home with its gripper open."""
        self._workspace = spec.workspace
        self._gentle = _SHARE * np.repeat([spec.tcp.acceleration, spec.tcp.angular_acceleration], 3)
        self._gentle_joints = _SHARE * spec.applied.acceleration
        self._history = History(7, history_capacity)
        self._measured = History(7, history_capacity)
        self.anchor(pose, spec.home, spec.gripper.max_width)

    def anchor(self, pose: Pose, joints: Array, gripper_width: float) -> None:
        """Forget all chunks and rest here (activation, reset, after a joint motion)."""
        self.cartesian = CartesianReference(pose)
        self.targets = TargetPath.at_rest(pose)
        self.joint = JointReference(joints)
        self.joint_mode = False
        self._history.clear()
        self._measured.clear()
        self._gripper = Schedule(np.array([-np.inf]), np.array([gripper_width]))
        self.delay = 0.0
        self.sequence = 0
        self.stamp = 0

    @property
    def end_time(self) -> float:
        """When the present motion comes to rest [s]."""
        return self.joint.end_time if self.joint_mode else self.cartesian.end_time

    def record(self, time: float, target: Pose, measured: Pose) -> None:
        """Remember the target and the measured pose at `time` [s]; called every tick."""
        self._history.append(time, np.concatenate([target.position, target.quaternion]))
        self._measured.append(time, np.concatenate([measured.position, measured.quaternion]))

    def submit(self, chunk: ActionChunk, time: float, stamp_time: float) -> float:
        """Take over a chunk.

        Args:
            chunk: checked by the controller's list of incoming checks.
            time: now [s].
            stamp_time: the chunk's stamp on the same clock [s].

        Returns: the largest distance [m] a target was clipped by to lie in the workspace box; the reference
        cannot wind up outside it.

        Raises:
            ActionError: the chunk cannot be followed; the present motion stays as it was.
        """
        due: Array = np.asarray(stamp_time + chunk.period * np.arange(1, chunk.horizon + 1), dtype=float)
        # skipping is only for targets of the past and those too near, the composition keeps every step
        ahead = due > time + LEAD * chunk.period - 1e-9
        if not ahead.any():
            raise ActionError(
                f"all {chunk.horizon} steps are due: the chunk is {time - stamp_time:.3f} s old "
                f"and reaches {due[-1] - stamp_time:.3f} s"
            )
        clipped = 0.0
        if chunk.kind is ActionKind.JOINT_POSITION:
            self._joint_chunk(chunk, time, due[ahead], ahead)
        else:
            if self.joint_mode:
                raise ActionError("a Cartesian chunk came while a joint motion is under way")
            base, positions, quaternions = self._targets(chunk, stamp_time)
            inside = np.clip(positions, self._workspace.minimum, self._workspace.maximum)
            clipped = float(np.abs(inside - positions)[ahead].max())
            self.cartesian.replan(time, due[ahead], inside[ahead], quaternions[ahead], self._gentle)
            self.targets = TargetPath(
                np.concatenate([[stamp_time], due]),
                np.vstack([base.position, inside]),
                np.vstack([base.quaternion, quaternions]),
            )
        self._merge_gripper(chunk, time, stamp_time)
        self.delay = time - stamp_time
        self.sequence, self.stamp = chunk.sequence, chunk.stamp
        return clipped

    def begin_joint_motion(self, positions: Array) -> None:
        """Leave Cartesian execution, at rest at `positions` (n,) [rad]; `joint` then takes the motion."""
        self.joint = JointReference(positions)
        self.joint_mode = True

    def rest_at(self, pose: Pose) -> None:
        """The Cartesian reference rests at `pose`; what was commanded before is forgotten."""
        self.cartesian = CartesianReference(pose)
        self.targets = TargetPath.at_rest(pose)
        self._history.clear()
        self._measured.clear()

    def set_gripper(self, width: float) -> None:
        """Want an opening [m] from now on."""
        self._gripper = Schedule(np.array([-np.inf]), np.array([width]))

    def sample(self, time: float) -> CartesianSample:
        """Cartesian reference at `time` [s]."""
        return self.cartesian.sample(time)

    def sample_joints(self, time: float) -> CurveState:
        """Joint reference at `time` [s]."""
        return self.joint.sample(time)

    def gripper(self, time: float) -> float:
        """Wanted opening at `time` [m]: that of the newest step due."""
        index = int(np.searchsorted(self._gripper.times, time, side="right")) - 1
        return float(self._gripper.widths[max(index, 0)])

    def slow_down(self, time: float, seconds: float) -> None:
        """Come to rest within `seconds` and keep the gripper as it is."""
        if self.joint_mode:
            self.joint.slow_down(time, seconds)
        else:
            self.cartesian.slow_down(time, seconds)
            self.targets = TargetPath.at_rest(self.cartesian.sample(time + seconds).pose)
        self._gripper = Schedule(np.array([-np.inf]), np.array([self.gripper(time)]))

    def _targets(self, chunk: ActionChunk, stamp_time: float) -> tuple[Pose, Array, Array]:
        """The pose a Cartesian chunk starts from, and its absolute targets (k, 3), (k, 4)."""
        if chunk.translation is None or chunk.quaternion is None:
            raise ActionError("a Cartesian chunk must hold translations and quaternions")
        if chunk.kind is ActionKind.CARTESIAN_ABSOLUTE:
            return self.targets.at(stamp_time), chunk.translation, chunk.quaternion
        history = self._measured if chunk.composition is Composition.MEASURED else self._history
        base = history.at(stamp_time)
        if base is None:
            raise ActionError("a chunk of deltas came before anything was commanded")
        positions = base[:3] + np.cumsum(chunk.translation, axis=0)
        quaternions = np.empty((chunk.horizon, 4))
        turned = base[3:]
        for step, delta in enumerate(chunk.quaternion):
            turned = rotations.normalize(rotations.multiply(delta, turned))
            quaternions[step] = turned
        return Pose(base[:3], base[3:]), positions, quaternions

    def _joint_chunk(self, chunk: ActionChunk, time: float, due: Array, ahead: NDArray[np.bool_]) -> None:
        if chunk.joints is None:
            raise ActionError("a joint chunk must hold joint positions")
        if not self.joint_mode and time < self.cartesian.end_time:
            raise ActionError("a joint chunk came while a Cartesian motion is under way")
        self.joint.replan(time, due, chunk.joints[ahead], self._gentle_joints)
        self.joint_mode = True

    def _merge_gripper(self, chunk: ActionChunk, time: float, stamp_time: float) -> None:
        """Step k is in force from its start, stamp + k period, as position targets are aimed at then."""
        starts = stamp_time + chunk.period * np.arange(chunk.horizon)
        past = int(np.searchsorted(starts, time, side="right")) - 1
        current = chunk.gripper_width[past] if past >= 0 else self.gripper(time)
        later = starts > time
        self._gripper = Schedule(
            np.concatenate([[-np.inf], starts[later]]),
            np.concatenate([[current], chunk.gripper_width[later]]),
        )
