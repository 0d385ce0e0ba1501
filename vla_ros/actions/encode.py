"""The inverse of `decode` for one step: from metres and radians to the numbers of an action space."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.actions import rotations
from vla_ros.actions.gripper import GripperConvention, GripperState
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ActionError
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import ActionKind, Array, Pose


def encode(
    space: ActionSpace,
    gripper: GripperSpec,
    width: float,
    *,
    pose: Pose | None = None,
    base: Pose | None = None,
    joints: ArrayLike | None = None,
    translation: ArrayLike | None = None,
    rotation: ArrayLike | None = None,
    before: GripperState | None = None,
) -> Array:
    """One action (space.dimension,), every number exactly representable in float32.

    `decode` gives back what was asked for, within the space's clips and rounding.

    Args:
        space: the action space to speak.
        gripper: its opening range.
        width: wanted opening [m].
        pose: wanted pose of the tool centre point in the base frame, for Cartesian spaces.
        base: for deltas: the pose that `pose` is reached from (the previous target or the measured pose, as
            the space composes them).
        joints: (n,) wanted joint positions [rad], for joint spaces.
        translation: (3,) [m] along the base axes, for deltas instead of `pose` and `base`.
        rotation: (3,) rotation vector [rad] about the base axes, likewise; None: no turn.
        before: of the gripper, for relative conventions: what is so already is not asked for again; None:
            the wish is said at every step.

    Raises:
        ActionError: what the space needs is missing, has another shape or is not finite.
    """
    if space.kind is ActionKind.JOINT_POSITION:
        motion = _vector(joints, "joints", space.dimension - 1, space)
    else:
        motion = _cartesian(space, pose, base, translation, rotation)
    if not np.isfinite(width):
        raise ActionError(f"the wanted gripper opening is {width}, but must be finite")
    value = gripper_value(float(width), space.gripper, gripper, before)
    return exact(np.append(motion, value))


def exact(values: ArrayLike) -> Array:
    """The nearest float32 numbers, as float64: every format keeps them to the last bit."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def gripper_value(
    width: float, convention: GripperConvention, gripper: GripperSpec, before: GripperState | None = None
) -> float:
    """An opening [m] as the gripper dimension says it; the inverse of `gripper_widths`."""
    opening = (width - gripper.min_width) / (gripper.max_width - gripper.min_width)
    opening = min(max(opening, 0.0), 1.0)
    if convention.relative or convention.binarize:
        opening = 1.0 if opening > 0.5 else 0.0
    if convention.relative and before is not None:
        middle = 0.5 * (gripper.min_width + gripper.max_width)
        if (before.width > middle) == (opening > 0.5):
            opening = 0.5
    return convention.closed_value + opening * (convention.open_value - convention.closed_value)


def _cartesian(
    space: ActionSpace,
    pose: Pose | None,
    base: Pose | None,
    translation: ArrayLike | None,
    rotation: ArrayLike | None,
) -> Array:
    """The six numbers of a Cartesian motion, within the clips."""
    if space.kind is ActionKind.CARTESIAN_ABSOLUTE:
        moved, turned = _of_pose(pose, "pose", space)
        angles = rotations.to_euler_xyz(turned)
    elif pose is not None:
        position, quaternion = _of_pose(pose, "pose", space)
        start, turn = _of_pose(base, "base", space)
        moved = position - start
        angles = rotations.to_euler_xyz(rotations.multiply(quaternion, rotations.conjugate(turn)))
    else:
        moved = _vector(translation, "translation", 3, space)
        vector = np.zeros(3) if rotation is None else _vector(rotation, "rotation", 3, space)
        angles = rotations.to_euler_xyz(rotations.exp(vector))
    if space.kind is ActionKind.CARTESIAN_DELTA:
        moved = _clipped(moved, space.step_translation)
        angles = _clipped(angles, space.step_rotation)
    values = np.concatenate([moved / space.translation_scale, angles / space.rotation_scale])
    values = _clipped(values, space.unit_clip)
    if space.kind is ActionKind.CARTESIAN_ABSOLUTE:
        return values
    # a number rounded to float32 may lie beyond the clip it was cut to: one nearer to zero does not
    rounded = values.astype(np.float32)
    clips = np.repeat(
        [
            _least(space.step_translation, space.translation_scale, space.unit_clip),
            _least(space.step_rotation, space.rotation_scale, space.unit_clip),
        ],
        3,
    )
    inward = np.nextafter(rounded, np.float32(0.0))
    return np.where(np.abs(rounded.astype(float)) > clips, inward, rounded).astype(float)


def _least(step: float | None, scale: float, unit: float | None) -> float:
    """The tightest of the two clips, in the space's own unit."""
    return min(np.inf if step is None else step / scale, np.inf if unit is None else unit)


def _clipped(values: Array, limit: float | None) -> Array:
    return values if limit is None else np.clip(values, -limit, limit)


def _of_pose(pose: Pose | None, name: str, space: ActionSpace) -> tuple[Array, Array]:
    if pose is None:
        raise ActionError(f"action space '{space.name}' needs {name}, which was not given")
    quaternion = _vector(pose.quaternion, f"the quaternion of {name}", 4, space)
    norm = float(np.linalg.norm(quaternion))
    if norm < 1e-6:
        raise ActionError(f"the quaternion of {name} is zero")
    return _vector(pose.position, f"the position of {name}", 3, space), quaternion / norm


def _vector(values: ArrayLike | None, name: str, count: int, space: ActionSpace) -> Array:
    if values is None:
        raise ActionError(f"action space '{space.name}' needs {name}, which was not given")
    array = np.asarray(values, dtype=float)
    if array.shape != (count,):
        raise ActionError(f"{name} has shape {array.shape}, but action space '{space.name}' needs ({count},)")
    if not np.isfinite(array).all():
        raise ActionError(f"{name} is {array.tolist()}, but must be finite")
    return array
