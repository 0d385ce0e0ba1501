"""Incoming checks: a list of small objects that look at a chunk before it can move anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.bounds import MAX_PERIOD, MIN_PERIOD, excess
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    Array,
    Intervention,
    InterventionAction,
    Reason,
)


@dataclass(frozen=True)
class Context:
    """What the checks know besides the chunk."""

    now: int
    """ROS time [ns]."""
    newest_stamp: int
    """Stamp of the newest chunk taken so far; 0 when none."""
    newest_sequence: int


class Check(Protocol):
    """One reason to refuse a chunk."""

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """None when the chunk passes, else the intervention and one plain sentence."""
        ...


def _reject(reason: Reason, sentence: str, amount: float = 0.0) -> tuple[Intervention, str]:
    return Intervention(InterventionAction.REJECT, reason, "chunk", amount), sentence


def _shape(values: Array | None) -> tuple[int, ...]:
    return () if values is None else values.shape


class FiniteCheck:
    """Not-a-number and infinity are no motion; they latch a stop, for their source cannot be trusted."""

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        parts = (
            chunk.translation,
            chunk.quaternion,
            chunk.joints,
            chunk.gripper_width,
            np.array([chunk.period]),
        )
        if all(part is None or np.isfinite(part).all() for part in parts):
            return None
        sentence = f"chunk {chunk.sequence} holds a value that is not finite"
        return Intervention(InterventionAction.STOP, Reason.NOT_FINITE, "chunk"), sentence


class SchemaCheck:
    """The arrays fit the kind, the robot and each other, and are not too long (`vla_ros.bounds`)."""

    def __init__(self, dof: int) -> None:
        """`dof`: number of arm joints."""
        self._dof = dof

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        steps = chunk.horizon
        if steps == 0 or not MIN_PERIOD <= chunk.period <= MAX_PERIOD:
            return _reject(
                Reason.WRONG_DIMENSION,
                f"chunk {chunk.sequence} has {steps} steps of {chunk.period:g} s, "
                f"needed are at least one step of {MIN_PERIOD:g} to {MAX_PERIOD:g} s",
            )
        excessive = excess(steps, chunk.period)
        if excessive:
            return _reject(Reason.WRONG_DIMENSION, f"chunk {chunk.sequence} {excessive}", steps)
        if chunk.kind is ActionKind.JOINT_POSITION:
            given, needed = [_shape(chunk.joints)], [(steps, self._dof)]
        else:
            given = [_shape(chunk.translation), _shape(chunk.quaternion)]
            needed = [(steps, 3), (steps, 4)]
        if given != needed:
            return _reject(
                Reason.WRONG_DIMENSION,
                f"chunk {chunk.sequence} has shape {given}, but the robot needs {needed}",
            )
        return None


class QuaternionCheck:
    """Quaternions have unit norm within 1e-3."""

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        if chunk.quaternion is None:
            return None
        error = float(np.abs(np.linalg.norm(chunk.quaternion, axis=1) - 1.0).max())
        if error <= 1e-3:
            return None
        return _reject(
            Reason.WRONG_DIMENSION, f"chunk {chunk.sequence} has a quaternion of norm 1 + {error:.3g}", error
        )


class StampCheck:
    """Not from the future, not too old, in order."""

    def __init__(self, future: float = 0.02, latest: float = 3.0) -> None:
        """What a stamp may be.

        Args:
            future: tolerated lead of the stamp [s] (clock skew between machines).
            latest: age [s] up to which a chunk is carried out though all its steps are due; within what is
                remembered of the motion (4 s), and longer than the slowest models take for an answer.
        """
        self._future, self._latest = future, latest

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        age = (context.now - chunk.stamp) / NANOSECONDS
        if age < -self._future:
            return _reject(
                Reason.FUTURE_CHUNK,
                f"chunk {chunk.sequence} comes from an observation {-age:.3f} s in the future, "
                f"allowed are {self._future:g} s",
                -age,
            )
        oldest = max(chunk.horizon * chunk.period, self._latest)
        if age > oldest:
            return _reject(
                Reason.STALE_CHUNK,
                f"chunk {chunk.sequence} comes from an observation {age:.3f} s ago, allowed are {oldest:g} s",
                age,
            )
        if chunk.stamp <= context.newest_stamp:
            return _reject(
                Reason.OUT_OF_ORDER,
                f"chunk {chunk.sequence} is not newer than chunk {context.newest_sequence}, "
                "which is in execution",
            )
        return None


class FrameCheck:
    """Targets are in the robot's base frame: nothing here transforms them."""

    def __init__(self, base_frame: str) -> None:
        """`base_frame`: the only frame accepted."""
        self._base = base_frame

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        if chunk.frame in ("", self._base):
            return None
        return _reject(
            Reason.WRONG_FRAME,
            f"chunk {chunk.sequence} is in frame '{chunk.frame}', but the robot's base is '{self._base}'",
        )


class StepCheck:
    """No step is absurdly large: a delta, or the way from one absolute target to the next."""

    def __init__(self, velocity: Array, translation: float = 0.15, rotation: float = 0.75) -> None:
        """What a step may be.

        Args:
            velocity: (n,) joint velocity limits [rad/s]; joint targets may be three times that far apart.
            translation: [m], three times Bridge's clip.
            rotation: [rad], three times Bridge's clip.
        """
        self._velocity, self._translation, self._rotation = velocity, translation, rotation

    def __call__(self, chunk: ActionChunk, context: Context) -> tuple[Intervention, str] | None:
        """See `Check`."""
        if chunk.joints is not None and chunk.kind is ActionKind.JOINT_POSITION:
            return self._joints(chunk, chunk.joints)
        if chunk.translation is None or chunk.quaternion is None:
            return None
        ways, cosines = chunk.translation, chunk.quaternion[:, 3]
        if chunk.kind is ActionKind.CARTESIAN_ABSOLUTE:
            ways = np.diff(ways, axis=0)
            cosines = (chunk.quaternion[1:] * chunk.quaternion[:-1]).sum(axis=1)
        length = float(np.linalg.norm(ways, axis=1).max(initial=0.0))
        angle = float(2.0 * np.arccos(np.clip(np.abs(cosines), 0.0, 1.0)).max(initial=0.0))
        if length <= self._translation and angle <= self._rotation:
            return None
        return _reject(
            Reason.STEP_TOO_LARGE,
            f"chunk {chunk.sequence} has a step of {length:.3f} m and {angle:.2f} rad, "
            f"allowed are {self._translation:g} m and {self._rotation:g} rad",
            length,
        )

    def _joints(self, chunk: ActionChunk, joints: Array) -> tuple[Intervention, str] | None:
        steps = np.abs(np.diff(joints, axis=0)).max(axis=0, initial=0.0)
        most = 3.0 * self._velocity * chunk.period
        worst = int(np.argmax(steps - most))
        if steps[worst] <= most[worst]:
            return None
        return _reject(
            Reason.STEP_TOO_LARGE,
            f"chunk {chunk.sequence} has a step of {steps[worst]:.3f} rad of joint {worst + 1}, "
            f"allowed are {most[worst]:.3f} rad in {chunk.period:g} s",
            float(steps[worst]),
        )


def incoming_checks(spec: RobotSpec) -> Sequence[Check]:
    """The checks of a robot, in the order they are made."""
    return [
        FiniteCheck(),
        SchemaCheck(spec.dof),
        FrameCheck(spec.base_frame),
        QuaternionCheck(),
        StampCheck(),
        StepCheck(spec.applied.velocity),
    ]
