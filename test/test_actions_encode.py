"""Encoding is the inverse of decoding, for every action space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.actions import action_space_names, decode, get_action_space, rotations
from vla_ros.actions.encode import encode
from vla_ros.actions.gripper import GripperState
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ActionError
from vla_ros.robots import load_robot
from vla_ros.types import ActionChunk, ActionKind, PolicyOutput, Pose

GRIPPER = load_robot("panda").gripper
SPACES = [get_action_space(name, dof=7) for name in action_space_names()]
DELTAS = [space for space in SPACES if space.kind is ActionKind.CARTESIAN_DELTA]
NUMBER = st.floats(-1.0, 1.0, allow_nan=False)
VECTOR = st.lists(NUMBER, min_size=3, max_size=3).map(np.array)
WIDTH = st.floats(GRIPPER.min_width, GRIPPER.max_width)
ANY_SPACE = pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
ANY_DELTA = pytest.mark.parametrize("space", DELTAS, ids=lambda s: s.name)


def decoded(space: ActionSpace, row: np.ndarray, before: GripperState | None = None) -> ActionChunk:
    return decode(PolicyOutput(0, 1, space.name, row[None]), space, GRIPPER, before=before)


def wanted_width(space: ActionSpace, width: float) -> float:
    if not (space.gripper.binarize or space.gripper.relative):
        return width
    middle = 0.5 * (GRIPPER.min_width + GRIPPER.max_width)
    return GRIPPER.max_width if width > middle else GRIPPER.min_width


@ANY_DELTA
@given(moved=VECTOR, turned=VECTOR, width=WIDTH)
def test_a_step_within_the_clips_comes_back(
    space: ActionSpace, moved: np.ndarray, turned: np.ndarray, width: float
) -> None:
    moved = moved * 0.99 * space.step_translation
    turned = turned * 0.5 * space.step_rotation
    row = encode(space, GRIPPER, width, translation=moved, rotation=turned)
    assert row.shape == (space.dimension,) and (row == row.astype(np.float32)).all()
    chunk = decoded(space, row)
    np.testing.assert_allclose(chunk.translation[0], moved, atol=1e-8)
    assert rotations.angle_between(chunk.quaternion[0], rotations.exp(turned)) < 1e-6
    assert chunk.gripper_width[0] == pytest.approx(wanted_width(space, width), abs=1e-8)


@ANY_DELTA
@given(moved=VECTOR, turned=VECTOR)
def test_a_step_beyond_the_clips_is_cut_and_never_said_beyond_them(
    space: ActionSpace, moved: np.ndarray, turned: np.ndarray
) -> None:
    row = encode(space, GRIPPER, 0.0, translation=2.0 * moved, rotation=turned)
    assert (np.abs(row[:3] * space.translation_scale) <= space.step_translation).all()
    assert (np.abs(row[3:6] * space.rotation_scale) <= space.step_rotation).all()
    if space.unit_clip is not None:
        assert (np.abs(row[:6]) <= space.unit_clip).all()
    expected = np.clip(2.0 * moved, -space.step_translation, space.step_translation)
    np.testing.assert_allclose(decoded(space, row).translation[0], expected, atol=1e-8)


@ANY_DELTA
@given(moved=VECTOR, turned=VECTOR, start=VECTOR, turn=VECTOR)
def test_from_one_pose_to_another(
    space: ActionSpace, moved: np.ndarray, turned: np.ndarray, start: np.ndarray, turn: np.ndarray
) -> None:
    base = Pose(start, rotations.exp(3.0 * turn))
    rotation = rotations.exp(0.5 * space.step_rotation * turned)
    pose = Pose(
        start + 0.9 * space.step_translation * moved,
        rotations.multiply(rotation, base.quaternion),
    )
    chunk = decoded(space, encode(space, GRIPPER, 0.0, pose=pose, base=base))
    np.testing.assert_allclose(base.position + chunk.translation[0], pose.position, atol=1e-7)
    reached = rotations.multiply(chunk.quaternion[0], base.quaternion)
    assert rotations.angle_between(reached, pose.quaternion) < 1e-6


@given(position=VECTOR, turn=VECTOR, width=WIDTH)
def test_an_absolute_pose_comes_back(position: np.ndarray, turn: np.ndarray, width: float) -> None:
    space = get_action_space("absolute_tcp")
    pose = Pose(position, rotations.exp(3.0 * turn))
    chunk = decoded(space, encode(space, GRIPPER, width, pose=pose))
    np.testing.assert_allclose(chunk.translation[0], position, atol=1e-7)
    assert rotations.angle_between(chunk.quaternion[0], pose.quaternion) < 1e-4
    assert chunk.gripper_width[0] == pytest.approx(width, abs=1e-8)


@given(joints=st.lists(st.floats(-3.0, 3.0), min_size=7, max_size=7), width=WIDTH)
def test_joints_come_back(joints: list[float], width: float) -> None:
    space = get_action_space("joint_position", dof=7)
    chunk = decoded(space, encode(space, GRIPPER, width, joints=joints))
    np.testing.assert_allclose(chunk.joints[0], joints, atol=1e-6)
    assert chunk.gripper_width[0] == pytest.approx(width, abs=1e-8)


@pytest.mark.parametrize("before", [GRIPPER.min_width, GRIPPER.max_width])
@pytest.mark.parametrize("width", [GRIPPER.min_width, GRIPPER.max_width])
@pytest.mark.parametrize("name", ["fractal", "fractal_sticky"])
def test_a_relative_gripper_is_told_of_changes_alone(name: str, width: float, before: float) -> None:
    space = get_action_space(name)
    state = GripperState(before)
    row = encode(space, GRIPPER, width, translation=np.zeros(3), before=state)
    assert (row[-1] == 0.0) == (width == before)
    assert decoded(space, row, state).gripper_width[0] == pytest.approx(width)
    # without memory the wish is said at every step
    row = encode(space, GRIPPER, width, translation=np.zeros(3))
    assert decoded(space, row, state).gripper_width[0] == pytest.approx(width)


def test_a_clip_that_float32_would_overshoot() -> None:
    space = replace(get_action_space("delta_tcp"), step_translation=0.05)
    assert float(np.float32(0.05)) > 0.05
    row = encode(space, GRIPPER, 0.0, translation=[0.05, -0.05, 1.0])
    assert (np.abs(row[:3]) <= 0.05).all() and (np.abs(row[:3]) > 0.0499999).all()


@ANY_SPACE
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(space: ActionSpace, bad: float) -> None:
    good = {
        ActionKind.JOINT_POSITION: {"joints": np.zeros(7)},
        ActionKind.CARTESIAN_DELTA: {"translation": np.zeros(3)},
        ActionKind.CARTESIAN_ABSOLUTE: {"pose": Pose(np.zeros(3), rotations.IDENTITY)},
    }[space.kind]
    with pytest.raises(ActionError, match="finite"):
        encode(space, GRIPPER, bad, **good)
    spoilt = {
        ActionKind.JOINT_POSITION: {"joints": np.full(7, bad)},
        ActionKind.CARTESIAN_DELTA: {"translation": np.full(3, bad)},
        ActionKind.CARTESIAN_ABSOLUTE: {"pose": Pose(np.full(3, bad), rotations.IDENTITY)},
    }[space.kind]
    with pytest.raises(ActionError, match="finite"):
        encode(space, GRIPPER, 0.0, **spoilt)
    with pytest.raises(ActionError, match="needs"):
        encode(space, GRIPPER, 0.0)
