"""Messages to types and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("rclpy", reason="rclpy is not installed")

import cv2
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState as JointStateMessage

from vla_ros import msg
from vla_ros.errors import ActionError, ObservationError
from vla_ros.nodes import conversions as c
from vla_ros.nodes.images import CHANNELS, resized, rgb_of, rgb_of_compressed
from vla_ros.policies.base import ActionPrefix
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    CameraImage,
    Composition,
    JointState,
    Observation,
    PolicyOutput,
    Pose,
)

STAMPS = st.integers(0, (2**31 - 1) * 10**9)
FLOATS = st.floats(-1e6, 1e6)
PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def floats(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=FLOATS)


def through_the_wire(message: object) -> object:
    return deserialize_message(serialize_message(message), type(message))


@given(STAMPS)
def test_stamps_survive(stamp: int) -> None:
    assert c.to_stamp(c.to_time(stamp)) == stamp


@given(PIXELS, STAMPS)
def test_images_survive(rgb: np.ndarray, stamp: int) -> None:
    message = through_the_wire(c.image_message(CameraImage(stamp, rgb)))
    np.testing.assert_array_equal(rgb_of(message, "/t"), rgb)
    assert c.to_stamp(message.header.stamp) == stamp


@given(PIXELS, st.sampled_from(sorted(CHANNELS)), st.integers(0, 5))
def test_every_encoding_and_padded_rows(rgb: np.ndarray, encoding: str, padding: int) -> None:
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    pixels = {
        "rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., :1],
        "rgba8": np.concatenate([rgb, alpha], 2), "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2),
    }[encoding]  # fmt: skip
    height, width = rgb.shape[:2]
    rows = pixels.reshape(height, -1)
    rows = np.concatenate([rows, np.full((height, padding), 255, np.uint8)], axis=1)
    message = ImageMessage(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data = rows.tobytes()
    np.testing.assert_array_equal(rgb_of(message, "/t"), rgb)


@pytest.mark.parametrize(
    ("encoding", "size", "fragment"),
    [("32FC1", 12, "'32FC1', allowed are rgb8"), ("rgb8", 11, "11 bytes"), ("rgb8", 13, "need 12")],
)
def test_wrong_images_name_topic_given_and_allowed(encoding: str, size: int, fragment: str) -> None:
    message = ImageMessage(height=2, width=2, encoding=encoding, step=6)
    message.data = bytes(size)
    with pytest.raises(ObservationError, match="/camera/x") as caught:
        rgb_of(message, "/camera/x")
    assert fragment in str(caught.value)


@given(PIXELS)
def test_png_is_lossless(rgb: np.ndarray) -> None:
    _, data = cv2.imencode(".png", rgb[..., ::-1])
    message = CompressedImage(format="png", data=data.tobytes())
    np.testing.assert_array_equal(rgb_of_compressed(message, "/t"), rgb)


def test_jpeg_is_close_and_rubbish_is_refused() -> None:
    rgb = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    _, data = cv2.imencode(".jpg", rgb[..., ::-1])
    decoded = rgb_of_compressed(CompressedImage(format="jpeg", data=data.tobytes()), "/t")
    assert np.abs(decoded.astype(int) - rgb).max() < 6
    for rubbish in (b"", b"\xff\xd8\xff broken", b"GIF89a....", data.tobytes()[:20]):
        with pytest.raises(ObservationError, match="/t"):
            rgb_of_compressed(CompressedImage(format="jpeg", data=rubbish), "/t")


def test_resizing_averages() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    rgb = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    small = resized(rgb, 32, 16)
    assert small.shape == (16, 32, 3)
    assert np.abs(small.astype(int) - 127).max() <= 2
    assert resized(rgb, 64, 64) is rgb


@given(floats(3), floats(3), STAMPS, st.permutations(["a", "b", "c", "finger"]))
def test_joint_states_are_reordered_by_name(
    positions: np.ndarray, velocities: np.ndarray, stamp: int, order: list[str]
) -> None:
    values = dict(zip("abc", zip(positions, velocities, strict=True), strict=True)) | {"finger": (9.0, 9.0)}
    message = JointStateMessage(name=order)
    message.header.stamp = c.to_time(stamp)
    message.position = [float(values[name][0]) for name in order]
    message.velocity = [float(values[name][1]) for name in order]
    joints = c.to_joint_state(through_the_wire(message), ("a", "b", "c"), "/joint_states")
    np.testing.assert_array_equal(joints.positions, positions)
    np.testing.assert_array_equal(joints.velocities, velocities)
    assert joints.efforts.size == 0 and joints.stamp == stamp


@pytest.mark.parametrize(
    ("message", "fragment"),
    [
        (JointStateMessage(name=["x", "y"], position=[0.0, 0.0]), "a, b are needed"),
        (JointStateMessage(name=["a", "b"], position=[0.0]), "1 entries in position for 2 names"),
        (JointStateMessage(name=["a", "b"], position=[0.0, float("nan")]), "not a finite number"),
        (JointStateMessage(name=["a", "b"], position=[0.0, 0.0], velocity=[1.0]), "velocity"),
    ],
)
def test_wrong_joint_states_are_refused(message: JointStateMessage, fragment: str) -> None:
    with pytest.raises(ObservationError, match="/joint_states") as caught:
        c.to_joint_state(message, ("a", "b"), "/joint_states")
    assert fragment in str(caught.value)


@settings(max_examples=30)
@given(PIXELS, floats(4), floats(3), floats(4), st.floats(0, 0.1), STAMPS)
def test_observations_survive(
    rgb: np.ndarray,
    joints: np.ndarray,
    position: np.ndarray,
    quaternion: np.ndarray,
    width: float,
    stamp: int,
) -> None:
    names = ("j1", "j2", "j3", "j4")
    sent = Observation(
        stamp, 7, {"primary": CameraImage(stamp, rgb), "wrist": CameraImage(stamp + 5, rgb)},
        JointState(stamp, joints, joints, np.zeros(0)), width, Pose(position, quaternion),
    )  # fmt: skip
    wire = through_the_wire(c.observation_message(sent, names, "base"))
    got = c.to_observation(wire, "pick", "/vla/observation")
    assert (got.stamp, got.sequence, got.instruction, got.gripper_width) == (stamp, 7, "pick", width)
    assert list(got.images) == ["primary", "wrist"] and got.images["wrist"].stamp == stamp + 5
    np.testing.assert_array_equal(got.images["primary"].rgb, rgb)
    np.testing.assert_array_equal(got.joints.positions, joints)
    np.testing.assert_array_equal(got.tcp_pose.quaternion, quaternion)


def test_an_observation_without_its_image_is_refused() -> None:
    with pytest.raises(ObservationError, match="/vla/observation"):
        c.to_observation(msg.Observation(camera_names=["primary"]), "", "/vla/observation")


@given(st.integers(1, 5), st.integers(1, 8), st.booleans(), st.data())
def test_policy_outputs_survive(horizon: int, dimension: int, tokens: bool, data: st.DataObject) -> None:
    numbers = data.draw(hnp.arrays(np.int64, (horizon, dimension), elements=st.integers(0, 32000)))
    sent = PolicyOutput(
        123, 4, "bridge",
        values=None if tokens else numbers / 7, tokens=numbers if tokens else None,
        normalization_key="bridge_orig", latency={"model": 0.25}, terminate=True, text="done",
    )  # fmt: skip
    got = c.to_policy_output(through_the_wire(c.policy_output_message(sent, "p", "pick")))
    np.testing.assert_array_equal(
        got.tokens if tokens else got.values, sent.tokens if tokens else sent.values
    )
    assert (got.tokens is None) != tokens
    assert (got.stamp, got.sequence, got.latency, got.terminate) == (123, 4, {"model": 0.25}, True)


def test_values_are_kept_even_when_they_are_nan() -> None:
    sent = PolicyOutput(1, 1, "bridge", values=np.array([[np.nan, np.inf]]))
    got = c.to_policy_output(c.policy_output_message(sent, "p", ""))
    np.testing.assert_array_equal(got.values, sent.values)


def test_a_policy_output_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ActionError, match="5 values"):
        c.to_policy_output(msg.PolicyOutput(horizon=2, dimension=3, values=[0.0] * 5))


@given(st.integers(1, 6), st.sampled_from(ActionKind), st.sampled_from(Composition), st.data())
def test_chunks_survive(
    horizon: int, kind: ActionKind, composition: Composition, data: st.DataObject
) -> None:
    joints = kind is ActionKind.JOINT_POSITION
    sent = ActionChunk(
        5, 6, kind, 0.2, data.draw(floats(horizon)),
        translation=None if joints else data.draw(floats(horizon, 3)),
        quaternion=None if joints else data.draw(floats(horizon, 4)),
        joints=data.draw(floats(horizon, 7)) if joints else None,
        composition=composition,
    )  # fmt: skip
    got = c.to_action_chunk(through_the_wire(c.action_chunk_message(sent, "base")))
    assert (got.stamp, got.sequence, got.kind, got.period) == (5, 6, kind, 0.2)
    assert got.composition is composition
    for name in ("gripper_width", "translation", "quaternion", "joints"):
        wanted, value = getattr(sent, name), getattr(got, name)
        assert (value is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    "message",
    [
        msg.ActionChunk(kind=9),
        msg.ActionChunk(gripper_width=[0.1]),
        msg.ActionChunk(kind=2, gripper_width=[0.1], joint_count=7, joint_positions=[0.0] * 6),
    ],
)
def test_malformed_chunks_are_refused(message: msg.ActionChunk) -> None:
    with pytest.raises(ActionError, match="Action chunk 0"):
        c.to_action_chunk(message)


@given(
    st.sampled_from([ActionKind.CARTESIAN_ABSOLUTE, ActionKind.JOINT_POSITION]),
    st.integers(0, 8),
    st.integers(0, 10**18),
    st.integers(-(10**9), 10**9),
    st.floats(0.0, 1.0),
    st.data(),
)
@settings(deadline=None)
def test_of_a_prefix_stays_what_is_due_within_the_delay_after_the_observation(
    kind: ActionKind, steps: int, stamp: int, later: int, delay: float, data: st.DataObject
) -> None:
    """`later` [ns]: how much later than the observation the prefix was said."""
    stamp = max(stamp, 2 * 10**9)
    width = 6 if kind is ActionKind.JOINT_POSITION else 7
    gaps = hnp.arrays(np.float64, steps, elements=st.floats(1e-3, 0.3))
    said = ActionPrefix(
        kind, np.cumsum(data.draw(gaps)) - 0.5, data.draw(floats(steps, width)), data.draw(floats(steps))
    )
    message = through_the_wire(c.action_prefix_message(said, stamp + later, delay, "base"))
    assert message.header.frame_id == "base"
    found = c.to_action_prefix(message, stamp)
    due = said.after + later / NANOSECONDS
    stays = (due > 0.0) & (due <= delay)
    if not stays.any():
        assert found is None
        return
    assert found is not None and found.kind is kind
    np.testing.assert_allclose(found.after, due[stays], atol=1e-9)
    np.testing.assert_array_equal(found.targets, said.targets[stays])
    np.testing.assert_array_equal(found.gripper_width, said.gripper_width[stays])


def test_a_malformed_prefix_is_an_error_in_words() -> None:
    said = ActionPrefix(ActionKind.JOINT_POSITION, np.ones(2), np.zeros((2, 6)), np.zeros(2))
    for field, value, fragment in (
        ("joint_count", 5, "2 steps has 2 targets"),
        ("gripper_width", [0.0], "1 gripper widths"),
        ("after", [0.1], "1 steps has 2 targets"),
        ("kind", 0, "kind 0"),
        ("kind", 9, "kind 9"),
    ):
        message = c.action_prefix_message(said, 10**9, 0.2, "base")
        setattr(message, field, value)
        with pytest.raises(ActionError, match=fragment):
            c.to_action_prefix(message, 10**9)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"horizon": 257, "dimension": 7}, "horizon 257 x dimension 7, allowed are 256 x 64"),
        ({"horizon": 2**31, "dimension": 0}, "allowed are 256 x 64"),
        ({"horizon": 1, "dimension": 65}, "allowed are 256 x 64"),
        ({"stage_names": ["x"] * 1000}, "times 1000 stages, allowed are 64"),
    ],
)
def test_an_answer_beyond_the_bounds_is_refused_before_it_is_read(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ActionError, match=words):
        c.to_policy_output(msg.PolicyOutput(**fields))


@pytest.mark.parametrize(
    "steps, period, joints, words",
    [
        (257, 0.01, 0, "has 257 steps"),
        (101, 0.2, 0, "at most 256 steps that last 20 s"),
        (2, 0.1, 65, "65 joints"),
    ],
)
def test_a_chunk_beyond_the_bounds_is_refused_before_it_is_read(
    steps: int, period: float, joints: int, words: str
) -> None:
    message = msg.ActionChunk(period=period, gripper_width=[0.0] * steps, joint_count=joints)
    message.kind = int(ActionKind.JOINT_POSITION if joints else ActionKind.CARTESIAN_DELTA)
    with pytest.raises(ActionError, match=words):
        c.to_action_chunk(message)


def test_joint_states_of_more_joints_than_any_robot_has_are_refused() -> None:
    with pytest.raises(ObservationError, match="names 1000 joints, allowed are 64"):
        c.to_joint_state(JointStateMessage(name=["j"] * 1000), ("j",), "/joint_states")


def test_names_in_messages_lose_their_escape_sequences() -> None:
    message = msg.ActionChunk(period=0.1, gripper_width=[0.0])
    message.poses = [c.pose_message(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))]
    message.header.frame_id = "\x1b]0;mine\x07" + "x" * 1000
    frame = c.to_action_chunk(message).frame
    assert "\x1b" not in frame and "\x07" not in frame and len(frame) < 300
