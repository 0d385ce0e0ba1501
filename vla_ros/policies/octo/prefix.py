"""What the robot will do anyway, in the policy's own words: the target of guided sampling.

Real-time chunking (arXiv 2506.07339) keeps the steps that will be executed before the answer arrives, and
fades out over those after them.  Here only the former are known.  They are timed by the chunk before, so the
last of the policy's own steps among them is often covered in part: it counts by the part that is.
"""

from __future__ import annotations

import numpy as np

from vla_ros.actions import rotations
from vla_ros.actions.normalization import Normalization, NormalizationKind, normalize
from vla_ros.actions.space import ActionSpace
from vla_ros.policies.base import ActionPrefix
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import ActionKind, Array, Composition, Pose

_LEAST = 0.25
"""A step of which less is committed is not guided."""


def guidance(
    prefix: ActionPrefix,
    measured: Pose,
    space: ActionSpace,
    gripper: GripperSpec,
    normalization: Normalization | None,
    horizon: int,
) -> tuple[Array, Array] | None:
    """Normalised steps to come near to, and how near (0 to 1), each (horizon, dimension).

    None when the prefix says nothing of any step, or speaks of joints to a policy that speaks of poses.

    Args:
        prefix: absolute targets after the observation.
        measured: pose at the observation: where the first step begins unless the prefix reaches back to it.
        space: what the policy's numbers mean.
        gripper: opening range.
        normalization: of the policy's answers.
        horizon: steps it answers.
    """
    joints = space.kind is ActionKind.JOINT_POSITION
    if (prefix.kind is ActionKind.JOINT_POSITION) != joints or not len(prefix.after):
        return None
    sure = float(prefix.after[-1]) / space.period
    weight = np.clip(sure - np.arange(horizon) + 1e-9, 0.0, 1.0)
    weight[weight < _LEAST] = 0.0
    known = int((weight > 0.0).sum())
    if known == 0:
        return None
    values = np.zeros((horizon, space.dimension))
    if joints:
        if prefix.targets.shape[1] != space.dimension - 1:
            return None
        values[:known, :-1] = _joints(prefix, space.period, known)
    else:
        values[:known, :6] = _poses(prefix, measured, space, known)
    ends = space.period * np.arange(1, known + 1)
    last = np.searchsorted(prefix.after, ends - 1e-9).clip(max=len(prefix.after) - 1)
    values[:known, -1] = _gripper(prefix.gripper_width[last], space, gripper)
    if normalization is not None:
        values = _normalized(values, normalization)
    weights = np.repeat(weight[:, None], space.dimension, axis=1)
    if space.gripper.relative:
        # a relative command is about a change, of which a width says nothing
        weights[:, -1] = 0.0
    return values, weights


def _joints(prefix: ActionPrefix, period: float, known: int) -> Array:
    """Joint positions (known, n) [rad] at the steps' ends; what is beyond the prefix goes on as it went."""
    times, points = prefix.after, prefix.targets
    begin = (known - 1) * period
    ends: Array = np.asarray(period * np.arange(1, known + 1), dtype=float)
    if times[-1] < ends[-1] - 1e-9 and begin >= times[0]:
        start = _lines(times, points, np.array([begin]))
        on = start + (points[-1:] - start) * period / (times[-1] - begin)
        times, points = np.append(times, ends[-1]), np.vstack([points, on])
    return _lines(times, points, ends)


def _poses(prefix: ActionPrefix, measured: Pose, space: ActionSpace, known: int) -> Array:
    """Steps (known, 6) in the policy's units before normalisation; the last goes on as it began."""
    times, points = prefix.after, prefix.targets
    back = np.concatenate([measured.position, measured.quaternion])
    if times[0] > 1e-6:
        times, points = np.concatenate([[0.0], times]), np.vstack([back, points])
    at = space.period * np.arange(known + 1)
    placed = _pose_lines(times, points, np.append(at[:-1], min(at[-1], times[-1])))
    share = (min(at[-1], times[-1]) - at[-2]) / space.period
    if share < 1.0 - 1e-9:
        placed[-1] = _further(placed[-2], placed[-1], 1.0 / share)
    if space.composition is Composition.MEASURED:
        placed[0] = back
    if space.kind is ActionKind.CARTESIAN_ABSOLUTE:
        moved, turned = placed[1:, :3], placed[1:, 3:]
    else:
        moved = np.diff(placed[:, :3], axis=0)
        turned = rotations.multiply(placed[1:, 3:], rotations.conjugate(placed[:-1, 3:]))
    angles = rotations.to_euler_xyz(turned)
    return np.hstack([moved / space.translation_scale, angles / space.rotation_scale])


def _lines(times: Array, points: Array, at: Array) -> Array:
    """Straight lines through points (k, d), at times (m,); beyond the ends it rests."""
    return np.stack([np.interp(at, times, column) for column in points.T], axis=1)


def _pose_lines(times: Array, points: Array, at: Array) -> Array:
    """The same for poses (k, 7): rotations take the shorter way at constant speed."""
    if len(times) == 1:
        return np.repeat(points, len(at), axis=0)
    after = np.clip(np.searchsorted(times, at, side="right"), 1, len(times) - 1)
    before = after - 1
    share = np.clip((at - times[before]) / (times[after] - times[before]), 0.0, 1.0)[:, None]
    a, b = points[before], points[after]
    turn = rotations.log(rotations.multiply(b[:, 3:], rotations.conjugate(a[:, 3:])))
    turned = rotations.multiply(rotations.exp(share * turn), a[:, 3:])
    return np.hstack([a[:, :3] + share * (b[:, :3] - a[:, :3]), turned])


def _further(a: Array, b: Array, share: float) -> Array:
    """The pose (7,) a share, above 1, of the way from a to b."""
    turn = rotations.log(rotations.multiply(b[3:], rotations.conjugate(a[3:])))
    turned = rotations.multiply(rotations.exp(share * turn), a[3:])
    return np.concatenate([a[:3] + share * (b[:3] - a[:3]), turned])


def _gripper(widths: Array, space: ActionSpace, gripper: GripperSpec) -> Array:
    """Openings [m] as the action space says them; the inverse of `actions.gripper.gripper_widths`."""
    opening = (widths - gripper.min_width) / (gripper.max_width - gripper.min_width)
    convention = space.gripper
    found: Array = convention.closed_value + opening * (convention.open_value - convention.closed_value)
    return found


def _normalized(values: Array, normalization: Normalization) -> Array:
    """As the policy answers; not clipped, for neither are its answers before they are sampled."""
    statistics = normalization.statistics
    if normalization.kind is NormalizationKind.BOUNDS_Q99:
        span = np.maximum(statistics.high - statistics.low, 1e-8)
        scaled = 2.0 * (values - statistics.low) / span - 1.0
        return np.where(statistics.mask, scaled, values)
    return normalize(values, normalization.kind, statistics)
