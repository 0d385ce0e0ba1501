"""Recorded actions as policy output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import PolicyError
from vla_ros.policies.base import Policy
from vla_ros.policies.replay import ReplayPolicy, load_recording, make_replay
from vla_ros.robots import load_robot
from vla_ros.types import Array, JointState, Observation, Pose

ACTIONS = np.arange(70, dtype=float).reshape(10, 7)
START = 5_000_000_000


def at(seconds: float) -> Observation:
    joints = JointState(0, np.zeros(6), np.zeros(0), np.zeros(0))
    pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    return Observation(START + round(seconds * 1e9), 3, {}, joints, 0.05, pose)


def replay(**options: object) -> ReplayPolicy:
    policy = ReplayPolicy(ACTIONS, "bridge", 5.0, 4, **options)  # type: ignore[arg-type]
    policy.load()
    policy.reset("anything at all")
    return policy


def test_steps_follow_the_stamps_not_the_calls() -> None:
    policy = replay()
    for seconds, first in ((0.0, 0), (0.0, 0), (0.21, 1), (0.2, 1), (1.0, 5)):
        output = policy.infer(at(seconds))
        assert output.values is not None
        np.testing.assert_array_equal(output.values, ACTIONS[first : first + 4])
        assert output.stamp == START + round(seconds * 1e9)
        assert output.sequence == 3
        assert not output.terminate


@given(st.integers(0, 9), st.floats(-0.09, 0.09))
def test_jitter_of_less_than_half_a_step_changes_nothing(step: int, jitter: float) -> None:
    policy = replay()
    policy.infer(at(0.0))
    output = policy.infer(at(0.2 * step + jitter))
    assert output.values is not None
    np.testing.assert_array_equal(output.values[0], ACTIONS[step])


def test_ends_shorter_then_stays_and_terminates() -> None:
    policy = replay()
    policy.infer(at(0.0))
    last = policy.infer(at(1.8))
    assert last.values is not None and len(last.values) == 1
    assert not last.terminate
    after = policy.infer(at(2.0))
    assert after.terminate
    assert after.values is not None
    np.testing.assert_array_equal(after.values, [[0, 0, 0, 0, 0, 0, ACTIONS[-1, 6]]])


def test_absolute_targets_stay_at_the_last_one() -> None:
    policy = ReplayPolicy(ACTIONS, "absolute_tcp")
    policy.infer(at(0.0))
    after = policy.infer(at(60.0))
    assert after.terminate and after.values is not None
    np.testing.assert_array_equal(after.values, ACTIONS[-1:])


def test_reset_begins_again() -> None:
    policy = replay()
    policy.infer(at(0.0))
    policy.infer(at(1.0))
    policy.reset("")
    output = policy.infer(at(7.0))
    assert output.values is not None
    np.testing.assert_array_equal(output.values, ACTIONS[:4])


def test_answers_do_not_share_the_recording() -> None:
    policy = replay()
    first = policy.infer(at(0.0))
    assert first.values is not None
    first.values[:] = -1.0
    again = policy.infer(at(0.0))
    assert again.values is not None
    np.testing.assert_array_equal(again.values, ACTIONS[:4])


def test_from_an_episode() -> None:
    @dataclass(frozen=True)
    class Recorded:
        source: str
        actions: Array

    policy = ReplayPolicy.from_episode(Recorded("record 7", ACTIONS), "bridge")
    assert isinstance(policy, Policy)
    assert policy.steps == 10
    assert "record 7" in policy.infer(at(0.0)).text


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, actions=ACTIONS, action_space="bridge", rate=10.0)
    actions, space, rate = load_recording(path)
    np.testing.assert_array_equal(actions, ACTIONS)
    assert (space, rate) == ("bridge", 10.0)
    policy = make_replay(load_robot("widowx"), str(path))
    assert policy.requirements.action_space == "bridge"
    policy.infer(at(0.0))
    output = policy.infer(at(0.3))
    assert output.values is not None
    np.testing.assert_array_equal(output.values[0], ACTIONS[3])


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (np.zeros(7), r"shape \(7,\)"),
        (np.zeros((0, 7)), r"shape \(0, 7\)"),
        (np.array([[0.0] * 7, [np.nan] + [0.0] * 6]), "not finite at step 1"),
        ([["a"] * 7], "no numbers"),
    ],
)
def test_bad_actions_are_refused(actions: Array, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        ReplayPolicy(actions, "bridge")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    robot = load_robot("widowx")
    with pytest.raises(PolicyError, match="needs the option 'path'"):
        make_replay(robot)
    with pytest.raises(PolicyError, match="does not exist"):
        make_replay(robot, str(tmp_path / "none.npz"))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(PolicyError, match="is no recording"):
        make_replay(robot, str(text))
    other = tmp_path / "other.npz"
    np.savez(other, states=ACTIONS)
    with pytest.raises(PolicyError, match="no array 'actions', only states"):
        make_replay(robot, str(other))
    objects = tmp_path / "objects.npz"
    np.savez(objects, actions=np.array([{}], dtype=object))
    with pytest.raises(PolicyError, match="is no recording"):
        make_replay(robot, str(objects))
    bare = tmp_path / "bare.npy"
    np.save(bare, ACTIONS)
    with pytest.raises(PolicyError, match="is no recording"):
        make_replay(robot, str(bare))
    said = tmp_path / "said.npz"
    np.savez(said, actions=ACTIONS, action_space="bridge", rate=5.0)
    with pytest.raises(PolicyError, match="'bridge', but 'droid'"):
        make_replay(robot, str(said), action_space="droid")
    with pytest.raises(PolicyError, match="5 Hz, but 15 Hz"):
        make_replay(robot, str(said), rate=15.0)
    with pytest.raises(PolicyError, match="horizon is 0"):
        make_replay(robot, str(said), horizon=0)
    with pytest.raises(PolicyError, match="rate"):
        ReplayPolicy(ACTIONS, "bridge", rate=-1.0)
