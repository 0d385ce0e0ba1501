"""Action semantics: tokens, normalisation, rotations, spaces, decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_ros.actions import action_space_names, decode, get_action_space, rotations
from vla_ros.actions.normalization import (
    ActionStatistics,
    Normalization,
    NormalizationKind,
    normalize,
    unnormalize,
)
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
        {
            "q01": [-0.1, 0.0], "q99": [0.3, 2.0], "mean": [0.1, 1.0], "std": [0.2, 3.0],
            "min": [-0.5, -9.0], "max": [0.7, 9.0], "mask": [True, False],
        }
    )  # fmt: skip
    physical = unnormalize(values, kind, statistics)
    np.testing.assert_allclose(normalize(physical, kind, statistics), values, atol=1e-6)
    np.testing.assert_array_equal(physical[:, 1], values[:, 1])


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({}, "neither q01/q99 nor mean/std nor min/max"),
        ({"q01": [0.0], "std": [1.0]}, "neither"),
        ({"q01": [0.0] * 7, "q99": [float("nan")] * 7}, "q99 .* must be a list of finite numbers"),
        ({"q01": [0.0] * 7, "q99": [1.0] * 6}, "7 finite numbers each"),
        ({"q01": 3, "q99": [1.0]}, "q01 .* must be a list"),
        ({"q01": ["x"], "q99": [1.0]}, "q01 .* must be a list"),
        ({"q01": [[0.0]], "q99": [[1.0]]}, "q01 .* must be a list"),
        ({"mean": [10**400], "std": [1.0]}, "mean .* must be a list"),
        ({"q01": [0.0, 2.0], "q99": [1.0, 1.0]}, "q01 above q99 in dimension 1"),
        ({"min": [2.0], "max": [1.0]}, "min above max"),
        ({"mean": [0.0], "std": [-1.0]}, "negative std"),
        ({"mean": [0.0], "std": [1.0], "mask": [True, True]}, "1 times true or false"),
        ({"mean": [0.0], "std": [1.0], "mask": ["no"]}, "1 times true or false"),
        ([1.0], "must be a mapping"),
    ],
)
def test_statistics_that_are_none_are_refused_in_a_sentence(entry, sentence):
    with pytest.raises(ActionError, match=sentence) as caught:
        ActionStatistics.from_mapping(entry, "kitchen")
    assert "kitchen" in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_need_a_minimum_and_a_maximum():
    statistics = ActionStatistics.from_mapping({"mean": [0.0], "std": [1.0]}, "kitchen")
    with pytest.raises(ActionError, match="kitchen have no min and max"):
        unnormalize(np.zeros((1, 1)), NormalizationKind.BOUNDS, statistics)


def _normalization(kind, key="kitchen", size=7):
    low, high = np.arange(size) * 0.01 - 0.04, np.arange(size) * 0.01 + 0.01
    entry = {"q01": low, "q99": high, "min": low - 0.01, "max": high + 0.01, "mean": low + 0.02, "std": high}
    entry["std"] = np.full(size, 0.03)
    mask = [True] * (size - 1) + [False]
    return Normalization(key, kind, ActionStatistics.from_mapping({**entry, "mask": mask}, key))


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
    with pytest.raises(ActionError, match="neither"):
        decode(PolicyOutput(0, 0, "bridge"), get_action_space("bridge"), GRIPPER)
    with pytest.raises(ContractError, match="known are delta_tcp"):
        get_action_space("bridgee")
    assert {"bridge", "droid", "joint_position"} <= set(action_space_names())


@given(
    arrays(float, (3, 7), elements=st.floats(-1.0, 1.0)),
    st.sampled_from([kind for kind in NormalizationKind if kind is not NormalizationKind.NONE]),
)
def test_normalised_values_become_physical_by_what_the_policy_declares(values, kind):
    scaled, space = _normalization(kind), get_action_space("delta_tcp")
    chunk = decode(_output(values, "delta_tcp", normalization_key="kitchen"), space, GRIPPER, scaled)
    low, high = np.arange(7) * 0.01 - 0.04, np.arange(7) * 0.01 + 0.01
    if kind is NormalizationKind.NORMAL:
        expected = values * 0.03 + low + 0.02
    else:
        wide = 0.01 if kind is NormalizationKind.BOUNDS else 0.0
        expected = 0.5 * (values + 1.0) * (high - low + 2 * wide) + low - wide
    np.testing.assert_allclose(chunk.translation, np.clip(expected[:, :3], -0.05, 0.05), atol=1e-12)
    # the gripper's mask is False: it passes as it is
    np.testing.assert_allclose(chunk.gripper_width, 0.08 * np.clip(values[:, 6], 0.0, 1.0), atol=1e-12)


@given(arrays(float, (2, 7), elements=st.floats(-1.0, 1.0)))
def test_tokens_mean_what_their_values_mean_to_half_a_bin(values):
    scaled, codec = _normalization(NormalizationKind.BOUNDS_Q99), TokenCodec(500)
    output = PolicyOutput(5, 2, "delta_tcp", tokens=codec.encode(values), normalization_key="kitchen")
    space = get_action_space("delta_tcp")
    one = decode(output, space, GRIPPER, scaled, codec)
    two = decode(_output(values, "delta_tcp", normalization_key="kitchen"), space, GRIPPER, scaled)
    np.testing.assert_allclose(one.translation, two.translation, atol=0.5 * 0.05 / 255 + 1e-12)
    with pytest.raises(ActionError, match="declares no codec"):
        decode(output, space, GRIPPER, scaled)


def test_values_scaled_otherwise_than_declared_are_refused():
    space, scaled = get_action_space("delta_tcp"), _normalization(NormalizationKind.BOUNDS_Q99)
    zeros = np.zeros((1, 7))
    tokens = PolicyOutput(5, 2, "delta_tcp", tokens=np.full((1, 7), 31800))
    for output, declared, sentence in (
        (_output(zeros, "delta_tcp", normalization_key="kitchen"), None, "declares no normalisation"),
        (tokens, None, "tokens, but the policy declares no normalisation"),
        (_output(zeros, "delta_tcp", normalization_key="cellar"), scaled, "by 'cellar'.* declares 'kitchen'"),
        (_output(zeros, "delta_tcp"), scaled, "by no data set, but the policy declares 'kitchen'"),
        (
            _output(zeros, "delta_tcp", normalization_key="kitchen"),
            _normalization(NormalizationKind.NORMAL, size=8),
            "7 dimensions, but the statistics of kitchen have 8",
        ),
    ):
        with pytest.raises(ActionError, match=sentence):
            decode(output, space, GRIPPER, declared, TokenCodec())
