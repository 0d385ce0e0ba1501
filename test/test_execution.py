"""Chunk execution: continuity across chunks, alignment with the observation, gripper schedule."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline

from vla_ros.actions import rotations
from vla_ros.errors import ActionError
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.execution.history import History
from vla_ros.execution.reference import CartesianReference, JointReference
from vla_ros.execution.spline import CurveState, QuinticSpline
from vla_ros.execution.targets import TargetPath
from vla_ros.kernels.rotation import angular as angular_motion
from vla_ros.robots import load_robot
from vla_ros.robots.spec import TcpLimits, Workspace
from vla_ros.types import ActionChunk, ActionKind, Composition, Pose

seeds = st.integers(0, 2**32 - 1)
ORIGIN = Pose(np.zeros(3), rotations.IDENTITY)
EVERYWHERE = Workspace(np.full(3, -10.0), np.full(3, 10.0), -10.0)
UNHURRIED = TcpLimits(*[1e6] * 6)
SPEC = replace(load_robot("ur5"), workspace=EVERYWHERE, tcp=UNHURRIED)


def derivative(function, time, step=1e-5):
    return (function(time + step) - function(time - step)) / (2 * step)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_spline_starts_as_told_passes_its_waypoints_and_ends_at_rest(seed):
    random = np.random.default_rng(seed)
    start = CurveState(*random.normal(size=(3, 4)))
    times = 2.0 + np.cumsum(random.uniform(0.1, 0.4, 5))
    points = random.normal(size=(5, 4))
    curve = QuinticSpline(2.0, start, times, points)
    first, last = curve.sample(2.0), curve.sample(times[-1] + 1.0)
    for name in ("position", "velocity", "acceleration"):
        np.testing.assert_array_equal(getattr(first, name), getattr(start, name))
    for time, point in zip(times, points, strict=True):
        np.testing.assert_allclose(curve.sample(time).position, point, atol=1e-7)
        before, after = curve.sample(time - 1e-9), curve.sample(time + 1e-9)
        np.testing.assert_allclose(before.velocity, after.velocity, atol=1e-4)
        np.testing.assert_allclose(before.acceleration, after.acceleration, atol=1e-2)
    assert not last.velocity.any() and not last.acceleration.any()
    middle = float(0.5 * (times[1] + times[2]))
    np.testing.assert_allclose(
        derivative(lambda t: curve.sample(t).position, middle), curve.sample(middle).velocity, atol=1e-5
    )


@given(seeds, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_spline_is_that_of_scipy(seed, count):
    random = np.random.default_rng(seed)
    start = CurveState(*random.normal(size=(3, 2)))
    times, points = np.cumsum(random.uniform(0.05, 0.4, count)), random.normal(size=(count, 2))
    rest = np.zeros(2)
    other = make_interp_spline(
        np.concatenate([[0.0], times]),
        np.vstack([start.position, points]),
        k=5,
        bc_type=([(1, start.velocity), (2, start.acceleration)], [(1, rest), (2, rest)]),
    )
    curve = QuinticSpline(0.0, start, times, points)
    for time in np.linspace(0.0, times[-1], 30, endpoint=False):
        scale = np.abs(other(time, 2)).max() + 1.0
        np.testing.assert_allclose(curve.sample(time).position, other(time), atol=1e-6)
        np.testing.assert_allclose(curve.sample(time).acceleration, other(time, 2), atol=1e-5 * scale)


@pytest.mark.parametrize("times", [[], [0.0], [0.5, 0.5], [0.5, 0.4], [np.nan]])
def test_spline_refuses_times_that_do_not_increase(times):
    with pytest.raises(ActionError):
        QuinticSpline(0.0, CurveState(*np.zeros((3, 2))), np.array(times), np.zeros((len(times), 2)))


@given(seeds, st.floats(0.0, 2.5))
@settings(max_examples=60, deadline=None)
def test_angular_motion_is_the_derivative_of_the_rotation(seed, size):
    random = np.random.default_rng(seed)
    direction = random.normal(size=3)
    r0 = size * direction / np.linalg.norm(direction)
    r1, r2 = random.normal(size=(2, 3))

    def quaternion(t):
        return rotations.exp(r0 + r1 * t + 0.5 * r2 * t * t)

    def velocity(t, h=1e-4):
        turn = rotations.multiply(quaternion(t + h), rotations.conjugate(quaternion(t - h)))
        return rotations.log(turn) / (2 * h)

    w, alpha = angular_motion(r0, r1, r2)
    np.testing.assert_allclose(w, velocity(0.0), atol=1e-5)
    np.testing.assert_allclose(alpha, derivative(velocity, 0.0, 1e-3), atol=1e-3)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_cartesian_reference_is_continuous_across_replans(seed):
    random = np.random.default_rng(seed)
    reference = CartesianReference(ORIGIN)
    time = 0.0
    for _ in range(5):
        before = reference.sample(time)
        times = time + np.cumsum(random.uniform(0.1, 0.3, 3))
        turns = rotations.exp(random.normal(size=(3, 3)) * 0.4)
        reference.replan(
            time, times, random.normal(size=(3, 3)), rotations.multiply(turns, before.pose.quaternion)
        )
        after = reference.sample(time)
        np.testing.assert_allclose(after.pose.position, before.pose.position, atol=1e-12)
        assert rotations.angle_between(after.pose.quaternion, before.pose.quaternion) < 1e-7
        np.testing.assert_allclose(after.twist, before.twist, atol=1e-9)
        np.testing.assert_allclose(after.acceleration, before.acceleration, atol=1e-9)
        time = float(random.uniform(time, times[-1]))


def test_cartesian_reference_reaches_its_targets_at_their_times():
    reference = CartesianReference(ORIGIN)
    turn = rotations.exp([0.0, 0.3, 0.5])
    reference.replan(
        0.0, np.array([0.5, 1.0]), np.array([[0.1, 0, 0], [0.2, 0.1, 0]]), np.stack([turn, turn])
    )
    sample = reference.sample(0.5)
    np.testing.assert_allclose(sample.pose.position, [0.1, 0, 0], atol=1e-9)
    assert rotations.angle_between(sample.pose.quaternion, turn) < 1e-7
    assert not reference.sample(1.0).twist.any()


def test_a_target_turned_too_far_leaves_the_motion_as_it_was():
    reference = CartesianReference(ORIGIN)
    with pytest.raises(ActionError, match=r"turned 3\.00 rad"):
        reference.replan(0.0, np.array([1.0]), np.zeros((1, 3)), rotations.exp([[0.0, 0.0, 3.0]]))
    assert reference.end_time == -np.inf


@given(seeds, st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_slow_down_ends_at_rest_without_a_jump(seed, seconds):
    random = np.random.default_rng(seed)
    for reference, samples in (
        (CartesianReference(ORIGIN), lambda s: np.concatenate([s.pose.position, s.twist, s.acceleration])),
        (JointReference(np.zeros(3)), lambda s: np.concatenate([s.position, s.velocity, s.acceleration])),
    ):
        targets = random.normal(size=(1, 3))
        extra = (
            (rotations.exp(random.normal(size=(1, 3)) * 0.3),)
            if isinstance(reference, CartesianReference)
            else ()
        )
        reference.replan(0.0, np.array([1.0]), targets, *extra)
        before = samples(reference.sample(0.4))
        reference.slow_down(0.4, seconds)
        np.testing.assert_allclose(samples(reference.sample(0.4)), before, atol=1e-9)
        assert reference.end_time == pytest.approx(0.4 + seconds)


def test_slow_down_of_a_furious_turn_is_still_a_motion():
    reference = CartesianReference(ORIGIN)
    reference.replan(0.0, np.array([0.05, 1.0]), np.zeros((2, 3)), rotations.exp([[0, 0, 1.0], [0, 0, -1.0]]))
    reference.slow_down(0.04, 2.0)
    assert not reference.sample(2.1).twist.any()


def test_history_goes_straight_from_entry_to_entry():
    history = History(1, 4)
    assert history.at(0.0) is None
    for time in range(6):
        history.append(float(time), np.array([float(time)]))
    assert history.at(4.5) == pytest.approx(4.5)
    assert history.at(4.0) == pytest.approx(4.0)
    assert history.at(99.0) == pytest.approx(5.0)
    assert history.at(0.0) == pytest.approx(2.0), "the oldest kept"
    assert history.newest == pytest.approx(5.0)


def test_a_quaternion_that_changes_its_sign_is_no_turn():
    executor = ChunkExecutor(SPEC, ORIGIN)
    turn = rotations.exp([0.0, 0.0, 1.0])
    for time, sign in ((0.0, 1.0), (0.1, -1.0), (0.2, 1.0)):
        executor.record(time, Pose(np.zeros(3), sign * turn))
    for stamp_time in (0.05, 0.13):
        executor.submit(delta_chunk([[0.0, 0.0, 0.0]] * 8), time=0.2, stamp_time=stamp_time)
        assert rotations.angle_between(executor.targets.at(0.5).quaternion, turn) < 1e-7


def delta_chunk(steps, period=0.2, stamp=1, **kwargs):
    steps = np.asarray(steps, dtype=float)
    count = len(steps)
    return ActionChunk(
        stamp, 7, ActionKind.CARTESIAN_DELTA, period, kwargs.pop("gripper_width", np.full(count, 0.08)),
        translation=steps, quaternion=np.tile(rotations.IDENTITY, (count, 1)), **kwargs,
    )  # fmt: skip


def executor_moving_along_x(speed=0.1, until=1.0, spec=SPEC):
    executor = ChunkExecutor(spec, ORIGIN)
    for time in np.arange(0.0, until, 0.01):
        commanded = Pose(np.array([speed * time, 0.0, 0.0]), rotations.IDENTITY)
        executor.record(float(time), commanded)
    return executor


def test_deltas_are_composed_on_the_pose_commanded_at_the_stamp_and_due_steps_are_skipped():
    executor = executor_moving_along_x()
    executor.submit(delta_chunk([[0.01, 0, 0]] * 8), time=1.0, stamp_time=0.5)
    # step k is due at 0.5 + (k + 1) 0.2 at x = 0.05 + (k + 1) 0.01; now is 1.0, so 1.1 is the first ahead
    for due, x in ((1.1, 0.08), (1.3, 0.09), (2.1, 0.13)):
        assert executor.sample(due).pose.position[0] == pytest.approx(x, abs=1e-6), due
    assert executor.delay == pytest.approx(0.5)


def test_measured_composition_starts_from_the_measured_pose():
    executor = executor_moving_along_x()
    chunk = delta_chunk([[0.01, 0, 0]] * 8, composition=Composition.MEASURED)
    measured = Pose(np.array([0.05 - 0.02, 0.0, 0.0]), rotations.IDENTITY)
    executor.submit(chunk, time=1.0, stamp_time=0.5, measured=measured)
    assert executor.sample(2.1).pose.position[0] == pytest.approx(0.13 - 0.02, abs=1e-6)
    with pytest.raises(ActionError, match="commanded or measured"):
        executor.submit(chunk, time=1.0, stamp_time=0.5)


def test_targets_are_clipped_to_the_workspace():
    box = Workspace(np.full(3, -0.1), np.full(3, 0.1), 0.0)
    executor = executor_moving_along_x(spec=replace(SPEC, workspace=box))
    clipped = executor.submit(delta_chunk([[0.05, 0, 0]] * 4), time=0.6, stamp_time=0.55)
    assert clipped == pytest.approx(0.055 + 0.2 - 0.1, abs=0.01)
    assert executor.sample(9.0).pose.position[0] == pytest.approx(0.1)


def test_gripper_steps_come_into_force_at_their_start():
    executor = executor_moving_along_x()
    chunk = delta_chunk([[0, 0, 0]] * 4, gripper_width=np.array([0.08, 0.05, 0.02, 0.0]))
    executor.submit(chunk, time=1.0, stamp_time=0.9)
    for time, width in ((1.0, 0.08), (1.15, 0.05), (1.31, 0.02), (1.6, 0.0), (9.0, 0.0)):
        assert executor.gripper(time) == width, time


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_any_stream_of_chunks_gives_a_continuous_reference(seed):
    """Late, early, reordered, shrinking, contradictory chunks: the reference never jumps."""
    random = np.random.default_rng(seed)
    executor = executor_moving_along_x(speed=0.0, until=0.1)
    time = 0.1
    for number in range(12):
        count = int(random.integers(1, 9))
        before = executor.sample(time)
        chunk = delta_chunk(random.normal(size=(count, 3)) * 0.03, stamp=number + 1)
        with contextlib.suppress(ActionError):
            executor.submit(chunk, time, time - float(random.uniform(-0.01, 0.8)))
        after = executor.sample(time)
        np.testing.assert_allclose(after.pose.position, before.pose.position, atol=1e-12)
        np.testing.assert_allclose(after.twist, before.twist, atol=1e-9)
        np.testing.assert_allclose(after.acceleration, before.acceleration, atol=1e-9)
        for _ in range(int(random.integers(1, 40))):
            executor.record(time, executor.sample(time).pose)
            time += 0.01


def test_targets_that_no_gentle_motion_reaches_in_time_are_left_out():
    """From rest, 4 cm within 0.1 s is a blow; the curve makes for a later target and is on time there."""
    limits = TcpLimits(0.4, 2.5, 40.0, 1.0, 6.0, 60.0)
    steps = [[0.04, 0, 0]] * 8
    peaks = {}
    for name, tcp in (("gentle", limits), ("exact", UNHURRIED)):
        executor = executor_moving_along_x(speed=0.0, spec=replace(SPEC, tcp=tcp))
        executor.submit(delta_chunk(steps), time=1.0, stamp_time=0.9)
        times = np.arange(1.0, 2.5, 0.002)
        peaks[name] = max(np.abs(executor.sample(t).acceleration[:3]).max() for t in times)
        assert executor.sample(2.1).pose.position[0] == pytest.approx(0.24, abs=1e-6)
        assert executor.sample(9.0).pose.position[0] == pytest.approx(0.32, abs=1e-6)
    assert peaks["gentle"] < 0.5 * peaks["exact"]


def test_a_target_left_out_is_not_lost_to_the_deltas_after_it():
    """Single steps from rest, each composed on the target before: the tool ends where their sum says."""
    executor = executor_moving_along_x(
        speed=0.0, spec=replace(SPEC, tcp=TcpLimits(0.4, 2.5, 40.0, 1.0, 6.0, 60.0))
    )
    time = 1.0
    for number in range(6):
        steps = [[0.03, 0.0, 0.0]] * min(4, 6 - number)
        executor.submit(delta_chunk(steps, stamp=number + 1), time, time)
        for _ in range(20):
            time += 0.01
            executor.record(time, executor.targets.at(time))
    assert executor.sample(9.0).pose.position[0] == pytest.approx(0.18, abs=1e-3)


def test_the_target_path_is_straight_between_targets():
    turn = rotations.exp([[0.0, 0.0, 0.0], [0.0, 0.0, 0.4]])
    path = TargetPath(np.array([1.0, 2.0]), np.array([[0.0, 0, 0], [1.0, 0, 0]]), turn)
    for time, x, angle in ((0.0, 0.0, 0.0), (1.25, 0.25, 0.1), (2.0, 1.0, 0.4), (3.0, 1.0, 0.4)):
        pose = path.at(time)
        assert pose.position[0] == pytest.approx(x)
        np.testing.assert_allclose(rotations.log(pose.quaternion), [0, 0, angle], atol=1e-12)


def test_joint_chunks_are_joined_likewise():
    executor = ChunkExecutor(SPEC, ORIGIN)
    executor.anchor(ORIGIN, np.zeros(6), 0.08)
    joints = np.outer(np.arange(1, 5), np.ones(6)) * 0.05
    chunk = ActionChunk(1, 1, ActionKind.JOINT_POSITION, 0.2, np.full(4, 0.08), joints=joints)
    executor.submit(chunk, time=0.05, stamp_time=0.0)
    assert executor.joint_mode
    np.testing.assert_allclose(executor.sample_joints(0.4).position, joints[1], atol=1e-9)
    executor.record(0.05, ORIGIN)
    with pytest.raises(ActionError, match="Cartesian chunk came while a joint motion"):
        executor.submit(delta_chunk([[0, 0, 0.01]] * 4), time=0.1, stamp_time=0.05)
