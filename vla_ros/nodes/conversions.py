"""Messages to the plain types of `vla_ros.types` and back; errors name the topic or the message."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState as JointStateMessage
from sensor_msgs.msg import MultiDOFJointState

from vla_ros import msg
from vla_ros.bounds import MAX_DIMENSION, MAX_NAME, MAX_STAGES, MAX_STEPS, excess, plain
from vla_ros.errors import ActionError, ObservationError
from vla_ros.nodes.images import rgb_of
from vla_ros.policies.base import ActionPrefix
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    Array,
    CameraImage,
    Composition,
    JointState,
    Observation,
    PolicyOutput,
    Pose,
    Source,
)


def to_stamp(time: Time) -> int:
    """Message time to nanoseconds."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def to_time(stamp: int) -> Time:
    """Nanoseconds to message time; negative stamps cannot be expressed and become zero."""
    seconds, nanoseconds = divmod(max(stamp, 0), NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def put_time(time: Time, stamp: int) -> None:
    """`to_time` into a message that is there already."""
    time.sec, time.nanosec = divmod(max(stamp, 0), NANOSECONDS)


def writable(message: Any, field: str, count: int, kind: str = "d") -> NDArray[np.generic]:
    """Give a message field `count` floats of an `array` type code; a view through which to write to them."""
    setattr(message, field, array.array(kind, bytes(count * array.array(kind).itemsize)))
    # the setter made a copy
    return np.frombuffer(getattr(message, field), dtype=kind)


def doubles(values: Array) -> array.array[float]:
    """Any float array to the flat array message fields take without copying element by element."""
    result = array.array("d")
    result.frombytes(memoryview(np.ascontiguousarray(values, dtype=np.float64).ravel()).cast("B"))
    return result


def to_pose(pose: PoseMessage) -> Pose:
    """Message pose to position and x, y, z, w quaternion."""
    p, q = pose.position, pose.orientation
    return Pose(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def pose_message(position: Array, quaternion: Array) -> PoseMessage:
    """Position (3,) and quaternion (4,) to a message pose."""
    message = PoseMessage()
    message.position.x, message.position.y, message.position.z = (float(v) for v in position)
    q = message.orientation
    q.x, q.y, q.z, q.w = (float(v) for v in quaternion)
    return message


def objects_message(objects: Mapping[str, Pose], frame_id: str) -> MultiDOFJointState:
    """Named poses in a frame; the stamp is left to whoever publishes."""
    message = MultiDOFJointState(joint_names=list(objects))
    message.header.frame_id = frame_id
    for pose in objects.values():
        transform = Transform()
        t, q = transform.translation, transform.rotation
        t.x, t.y, t.z = (float(v) for v in pose.position)
        q.x, q.y, q.z, q.w = (float(v) for v in pose.quaternion)
        message.transforms.append(transform)
    return message


def objects_of(message: MultiDOFJointState) -> dict[str, Pose]:
    """The named poses of `objects_message`."""
    found = {}
    for name, transform in zip(message.joint_names, message.transforms, strict=False):
        t, q = transform.translation, transform.rotation
        found[name] = Pose(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))
    return found


def image_message(image: CameraImage, frame_id: str = "") -> ImageMessage:
    """One frame as rgb8."""
    height, width = image.rgb.shape[:2]
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(image.rgb)).cast("B"))
    message = ImageMessage(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = to_time(image.stamp)
    message.header.frame_id = frame_id
    message.data = data
    return message


def to_joint_state(message: JointStateMessage, names: tuple[str, ...], topic: str) -> JointState:
    """Joints `names` of a message, in that order; `velocities` and `efforts` are empty when not reported.

    Raises `ObservationError` when a joint is missing, the arrays differ in length, or a value is not finite.
    """
    if len(message.name) > MAX_DIMENSION:
        raise ObservationError(
            f"Joint state on {topic} names {len(message.name)} joints, allowed are {MAX_DIMENSION}."
        )
    given = list(message.name)
    missing = [name for name in names if name not in given]
    if missing:
        raise ObservationError(
            f"Joint state on {topic} names the joints {', '.join(given) or 'none'}, "
            f"but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} needed."
        )
    order = [given.index(name) for name in names]

    def pick(values: Any, field: str) -> Array:
        if len(values) == 0 and field != "position":
            return np.zeros(0)
        if len(values) != len(given):
            raise ObservationError(
                f"Joint state on {topic} has {len(values)} entries in {field} for {len(given)} names."
            )
        picked = np.array(values, dtype=float)[order]
        if not np.isfinite(picked).all():
            raise ObservationError(f"Joint state on {topic} has a {field} that is not a finite number.")
        return picked

    return JointState(
        to_stamp(message.header.stamp),
        pick(message.position, "position"),
        pick(message.velocity, "velocity"),
        pick(message.effort, "effort"),
    )


def joint_state_message(joints: JointState, names: tuple[str, ...]) -> JointStateMessage:
    """Joints as a message."""
    message = JointStateMessage(name=list(names))
    message.header.stamp = to_time(joints.stamp)
    message.position = doubles(joints.positions)
    message.velocity = doubles(joints.velocities)
    message.effort = doubles(joints.efforts)
    return message


def observation_message(
    observation: Observation, joint_names: tuple[str, ...], base_frame: str
) -> msg.Observation:
    """An observation as published on /vla/observation; the instruction does not travel with it."""
    message = msg.Observation(sequence=observation.sequence, gripper_width=float(observation.gripper_width))
    message.header.stamp = to_time(observation.stamp)
    message.header.frame_id = base_frame
    message.camera_names = list(observation.images)
    message.images = [image_message(image, name) for name, image in observation.images.items()]
    message.joint_state = joint_state_message(observation.joints, joint_names)
    message.tcp_pose = pose_message(observation.tcp_pose.position, observation.tcp_pose.quaternion)
    return message


def to_observation(message: msg.Observation, instruction: str, topic: str) -> Observation:
    """A received observation.  Raises `ObservationError` when it is malformed."""
    if len(message.camera_names) != len(message.images):
        raise ObservationError(
            f"Observation on {topic} names {len(message.camera_names)} cameras "
            f"but holds {len(message.images)} images."
        )
    images = {
        name: CameraImage(to_stamp(image.header.stamp), rgb_of(image, f"{topic} ({name})"))
        for name, image in zip(message.camera_names, message.images, strict=True)
    }
    return Observation(
        stamp=to_stamp(message.header.stamp),
        sequence=int(message.sequence),
        images=images,
        joints=to_joint_state(message.joint_state, tuple(message.joint_state.name), topic),
        gripper_width=float(message.gripper_width),
        tcp_pose=to_pose(message.tcp_pose),
        instruction=instruction,
    )


def policy_output_message(output: PolicyOutput, policy: str, instruction: str) -> msg.PolicyOutput:
    """A policy's answer; the caller fills `published`."""
    message = msg.PolicyOutput(
        sequence=output.sequence,
        policy=policy,
        source=int(output.source),
        action_space=output.action_space,
        normalization_key=output.normalization_key,
        terminate=bool(output.terminate),
        text=output.text,
        instruction=instruction,
    )
    message.header.stamp = to_time(output.stamp)
    rows = output.values if output.values is not None else output.tokens
    if rows is not None:
        message.horizon, message.dimension = (int(n) for n in rows.shape)
    if output.values is not None:
        message.values = doubles(output.values)
    if output.tokens is not None:
        message.tokens = array.array("q", np.asarray(output.tokens, dtype=np.int64).ravel().tolist())
    message.stage_names = list(output.latency)
    message.stage_seconds = array.array("d", [float(v) for v in output.latency.values()])
    return message


def to_policy_output(message: msg.PolicyOutput) -> PolicyOutput:
    """A received answer.  Raises `ActionError` when sizes and data disagree or are beyond the bounds."""
    shape = (int(message.horizon), int(message.dimension))
    if shape[0] > MAX_STEPS or shape[1] > MAX_DIMENSION:
        raise ActionError(
            f"The policy output {message.sequence} has horizon {shape[0]} x dimension {shape[1]}, "
            f"allowed are {MAX_STEPS} x {MAX_DIMENSION}."
        )
    if len(message.stage_names) > MAX_STAGES:
        raise ActionError(
            f"The policy output {message.sequence} times {len(message.stage_names)} stages, "
            f"allowed are {MAX_STAGES}."
        )
    values: Array | None = None
    tokens: NDArray[np.int64] | None = None
    for name, data in (("values", message.values), ("tokens", message.tokens)):
        if len(data) and len(data) != shape[0] * shape[1]:
            raise ActionError(
                f"The policy output {message.sequence} has {len(data)} {name}, "
                f"but horizon {shape[0]} x dimension {shape[1]} needs {shape[0] * shape[1]}."
            )
    if len(message.values):
        values = np.array(message.values, dtype=float).reshape(shape)
    if len(message.tokens):
        tokens = np.array(message.tokens, dtype=np.int64).reshape(shape)
    return PolicyOutput(
        stamp=to_stamp(message.header.stamp),
        sequence=int(message.sequence),
        action_space=plain(message.action_space, MAX_NAME),
        values=values,
        tokens=tokens,
        normalization_key=plain(message.normalization_key, MAX_NAME),
        latency=dict(zip(message.stage_names, message.stage_seconds, strict=False)),
        terminate=bool(message.terminate),
        text=plain(message.text),
        source=_source(message.source, f"The policy output {message.sequence}"),
    )


def action_chunk_message(chunk: ActionChunk, base_frame: str) -> msg.ActionChunk:
    """A chunk as published on /vla/action_chunk; the caller fills `output_published`."""
    message = msg.ActionChunk(
        sequence=chunk.sequence,
        source=int(chunk.source),
        kind=int(chunk.kind),
        composition=int(chunk.composition),
        period=chunk.period,
    )
    message.header.stamp = to_time(chunk.stamp)
    message.header.frame_id = base_frame
    message.gripper_width = doubles(chunk.gripper_width)
    if chunk.translation is not None and chunk.quaternion is not None:
        message.poses = [pose_message(p, q) for p, q in zip(chunk.translation, chunk.quaternion, strict=True)]
    if chunk.joints is not None:
        message.joint_count = int(chunk.joints.shape[1])
        message.joint_positions = doubles(chunk.joints)
    return message


def to_action_chunk(message: msg.ActionChunk) -> ActionChunk:
    """A received chunk.  Raises `ActionError` when it is malformed or too long.

    Values are judged by the controller.
    """
    steps = len(message.gripper_width)
    name = f"Action chunk {message.sequence}"
    excessive = excess(max(steps, len(message.poses)), float(message.period))
    if excessive:
        raise ActionError(f"{name} {excessive}.")
    try:
        kind, composition = ActionKind(message.kind), Composition(message.composition)
    except ValueError as error:
        raise ActionError(f"{name} has kind {message.kind} and composition {message.composition}.") from error
    translation = quaternion = joints = None
    if kind is ActionKind.JOINT_POSITION:
        count = int(message.joint_count)
        if count > MAX_DIMENSION:
            raise ActionError(f"{name} has {count} joints, allowed are {MAX_DIMENSION}.")
        if count * steps != len(message.joint_positions):
            raise ActionError(
                f"{name} has {len(message.joint_positions)} joint positions, "
                f"but {steps} steps of {count} joints need {count * steps}."
            )
        joints = np.array(message.joint_positions, dtype=float).reshape(steps, count)
    else:
        if len(message.poses) != steps:
            raise ActionError(f"{name} has {len(message.poses)} poses but {steps} gripper widths.")
        poses = [to_pose(pose) for pose in message.poses]
        translation = np.array([p.position for p in poses]).reshape(steps, 3)
        quaternion = np.array([p.quaternion for p in poses]).reshape(steps, 4)
    return ActionChunk(
        stamp=to_stamp(message.header.stamp),
        sequence=int(message.sequence),
        kind=kind,
        period=float(message.period),
        gripper_width=np.array(message.gripper_width, dtype=float),
        translation=translation,
        quaternion=quaternion,
        joints=joints,
        composition=composition,
        frame=plain(message.header.frame_id, MAX_NAME),
        source=_source(message.source, name),
    )


def _source(number: int, name: str) -> Source:
    try:
        return Source(number)
    except ValueError as error:
        raise ActionError(f"{name} has source {number}, known are 0 (policy) and 1 (person).") from error


def action_prefix_message(
    prefix: ActionPrefix, stamp: int, delay: float, base_frame: str
) -> msg.ActionPrefix:
    """What is upcoming, counted from `stamp` [ns]; `delay`: see msg/ActionPrefix.msg [s]."""
    message = msg.ActionPrefix(kind=int(prefix.kind), delay=float(delay))
    message.header.stamp = to_time(stamp)
    message.header.frame_id = base_frame
    message.after = doubles(prefix.after)
    message.gripper_width = doubles(prefix.gripper_width)
    if prefix.kind is ActionKind.JOINT_POSITION:
        message.joint_count = int(prefix.targets.shape[1])
        message.joint_positions = doubles(prefix.targets)
    else:
        message.poses = [pose_message(target[:3], target[3:]) for target in prefix.targets]
    return message


def to_action_prefix(message: msg.ActionPrefix, stamp: int) -> ActionPrefix | None:
    """The steps that stay whatever is answered to an observation of `stamp` [ns]: those due within the delay.

    None: none is.  Raises `ActionError` when the message is malformed.
    """
    steps, kind = len(message.after), int(message.kind)
    if steps > 2 * MAX_STEPS:  # what is left of a chunk, and what was due before
        raise ActionError(f"An action prefix has {steps} steps, allowed are {2 * MAX_STEPS}.")
    if kind == ActionKind.JOINT_POSITION:
        wide = int(message.joint_count)
        given = len(message.joint_positions)
    elif kind == ActionKind.CARTESIAN_ABSOLUTE:
        wide = 7
        given = 7 * len(message.poses)
    else:
        raise ActionError(f"An action prefix has kind {kind}, but its targets are absolute or joints.")
    if given != steps * wide or len(message.gripper_width) != steps:
        raise ActionError(
            f"An action prefix of {steps} steps has {given // max(wide, 1)} targets "
            f"and {len(message.gripper_width)} gripper widths."
        )
    after = np.array(message.after, dtype=float) + (to_stamp(message.header.stamp) - stamp) / NANOSECONDS
    stays = (after > 0.0) & (after <= message.delay)
    if not stays.any():
        return None
    if kind == ActionKind.JOINT_POSITION:
        targets = np.array(message.joint_positions, dtype=float).reshape(steps, wide)
    else:
        poses = [to_pose(pose) for pose in message.poses]
        targets = np.array([np.concatenate([pose.position, pose.quaternion]) for pose in poses])
    widths = np.array(message.gripper_width, dtype=float)
    return ActionPrefix(ActionKind(kind), after[stays], targets[stays], widths[stays])
