"""Action semantics: tokens, normalisation, rotations, spaces, decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_ros.actions import action_space_names, decode, get_action_space, rotations
from vla_ros.actions.normalization import ActionStatistics, NormalizationKind, normalize, unnormalize
from vla_ros.actions.tokens import TokenCodec
from vla_ros.errors import ActionError, ContractError
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import ActionKind, PolicyOutput

GRIPPER = GripperSpec(0.08, 0.0, 0.1, 40.0, (), np.zeros(2), np.full(2, 0.04), ())
vectors = arrays(float, (3,), elements=st.floats(-3.0, 3.0))
actions = arrays(float, (4, 7), elements=st.floats(-2.0, 2.0))


@given(vectors)
def test_exp_and_log_agree_with_scipy(vector):
    q = rotations.exp(vector)
    np.testing.assert_allclose(rotations.to_matrix(q), Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(
        rotations.to_matrix(rotations.exp(rotations.log(q))), rotations.to_matrix(q), atol=1e-12
    )


@given(vectors, vectors, vectors)
def test_products_eulers_and_rotating_agree_with_scipy(a, b, v):
    qa, qb = rotations.exp(a), rotations.exp(b)
    ra, rb = Rotation.from_rotvec(a), Rotation.from_rotvec(b)
    np.testing.assert_allclose(
        rotations.to_matrix(rotations.multiply(qa, qb)), (ra * rb).as_matrix(), atol=1e-12
    )
    np.testing.assert_allclose(rotations.rotate(qa, v), ra.apply(v), atol=1e-11)
    np.testing.assert_allclose(
        rotations.to_matrix(rotations.from_euler_xyz(a)),
        Rotation.from_euler("xyz", a).as_matrix(),
        atol=1e-12,
    )
    np.testing.assert_allclose(rotations.angle_between(qa, qb), (ra.inv() * rb).magnitude(), atol=1e-7)
    again = rotations.from_euler_xyz(rotations.to_euler_xyz(qa))
    np.testing.assert_allclose(rotations.to_matrix(again), ra.as_matrix(), atol=1e-7)


@given(vectors)
def test_matrix_to_quaternion_round_trip(vector):
    matrix = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(rotations.to_matrix(rotations.from_matrix(matrix)), matrix, atol=1e-12)


def test_token_codec_ends_and_shared_last_bin():
    codec = TokenCodec()
    assert codec.encode([-1.0, 1.0]).tolist() == [31999, 31744]
    np.testing.assert_array_equal(codec.decode([31744]), codec.decode([31745]))


@given(arrays(float, (5,), elements=st.floats(-1.0, 1.0)))
def test_token_round_trip_is_within_half_a_bin(values):
    codec = TokenCodec()
    assert np.abs(codec.decode(codec.encode(values)) - values).max() <= 1.0 / 255 + 1e-12


@pytest.mark.parametrize("token", [0, 31743, 32000])
def test_tokens_that_are_no_action_are_refused(token):
    with pytest.raises(ActionError, match="not an action token"):
        TokenCodec().decode([token])


@given(arrays(float, (3, 2), elements=st.floats(-0.99, 0.99)), st.sampled_from(list(NormalizationKind)))
def test_normalisation_round_trip(values, kind):
    statistics = ActionStatistics.from_mapping(
        {"q01": [-0.1, 0.0], "q99": [0.3, 2.0], "mean": [0.1, 1.0], "std": [0.2, 3.0], "mask": [True, False]}
    )
    physical = unnormalize(values, kind, statistics)
    np.testing.assert_allclose(normalize(physical, kind, statistics), values, atol=1e-6)
    np.testing.assert_array_equal(physical[:, 1], values[:, 1])


def test_statistics_without_numbers_are_refused():
    with pytest.raises(ActionError, match="neither q01/q99 nor mean/std"):
        ActionStatistics.from_mapping({}, "kitchen")
    with pytest.raises(ActionError, match="7 finite numbers"):
        ActionStatistics.from_mapping({"q01": [0.0] * 7, "q99": [float("nan")] * 7}, "kitchen")


def _output(values, space="bridge", **kwargs):
    return PolicyOutput(5, 2, space, values=np.asarray(values, dtype=float), **kwargs)


@given(actions)
def test_bridge_decodes_to_clipped_base_frame_deltas(values):
    chunk = decode(_output(values), get_action_space("bridge"), GRIPPER)
    assert chunk.kind is ActionKind.CARTESIAN_DELTA
    assert chunk.period == pytest.approx(0.2)
    np.testing.assert_allclose(chunk.translation, np.clip(values[:, :3], -0.05, 0.05))
    expected = Rotation.from_euler("xyz", np.clip(values[:, 3:6], -0.25, 0.25)).as_matrix()
    np.testing.assert_allclose(rotations.to_matrix(chunk.quaternion), expected, atol=1e-12)
    assert set(np.round(chunk.gripper_width, 9)) <= {0.0, 0.08}


def test_droid_scales_velocity_and_inverts_the_gripper():
    chunk = decode(_output([[1, -1, 0.5, 0, 0, 2, 1], [0] * 7], "droid"), get_action_space("droid"), GRIPPER)
    np.testing.assert_allclose(chunk.translation[0], [0.075, -0.075, 0.0375])
    np.testing.assert_allclose(rotations.log(chunk.quaternion[0]), [0, 0, 0.15], atol=1e-12)
    np.testing.assert_allclose(chunk.gripper_width, [0.0, 0.08])


def test_relative_gripper_keeps_its_state_between_commands():
    values = np.zeros((5, 7))
    values[:, 6] = [0.0, 1.0, 0.1, -1.0, 0.0]
    chunk = decode(_output(values, "fractal"), get_action_space("fractal"), GRIPPER)
    np.testing.assert_allclose(chunk.gripper_width, [0.08, 0.0, 0.0, 0.08, 0.08])


def test_joint_positions_pass_through():
    space = get_action_space("joint_position", dof=6)
    values = np.arange(14, dtype=float).reshape(2, 7) / 10
    chunk = decode(_output(values, "joint_position"), space, GRIPPER)
    np.testing.assert_array_equal(chunk.joints, values[:, :6])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((2, 6)), "needs"),
        (np.zeros((0, 7)), "needs"),
        (np.full((1, 7), np.nan), "every value must be finite"),
        (np.full((1, 7), np.inf), "every value must be finite"),
    ],
)
def test_bad_outputs_are_refused_in_a_sentence(values, sentence):
    with pytest.raises(ActionError, match=sentence):
        decode(_output(values), get_action_space("bridge"), GRIPPER)


def test_another_action_space_and_missing_statistics_are_refused():
    with pytest.raises(ActionError, match="contract says 'bridge'"):
        decode(_output(np.zeros((1, 7)), "droid"), get_action_space("bridge"), GRIPPER)
    with pytest.raises(ActionError, match="states no normalisation"):
        decode(_output(np.zeros((1, 7)), normalization_key="kitchen"), get_action_space("bridge"), GRIPPER)
    with pytest.raises(ActionError, match="neither"):
        decode(PolicyOutput(0, 0, "bridge"), get_action_space("bridge"), GRIPPER)
    with pytest.raises(ContractError, match="known are delta_tcp"):
        get_action_space("bridgee")
    assert {"bridge", "droid", "joint_position"} <= set(action_space_names())
