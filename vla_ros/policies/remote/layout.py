"""Under which names an observation travels: our own, and those that openpi's servers were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ObservationError, PolicyError, unknown
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, CameraImage, JointState, Observation, Pose

PROMPT = "prompt"


@dataclass(frozen=True)
class Layout:
    """Names of images and state in a message."""

    name: str
    images: tuple[str, ...]
    """Key of each camera, the main one first; empty: `images/NAME` for every camera."""
    joints: str = ""
    """Key of the joint positions [rad]."""
    gripper: str = ""
    """Key of the gripper as `closed`: 0 open, 1 closed."""
    state: str = ""
    """Key of LIBERO's state: position, axis and angle, both fingers' travel."""


LAYOUTS = {
    one.name: one
    for one in (
        Layout("vla_ros", ()),
        Layout(
            "droid",
            ("observation/exterior_image_1_left", "observation/wrist_image_left"),
            joints="observation/joint_position",
            gripper="observation/gripper_position",
        ),
        Layout("libero", ("observation/image", "observation/wrist_image"), state="observation/state"),
    )
}
"""By name; `droid` and `libero` as openpi's policies of those names read them (src/openpi/policies)."""


def layout(name: str) -> Layout:
    """The named layout.  Raises `PolicyError`."""
    if name not in LAYOUTS:
        raise PolicyError(unknown("Layout", name, LAYOUTS))
    return LAYOUTS[name]


def request(
    observation: Observation, instruction: str, form: Layout, cameras: tuple[str, ...], robot: RobotSpec
) -> dict[str, Any]:
    """The message for an observation.  Raises `ObservationError` when a camera is not in it."""
    for name in cameras:
        if name not in observation.images:
            raise ObservationError(f"The policy is shown camera '{name}', but it is not in the observation.")
    message: dict[str, Any] = {PROMPT: instruction}
    pictures = [observation.images[name].rgb for name in cameras]
    if not form.images:
        message.update({f"images/{name}": one for name, one in zip(cameras, pictures, strict=True)})
        pose = observation.tcp_pose
        message["joint_position"] = observation.joints.positions
        message["gripper_width"] = float(observation.gripper_width)
        message["tcp_pose"] = np.concatenate((pose.position, pose.quaternion))
        message["stamp"], message["sequence"] = observation.stamp, observation.sequence
        return message
    message.update(dict(zip(form.images, pictures, strict=False)))
    if form.joints:
        message[form.joints] = observation.joints.positions.astype(np.float32)
    if form.gripper:
        share = observation.gripper_width / robot.gripper.max_width
        message[form.gripper] = np.array([1.0 - np.clip(share, 0.0, 1.0)], dtype=np.float32)
    if form.state:
        finger = 0.5 * observation.gripper_width
        pose = observation.tcp_pose
        turn = rotations.log(pose.quaternion)
        message[form.state] = np.concatenate((pose.position, turn, (finger, -finger))).astype(np.float32)
    return message


def observation(
    message: Mapping[Any, Any], form: Layout, cameras: tuple[str, ...], robot: RobotSpec, count: int, now: int
) -> Observation:
    """The observation in a message; what a layout does not say is the robot's home.

    Args:
        message: unpacked.
        form: its layout.
        cameras: names of the cameras, the main one first.
        robot: the policy's.
        count: sequence number where the message has none.
        now: stamp where the message has none [ns].

    Raises `ObservationError` for what is missing or of another form.
    """
    instruction = message.get(PROMPT)
    if not isinstance(instruction, str):
        raise ObservationError(f"The message has no text '{PROMPT}'.")
    keys = form.images or tuple(f"images/{name}" for name in cameras)
    images, stamp = {}, _whole(message.get("stamp", now), "stamp")
    for name, key in zip(cameras, keys, strict=False):
        picture = message.get(key)
        if picture is None:
            continue
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
            raise ObservationError(f"'{key}' must be an image (h, w, 3) of uint8.")
        if picture.shape[2] != 3 and picture.shape[0] == 3:
            picture = picture.transpose(1, 2, 0)
        if picture.shape[2] != 3 or 0 in picture.shape:
            raise ObservationError(f"'{key}' must be an image (h, w, 3), but is {picture.shape}.")
        images[name] = CameraImage(stamp, np.ascontiguousarray(picture))
    joints = _numbers(message, form.joints or "joint_position", robot.home, robot.dof)
    pose = _numbers(message, "tcp_pose", np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), 7)
    width = message.get("gripper_width", robot.gripper.max_width)
    if form.gripper and form.gripper in message:
        closed = _numbers(message, form.gripper, np.zeros(1), 1)[0]
        width = (1.0 - float(np.clip(closed, 0.0, 1.0))) * robot.gripper.max_width
    if isinstance(width, bool) or not isinstance(width, (int, float, np.number)) or not np.isfinite(width):
        raise ObservationError("'gripper_width' must be a finite number.")
    return Observation(
        stamp, _whole(message.get("sequence", count), "sequence"), images,
        JointState(stamp, joints, np.zeros(0), np.zeros(0)), float(width), Pose(pose[:3], pose[3:]),
        instruction,
    )  # fmt: skip


def _whole(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**63:
        raise ObservationError(f"'{key}' must be a whole number from 0 on.")
    return int(value)


def _numbers(message: Mapping[Any, Any], key: str, default: Array, size: int) -> Array:
    value = message.get(key)
    if value is None:
        return np.asarray(default, dtype=float)
    if not isinstance(value, np.ndarray) or value.shape != (size,) or value.dtype.kind not in "fiu":
        raise ObservationError(f"'{key}' must be {size} numbers.")
    if not np.isfinite(value).all():
        raise ObservationError(f"'{key}' must be finite.")
    return value.astype(float)
