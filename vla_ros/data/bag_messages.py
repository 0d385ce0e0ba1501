"""Messages as bags hold them to the words of the house; no ROS is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_ros.data.message_types import stamp_of
from vla_ros.errors import DataError
from vla_ros.types import (
    ActionChunk,
    ActionKind,
    Composition,
    JointState,
    PolicyOutput,
    Source,
)


def joint_state_of(message: Any, names: Sequence[str]) -> JointState | None:
    """The named joints of a sensor_msgs/JointState, in that order; None when it has not all of them."""
    places = {name: place for place, name in enumerate(message.name)}
    if not all(name in places for name in names):
        return None
    order = [places[name] for name in names]

    def taken(values: Any) -> Any:
        return np.array(values, float)[order] if len(values) == len(places) else np.zeros(0)

    return JointState(
        stamp_of(message.header.stamp),
        taken(message.position),
        taken(message.velocity),
        taken(message.effort),
    )


def policy_output_of(message: Any, where: str) -> PolicyOutput:
    """A vla_ros/PolicyOutput.  Raises `DataError` when sizes and data disagree."""
    shape = (int(message.horizon), int(message.dimension))
    for name, data in (("values", message.values), ("tokens", message.tokens)):
        if len(data) not in (0, shape[0] * shape[1]):
            raise DataError(
                f"{where}: policy output {message.sequence} has {len(data)} {name}, "
                f"but is {shape[0]} x {shape[1]}."
            )
    return PolicyOutput(
        stamp_of(message.header.stamp),
        int(message.sequence),
        str(message.action_space),
        np.array(message.values, float).reshape(shape) if len(message.values) else None,
        np.array(message.tokens, np.int64).reshape(shape) if len(message.tokens) else None,
        str(message.normalization_key),
        terminate=bool(message.terminate),
        source=_source(getattr(message, "source", 0), where),
    )


def action_chunk_of(message: Any, where: str) -> ActionChunk:
    """A vla_ros/ActionChunk.  Raises `DataError` when it is malformed."""
    steps = len(message.gripper_width)
    try:
        kind, composition = ActionKind(message.kind), Composition(message.composition)
    except ValueError as error:
        raise DataError(f"{where}: chunk {message.sequence} is of no known kind: {error}.") from error
    translation = quaternion = joints = None
    if kind is ActionKind.JOINT_POSITION:
        if len(message.joint_positions) != steps * message.joint_count:
            raise DataError(
                f"{where}: chunk {message.sequence} has not {steps} x {message.joint_count} joints."
            )
        joints = np.array(message.joint_positions, float).reshape(steps, int(message.joint_count))
    else:
        if len(message.poses) != steps:
            raise DataError(f"{where}: chunk {message.sequence} has {len(message.poses)} poses, not {steps}.")
        points = [(p.position.x, p.position.y, p.position.z) for p in message.poses]
        turns = [(q.x, q.y, q.z, q.w) for q in (p.orientation for p in message.poses)]
        translation, quaternion = np.array(points).reshape(steps, 3), np.array(turns).reshape(steps, 4)
    return ActionChunk(
        stamp_of(message.header.stamp), int(message.sequence), kind, float(message.period),
        np.array(message.gripper_width, float), translation, quaternion, joints, composition,
        str(message.header.frame_id), _source(getattr(message, "source", 0), where),
    )  # fmt: skip


def _source(number: int, where: str) -> Source:
    try:
        return Source(number)
    except ValueError as error:
        raise DataError(f"{where}: the source {number} is unknown, known are 0 and 1.") from error
