"""Small messages between node and model: msgpack, with numpy arrays of plain numbers; no pickle.

Images do not travel here but in shared memory (`frames`); a message only says where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgpack
import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.policies.base import ActionPrefix
from vla_ros.types import ActionKind, JointState, Observation, PolicyOutput, Pose
from vla_ros.types import CameraImage as Frame

ARRAY = 1
"""Ext type of an array."""
DTYPES = ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1")
LARGEST = 64 * 2**20
"""Bytes of the longest message."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes.  Raises `PolicyError` for a value that is neither plain nor an array of numbers."""
    try:
        return bytes(msgpack.packb(message, default=_array_out))
    except (TypeError, ValueError, OverflowError) as error:
        raise PolicyError(f"A message to or from the model cannot be sent: {error}.") from error


def unpack(data: bytes | bytearray) -> dict[str, Any]:
    """The message of these bytes.  Raises `PolicyError` when they are none."""
    try:
        message = msgpack.unpackb(data, ext_hook=_array_in, strict_map_key=True)
    except PolicyError:
        raise
    except Exception as error:
        raise PolicyError(
            f"A message of {len(data)} bytes from the model cannot be read: {type(error).__name__}."
        ) from error
    if not isinstance(message, dict):
        raise PolicyError(f"A message from the model is a {type(message).__name__}, but must be a map.")
    return message


def _array_out(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} is neither plain nor an array")
    plain = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
    if plain.dtype.str not in DTYPES:
        raise TypeError(f"an array of {value.dtype} holds no plain numbers")
    return msgpack.ExtType(ARRAY, msgpack.packb([plain.dtype.str, list(plain.shape), plain.tobytes()]))


def _array_in(code: int, data: bytes) -> Any:
    if code != ARRAY:
        raise PolicyError(f"A message from the model holds something of kind {code}.")
    name, shape, content = msgpack.unpackb(data)
    if name not in DTYPES:
        raise PolicyError(f"A message from the model holds an array of {name!r}.")
    if len(shape) > 8 or any(not isinstance(n, int) or n < 0 for n in shape):
        raise PolicyError("A message from the model holds an array of a shape that is none.")
    return np.frombuffer(content, np.dtype(name)).reshape(shape).copy()


def observation_out(observation: Observation) -> dict[str, Any]:
    """Everything of an observation but its images."""
    joints, pose = observation.joints, observation.tcp_pose
    return {
        "stamp": observation.stamp,
        "sequence": observation.sequence,
        "joints": [joints.stamp, joints.positions, joints.velocities, joints.efforts],
        "gripper_width": float(observation.gripper_width),
        "tcp": [pose.position, pose.quaternion],
        "instruction": observation.instruction,
    }


def observation_in(message: Mapping[str, Any], images: Mapping[str, Frame]) -> Observation:
    """The observation of a message and its images."""
    stamp, positions, velocities, efforts = message["joints"]
    return Observation(
        stamp=message["stamp"],
        sequence=message["sequence"],
        images=images,
        joints=JointState(stamp, positions, velocities, efforts),
        gripper_width=message["gripper_width"],
        tcp_pose=Pose(*message["tcp"]),
        instruction=message["instruction"],
    )


def prefix_out(prefix: ActionPrefix) -> dict[str, Any]:
    """An action prefix as a map."""
    return {**asdict(prefix), "kind": int(prefix.kind)}


def prefix_in(message: Mapping[str, Any]) -> ActionPrefix:
    """The action prefix of a map."""
    return ActionPrefix(
        ActionKind(message["kind"]), message["after"], message["targets"], message["gripper_width"]
    )


def output_out(output: PolicyOutput) -> dict[str, Any]:
    """A policy's answer as a map.  Raises `PolicyError` when it is none."""
    if not isinstance(output, PolicyOutput):
        raise PolicyError(f"The policy answered a {type(output).__name__}, but must answer a PolicyOutput.")
    for name in ("values", "tokens"):
        rows = getattr(output, name)
        if rows is not None and not isinstance(rows, np.ndarray):
            raise PolicyError(f"The policy's {name} are a {type(rows).__name__}, but must be an array.")
    return {
        "stamp": output.stamp,
        "sequence": output.sequence,
        "action_space": output.action_space,
        "values": output.values,
        "tokens": output.tokens,
        "normalization_key": output.normalization_key,
        "latency": dict(output.latency),
        "terminate": output.terminate,
        "text": output.text,
    }


def output_in(message: Mapping[str, Any]) -> PolicyOutput:
    """The answer of a map; its values are judged by `screening`."""
    try:
        return PolicyOutput(**message)
    except TypeError as error:
        raise PolicyError("The model's answer is incomplete.") from error
