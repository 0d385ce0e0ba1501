"""Driven against recorded paths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_run import START, motion, write_fake_run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.data.episode import Episode
from vla_ros.data.rlds import read_rlds
from vla_ros.errors import DataError
from vla_ros.evaluation.replay_compare import (
    PosePath,
    actions_path,
    compare_episode,
    compare_trajectory,
    driven_path,
    recorded_path,
    summary,
)
from vla_ros.evaluation.run_data import InterventionEvent, load_run
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import InterventionAction

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"
WIDOWX = load_robot("widowx")


def random_path(seed: int, count: int = 10) -> PosePath:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (count, 3)), axis=0))
    return PosePath(
        0.2 * np.arange(count), np.cumsum(rng.normal(0, 0.01, (count, 3)), axis=0), turns.as_quat()
    )


def test_recorded_orientation_is_that_of_the_tool() -> None:
    # identity in the data is a tool that points down: its x axis along -z of the base
    path = recorded_path(np.zeros((2, 7)), WIDOWX.state_rotation)
    tool = Rotation.from_quat(path.quaternions[0]).as_matrix()
    np.testing.assert_allclose(tool[:, 0], [0, 0, -1], atol=1e-12)
    states = np.array([[0, 0, 0, 0.3, -0.2, 0.5, 1]] * 2)
    tool = Rotation.from_quat(recorded_path(states, WIDOWX.state_rotation).quaternions[0]).as_matrix()
    wanted = Rotation.from_euler("xyz", [0.3, -0.2, 0.5]).as_matrix()
    np.testing.assert_allclose(tool @ WIDOWX.state_rotation, wanted, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.05), st.floats(0.01, 0.5))
@settings(max_examples=40, deadline=None)
def test_known_offsets_are_measured(seed: int, shift: float, turn: float) -> None:
    recorded = random_path(seed)
    axis = np.array([0.6, 0.0, 0.8])
    driven = PosePath(
        recorded.times,
        recorded.positions + shift * axis,
        (Rotation.from_rotvec(turn * axis) * Rotation.from_quat(recorded.quaternions)).as_quat(),
    )
    found = compare_trajectory("x", recorded, recorded, driven)
    assert found.position_error_m == pytest.approx(shift, abs=1e-12)
    assert found.path_rms_m == pytest.approx(shift, abs=1e-12)
    assert found.rotation_error_rad == pytest.approx(turn, abs=1e-9)
    assert found.actions_position_error_m == 0.0 and found.following_error_m == pytest.approx(shift)


def test_paths_are_interpolated_between_samples() -> None:
    path = PosePath(
        np.array([0.0, 1.0]), np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0, 1], [0, 0, 1, 0]])
    )
    middle = path.at(np.array([-1.0, 0.5, 2.0]))
    np.testing.assert_allclose(middle.positions[:, 0], [0, 0.5, 1])
    np.testing.assert_allclose(np.abs(middle.quaternions[1]), [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)


def test_actions_are_composed_on_the_last_target_from_the_left() -> None:
    start = random_path(3)
    actions = np.random.default_rng(4).normal(0, 0.05, (9, 7))
    path = actions_path(start, actions)
    np.testing.assert_allclose(path.positions[-1], start.positions[0] + actions[:, :3].sum(axis=0))
    turn = Rotation.from_quat(start.quaternions[0])
    for action in actions:
        turn = Rotation.from_euler("xyz", action[3:6]) * turn
    assert (Rotation.from_quat(path.quaternions[-1]).inv() * turn).magnitude() < 1e-9


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no BridgeData V2 sample here")
def test_real_actions_lead_to_the_real_states() -> None:
    found = []
    for episode in read_rlds(SAMPLE):
        recorded = recorded_path(episode.states, WIDOWX.state_rotation)
        actions = actions_path(recorded, episode.actions)
        found.append(compare_trajectory(episode.source, recorded, actions, actions))
    result = summary(found)
    assert result["trajectories"] == 25 and len(result["list"]) == 25
    # a wrong axis, side or rotation convention gives several times as much
    assert result["median_position_error_m"] < 0.015 and result["median_rotation_error_rad"] < 0.05
    assert "the robot followed them" in result["list"][0]["cause"]
    json.dumps(result)


def test_causes_are_named() -> None:
    recorded = random_path(1)
    driven = PosePath(recorded.times, recorded.positions + 0.03, recorded.quaternions)
    limit = InterventionEvent(0, InterventionAction.LIMIT, "joint_velocity", "elbow", 1.0)
    refused = InterventionEvent(0, InterventionAction.REJECT, "stale_chunk", "chunk", 1.0)
    found = compare_trajectory("x", recorded, recorded, driven, [limit, limit, refused])
    assert "limit joint_velocity elbow (2 reports)" in found.cause and "reject" not in found.cause
    assert found.interventions == {"LIMIT joint_velocity elbow": 2, "REJECT stale_chunk chunk": 1}
    assert "without any intervention" in compare_trajectory("x", recorded, recorded, driven).cause


def test_a_run_is_compared_with_an_episode(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "bag", WIDOWX, 3.0, images=False), WIDOWX)
    q = motion(WIDOWX, 3.0)
    driven = driven_path(run, WIDOWX, START)
    kinematics = Kinematics(WIDOWX)
    position, rotation = kinematics.placement(q[145] + 1e-4)
    np.testing.assert_allclose(driven.at(np.array([1.5])).positions[0], position, atol=1e-9)
    # an episode made of the driven states themselves, 5 samples late by construction
    states = []
    for k in range(10):
        position, rotation = kinematics.placement(q[max(20 * k - 5, 0)] + 1e-4)
        angles = Rotation.from_matrix(rotation @ WIDOWX.state_rotation).as_euler("xyz")
        states.append([*position, *angles, 1.0])
    flags = np.zeros(10, bool)
    actions = np.diff(np.array(states), axis=0, append=[states[-1]])
    episode = Episode("e", actions, np.array(states), flags, flags, flags, ("",) * 10, {})
    found = compare_episode(run, WIDOWX, episode, START)
    assert found.position_error_m < 1e-9 and found.rotation_error_rad < 1e-7 and found.path_rms_m < 1e-9
    with pytest.raises(DataError, match="does not cover"):
        compare_episode(run, WIDOWX, episode, START + 10**11)
    with pytest.raises(DataError, match="shape"):
        recorded_path(np.zeros((1, 7)), WIDOWX.state_rotation)


def test_an_empty_result_has_no_medians() -> None:
    assert summary([])["median_position_error_m"] is None
