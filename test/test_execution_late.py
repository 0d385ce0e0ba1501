"""Chunks whose steps were all due before they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_execution import ORIGIN, SPEC, delta_chunk

from vla_ros.actions import rotations
from vla_ros.execution.blending import make_blending
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.execution.late import deferred
from vla_ros.execution.targets import JOINTS, POSES, Path
from vla_ros.types import ActionChunk, ActionKind, Pose, Source

TICK = 0.01
seeds = st.integers(0, 2**32 - 1)
numbers = iter(range(1, 10**9))


def poses(points: np.ndarray) -> np.ndarray:
    return np.hstack([points, np.tile(rotations.IDENTITY, (len(points), 1))])


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_deferred_path_begins_now_and_ends_at_the_last_target(seed):
    random = np.random.default_rng(seed)
    steps, space = int(random.integers(1, 20)), random.choice([0, 1])
    period, now = float(random.uniform(0.02, 0.5)), float(random.uniform(0.0, 9.0))
    walk = np.cumsum(random.normal(size=(steps + 1, 3)) * 0.03, axis=0)
    points = poses(walk) if space else walk
    meant = Path(np.arange(steps + 1) * period, points, POSES if space else JOINTS)
    here = points[0] if random.random() < 0.5 else meant.points_at(random.uniform(0, meant.end, 1))[0]
    seconds = float(random.uniform(steps * period, 5.0 + steps * period))
    late = deferred(meant, now, here, seconds)
    assert late.path.times[0] == now and now < late.path.end <= now + seconds + 1e-9
    np.testing.assert_allclose(np.diff(late.path.times), late.spacing, rtol=1e-9)
    np.testing.assert_allclose(late.path.points[-1], points[-1], atol=1e-12)
    assert late.begins.shape == (steps,) and (np.diff(late.begins) > 0).all()
    if np.array_equal(here, points[0]):
        np.testing.assert_allclose(late.path.points[0], points[0], atol=1e-12)
        assert late.begins[0] == now and late.path.end == pytest.approx(now + seconds)


def test_what_was_done_since_the_stamp_is_not_done_twice():
    meant = Path(np.arange(5) * 0.2, poses(np.outer(np.arange(5), [0.01, 0.0, 0.0])), POSES)
    late = deferred(meant, 3.0, poses(np.array([[0.02, 0.001, 0.0]]))[0], 2.0)
    assert late.path.points[0, 0] == pytest.approx(0.02) and late.path.end == pytest.approx(4.0)
    np.testing.assert_allclose(late.begins, [2.0, 2.5, 3.0, 3.5])


def test_a_path_that_comes_back_is_entered_on_the_way_out():
    there_and_back = np.outer([0.0, 1.0, 2.0, 1.0, 0.0], [0.0, 0.0, -0.02])
    meant = Path(np.arange(5) * 0.2, poses(there_and_back), POSES)
    late = deferred(meant, 3.0, poses(np.array([[0.0, 0.0, -0.02]]))[0], 2.0)
    assert late.begins[1] == pytest.approx(3.0)
    assert late.path.points[:, 2].min() == pytest.approx(-0.04, abs=5e-3)


class Follower:
    """An executor whose robot follows the reference perfectly."""

    def __init__(self, blending: str = "replace") -> None:
        self.executor = ChunkExecutor(SPEC, ORIGIN, blending=make_blending(blending))
        self.time, self.trace = 0.0, []
        self.run(0.1)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.time += TICK
            self.executor.record(self.time, self.executor.targets.at(self.time))
            self.trace.append(self.x)

    @property
    def x(self) -> float:
        return float(self.executor.sample(self.time).pose.position[0])

    def answer(self, step: float, age: float, period: float = 0.2, **changes: object) -> None:
        chunk = delta_chunk([[step, 0, 0]], period=period, stamp=next(numbers), **changes)
        self.executor.submit(chunk, self.time, self.time - age)


@pytest.mark.parametrize("blending", ["replace", "temporal_ensemble", "rtc"])
@pytest.mark.parametrize("age", [0.12, 0.15, 0.2, 0.35, 0.5, 1.0])
def test_one_late_step_is_carried_out_whole_at_no_more_than_its_own_pace(age, blending):
    robot = Follower(blending)
    robot.run(1.0)
    robot.answer(0.02, age)
    robot.run(age + 1.5)
    assert robot.x == pytest.approx(0.02, abs=1e-6)
    speed = np.diff(robot.trace).max() / TICK
    assert speed <= 2.0 * 0.02 / 0.2  # from rest to rest a curve's peak is twice its mean
    assert 0.0 < robot.executor.pace <= 1.0


@pytest.mark.parametrize("blending", ["replace", "temporal_ensemble", "rtc"])
@pytest.mark.parametrize(("period", "age"), [(0.1, 0.2), (0.2, 0.35), (0.2, 0.5), (1 / 3, 0.35), (0.1, 0.5)])
def test_answers_that_follow_each_other_move_steadily_and_count_nothing_twice(period, age, blending):
    """The policy begins an answer when it has given one, and asks for a step from where it saw the robot."""
    robot, step = Follower(blending), 0.05 * period
    seen = [robot.time]
    ends = []
    for _ in range(14):
        robot.run(age)
        robot.answer(step, robot.time - seen[-1], period)
        seen.append(robot.time)
        ends.append(robot.x)
    speeds = np.diff(robot.trace[round((4 * age) / TICK) :]) / TICK
    steady = step / (2.0 * age)
    assert speeds.min() > 0.25 * steady, "it rests between answers"
    assert np.mean(speeds) <= 1.02 * steady, "more than what was asked for from what was seen"
    assert np.mean(speeds) >= 0.8 * steady
    assert "too slow for" in robot.executor.slowness and robot.executor.pace < 0.9
    robot.run(3.0)
    assert robot.x <= ends[-1] + 2.0 * step


def test_a_late_absolute_target_is_reached_at_the_same_pace():
    robot = Follower()
    robot.run(1.0)
    chunk = ActionChunk(
        1, 1, ActionKind.CARTESIAN_ABSOLUTE, 0.2, np.array([0.04]), translation=np.array([[0.02, 0.0, 0.0]]),
        quaternion=rotations.IDENTITY[None],
    )  # fmt: skip
    robot.executor.submit(chunk, robot.time, robot.time - 0.5)
    robot.run(0.1)
    assert 0.0 < robot.x < 0.01
    robot.run(2.0)
    assert robot.x == pytest.approx(0.02, abs=1e-9) and robot.executor.gripper(robot.time) == 0.04


def test_late_joint_targets_move_too():
    executor = ChunkExecutor(SPEC, ORIGIN)
    goal = SPEC.home + 0.02
    for number, time in enumerate((1.0, 1.5, 2.0), start=1):
        chunk = ActionChunk(
            number, number, ActionKind.JOINT_POSITION, 0.1, np.array([0.04]), joints=goal[None]
        )
        executor.submit(chunk, time, time - 0.5)
    samples = np.array([executor.sample_joints(t).position for t in np.arange(2.0, 5.0, TICK)])
    np.testing.assert_allclose(samples[-1], goal, atol=1e-9)
    assert (samples <= goal + 5e-4).all() and (samples >= SPEC.home - 1e-9).all()


def test_a_late_persons_step_is_carried_out_too_and_a_person_in_time_is_not_slowed_down():
    robot = Follower()
    robot.run(1.0)
    for _ in range(6):
        robot.answer(0.01, 0.02, source=Source.PERSON)
        end = robot.executor.end_time
        assert end <= robot.time + 0.6
        robot.run(0.2)
    robot.run(1.0)
    assert robot.x == pytest.approx(0.06, abs=1e-6)
    robot.answer(0.01, 0.25, source=Source.PERSON)
    robot.run(1.5)
    assert robot.x == pytest.approx(0.07, abs=1e-6)


@given(seeds, st.sampled_from(["replace", "temporal_ensemble", "rtc"]))
@settings(max_examples=25, deadline=None)
def test_any_stream_of_single_steps_gives_a_continuous_reference(seed, blending):
    random = np.random.default_rng(seed)
    executor = ChunkExecutor(SPEC, ORIGIN, blending=make_blending(blending))
    time, last = 0.0, executor.sample(0.0)
    for number in range(1, 13):
        turn = rotations.exp(random.normal(size=(1, 3)) * 0.1)
        chunk = ActionChunk(
            number, number, ActionKind.CARTESIAN_DELTA, float(random.choice([0.1, 0.2, 1 / 3])),
            np.array([0.05]), translation=random.normal(size=(1, 3)) * 0.02, quaternion=turn,
        )  # fmt: skip
        if time > 0.0:
            executor.submit(chunk, time, time - float(random.uniform(0.0, 1.5)))
        for _ in range(int(random.integers(2, 60))):
            time += TICK
            now = executor.sample(time)
            executor.record(time, executor.targets.at(time))
            assert np.abs(now.pose.position - last.pose.position).max() < 0.03
            assert np.abs(now.twist - last.twist).max() < 0.6
            last = now
    assert executor.sample(executor.end_time + 1.0).twist == pytest.approx(np.zeros(6))


def test_a_late_delta_is_added_to_what_was_the_target_at_its_stamp():
    executor = ChunkExecutor(SPEC, ORIGIN)
    for time in np.arange(0.0, 1.0, TICK):
        executor.record(float(time), Pose(np.array([0.1 * time, 0.0, 0.0]), rotations.IDENTITY))
    executor.submit(delta_chunk([[0.2, 0, 0]]), 1.0, 0.3)
    assert executor.targets.at(9.0).position[0] == pytest.approx(0.03 + 0.2)
    assert executor.targets.at(1.0).position[0] == pytest.approx(0.1, abs=0.01)
