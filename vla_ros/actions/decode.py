"""From a policy's answer to a chunk in metres and radians: tokens to numbers, numbers to meaning."""

from __future__ import annotations

import numpy as np

from vla_ros.actions import rotations
from vla_ros.actions.gripper import GripperState, gripper_widths
from vla_ros.actions.normalization import Normalization, NormalizationKind, unnormalize
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.tokens import TokenCodec
from vla_ros.bounds import excess
from vla_ros.errors import ActionError
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import ActionChunk, ActionKind, Array, PolicyOutput


def decode(
    output: PolicyOutput,
    space: ActionSpace,
    gripper: GripperSpec,
    normalization: Normalization | None = None,
    codec: TokenCodec | None = None,
    before: GripperState | None = None,
) -> ActionChunk:
    """Meaning of one policy output.

    Args:
        output: values or tokens, (horizon, space.dimension).
        space: the contract's action space; the output must name the same.
        gripper: opening range that the gripper dimension is mapped onto.
        normalization: what the policy declares; None: it answers physical values.  Tokens need one.
        codec: of the tokens, as the policy declares it; None: it answers values.
        before: of the gripper at the observation, the start for relative commands; default open.

    Raises:
        ActionError: another action space, wrong dimension, too many steps (`vla_ros.bounds`), not finite,
            token that is no action, normalised by another data set than declared.
    """
    if output.action_space != space.name:
        raise ActionError(
            f"the policy speaks action space '{output.action_space}', but the contract says '{space.name}'"
        )
    _check_scaling(output, normalization)
    values = _values(output, codec)
    if values.ndim != 2 or len(values) == 0 or values.shape[1] != space.dimension:
        raise ActionError(
            f"the policy's output has shape {values.shape}, but action space '{space.name}' needs "
            f"(steps, {space.dimension}): {', '.join(space.dimensions)}"
        )
    excessive = excess(len(values), space.period)
    if excessive:
        raise ActionError(f"the policy's output {excessive}")
    if not np.isfinite(values).all():
        step, column = np.argwhere(~np.isfinite(values))[0]
        raise ActionError(
            f"action step {step} is {values[step, column]} in dimension '{space.dimensions[column]}', "
            "but every value must be finite"
        )
    if normalization is not None:
        values = unnormalize(values, normalization.kind, normalization.statistics)
    if space.unit_clip is not None:
        values = np.concatenate(
            [np.clip(values[:, :-1], -space.unit_clip, space.unit_clip), values[:, -1:]], axis=1
        )
    widths = gripper_widths(values[:, -1], space.gripper, gripper, before, space.period)
    if space.kind is ActionKind.JOINT_POSITION:
        return ActionChunk(
            output.stamp, output.sequence, space.kind, space.period, widths,
            joints=values[:, :-1].copy(), composition=space.composition, source=output.source,
        )  # fmt: skip
    translation = values[:, :3] * space.translation_scale
    angles = values[:, 3:6] * space.rotation_scale
    if space.kind is ActionKind.CARTESIAN_DELTA:
        if space.step_translation is not None:
            translation = np.clip(translation, -space.step_translation, space.step_translation)
        if space.step_rotation is not None:
            angles = np.clip(angles, -space.step_rotation, space.step_rotation)
    return ActionChunk(
        output.stamp, output.sequence, space.kind, space.period, widths,
        translation=translation, quaternion=rotations.from_euler_xyz(angles), composition=space.composition,
        source=output.source,
    )  # fmt: skip


def _check_scaling(output: PolicyOutput, declared: Normalization | None) -> None:
    """Values of one data set read by another's statistics are motion that nobody meant."""
    if declared is None:
        if output.normalization_key:
            raise ActionError(
                f"the output is normalised by '{output.normalization_key}', "
                "but the policy declares no normalisation"
            )
        if output.tokens is not None:
            raise ActionError("the output holds tokens, but the policy declares no normalisation for them")
    elif output.normalization_key != declared.key and (
        output.normalization_key or declared.kind is not NormalizationKind.NONE
    ):
        given = f"by '{output.normalization_key}'" if output.normalization_key else "by no data set"
        raise ActionError(f"the output is normalised {given}, but the policy declares '{declared.key}'")


def _values(output: PolicyOutput, codec: TokenCodec | None) -> Array:
    if (output.values is None) == (output.tokens is None):
        given = "neither" if output.values is None else "both"
        raise ActionError(f"a policy output must hold values or tokens, but holds {given}")
    if output.tokens is None:
        return np.asarray(output.values, dtype=float)
    if codec is None:
        raise ActionError("the output holds tokens, but the policy declares no codec for them")
    return codec.decode(output.tokens)
