"""Blending of chunks: what each mode asks for, and that no stream of chunks makes any of them jump."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_ros.actions import rotations
from vla_ros.contract import BLENDINGS, load_contract
from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.execution.blending import RealTimeChunking, TemporalEnsemble, make_blending, soft_mask
from vla_ros.execution.delay import DelayStatistics
from vla_ros.execution.ease import Gentle, ease_out
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.execution.schedule import Schedule
from vla_ros.execution.spline import SPACING, CurveState, merged
from vla_ros.execution.targets import JOINTS, POSES, Path, TargetPath
from vla_ros.robots import load_robot
from vla_ros.robots.spec import TcpLimits, Workspace
from vla_ros.types import ActionChunk, ActionKind, Pose

seeds = st.integers(0, 2**32 - 1)
modes = st.sampled_from(BLENDINGS)
ORIGIN = Pose(np.zeros(3), rotations.IDENTITY)
SPEC = replace(load_robot("ur5"), workspace=Workspace(np.full(3, -10.0), np.full(3, 10.0), -10.0))
UNHURRIED = replace(SPEC, tcp=TcpLimits(*[1e9] * 6))


def chunk(kind, steps, stamp, period=0.1, quaternion=None, gripper_width=None):
    steps = np.asarray(steps, dtype=float)
    count = len(steps)
    widths = np.full(count, 0.08) if gripper_width is None else np.asarray(gripper_width, dtype=float)
    if kind is ActionKind.JOINT_POSITION:
        return ActionChunk(stamp, stamp, kind, period, widths, joints=steps)
    turns = np.tile(rotations.IDENTITY, (count, 1)) if quaternion is None else quaternion
    return ActionChunk(stamp, stamp, kind, period, widths, translation=steps, quaternion=turns)


def made(mode, spec=SPEC):
    executor = ChunkExecutor(spec, ORIGIN, blending=make_blending(mode))
    executor.anchor(ORIGIN, np.zeros(6), 0.08)
    executor.record(0.0, ORIGIN)
    return executor


def motion(executor, kind, time):
    if kind is ActionKind.JOINT_POSITION:
        state = executor.sample_joints(time)
        return np.concatenate([state.position, state.velocity, state.acceleration])
    state = executor.sample(time)
    # the sign of a quaternion is no motion
    turn = rotations.to_matrix(state.pose.quaternion).ravel()
    return np.concatenate([state.pose.position, turn, state.twist, state.acceleration])


def test_the_contract_offers_the_modes_there_are():
    assert [make_blending(name).name for name in BLENDINGS] == list(BLENDINGS)
    assert load_contract("panda", blending="rtc").blending == "rtc"
    with pytest.raises(ConfigurationError, match="blending 'magic' is unknown, known are replace"):
        make_blending("magic")


# -- no jump -----------------------------------------------------------------------------------------------


@given(seeds, modes, st.sampled_from(list(ActionKind)))
@settings(max_examples=60, deadline=None)
def test_no_stream_makes_the_motion_jump(seed, mode, kind):
    """Late, early, duplicate, reordered, shrinking, contradictory chunks, wholly due ones, other periods."""
    random = np.random.default_rng(seed)
    executor = made(mode)
    time, sent, taken = 0.0, [], 0
    for _ in range(12):
        count = int(random.integers(1, 12))
        age = float(random.uniform(-0.01, 0.5))
        steps = random.normal(size=(count, 6 if kind is ActionKind.JOINT_POSITION else 3)) * 0.03
        turns = rotations.exp(random.normal(size=(count, 3)) * 0.05)
        new = chunk(kind, steps, round(1e9 * (10.0 + time - age)), random.choice([0.03, 0.1, 0.2]), turns)
        if sent and random.random() < 0.25:
            new, stamp_time = sent[int(random.integers(len(sent)))]
        else:
            stamp_time = time - age
            sent.append((new, stamp_time))
        if random.random() < 0.3:
            executor.upcoming(time)
        before, ends = motion(executor, kind, time), executor.end_time
        try:
            executor.submit(new, time, stamp_time)
            taken += 1
        except ActionError:
            assert executor.end_time == ends
        np.testing.assert_allclose(motion(executor, kind, time), before, atol=1e-9)
        # nor later: between any two instants the motion is its own derivative
        for _ in range(int(random.integers(1, 40))):
            early, now = motion(executor, kind, time), motion(executor, kind, time + 1e-6)
            size = 6 if kind is ActionKind.JOINT_POSITION else 3
            rate = early[size : 2 * size] if size == 6 else early[12:15]
            moved, bound = now[:size] - early[:size], 1e-6 * (1e-3 + 1e-2 * np.abs(rate).max())
            np.testing.assert_allclose(moved, 1e-6 * rate, atol=10 * bound)
            executor.record(time, executor.targets.at(time))
            time += 0.01
    assert taken > 0


@given(seeds, st.sampled_from([ActionKind.CARTESIAN_ABSOLUTE, ActionKind.JOINT_POSITION]))
@settings(max_examples=40, deadline=None)
def test_what_is_due_within_the_delay_stays_exactly(seed, kind):
    """`rtc`: the curve, the upcoming steps and the gripper, until the delay after the observation is over."""
    random = np.random.default_rng(seed)
    executor = made("rtc")
    size = 6 if kind is ActionKind.JOINT_POSITION else 3
    time = 0.0
    for _ in range(8):
        prefix, usual, ends = executor.upcoming(time), executor.delays.p95, executor.end_time
        # between the observation and its chunk time goes by
        late = time + float(random.uniform(0.0, 0.1))
        instants = np.linspace(late, late + 0.1, 7)
        before = [motion(executor, kind, t) for t in instants]
        widths = [executor.gripper(t) for t in instants]
        steps = 0.05 * random.normal(size=(10, size))
        new = chunk(
            kind, steps, round(1e9 * (10 + time)), 0.1, gripper_width=random.choice([0.0, 0.08], size=10)
        )
        executor.submit(new, late, time)
        until = min(time + min(usual, executor.delays.p95), ends)
        if prefix is not None:
            path = executor.targets if size == 3 else executor._joint_path
            due = prefix.after + time
            stays = (due > late) & (due <= until)
            np.testing.assert_allclose(path.points_at(due[stays]), prefix.targets[stays], atol=1e-9)
            again = executor.upcoming(late)
            assert again is not None
            assert set(np.round(due[stays], 6)) <= set(np.round(again.after + late, 6))
        for t, state, width in zip(instants, before, widths, strict=True):
            if t == late or t <= until:
                np.testing.assert_allclose(motion(executor, kind, t), state, atol=1e-12)
            assert t >= until or executor.gripper(t) == width
        time = late + float(random.uniform(0.01, 0.15))
        executor.record(time, executor.targets.at(time))


@pytest.mark.parametrize("mode", BLENDINGS)
@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_asking_for_what_is_upcoming_changes_nothing(mode, instants):
    """Two executors with one stream; one is asked at any time."""
    asked, left_alone = made(mode), made(mode)
    for number in range(5):
        new = chunk(ActionKind.CARTESIAN_ABSOLUTE, [[0.01 * number, 0.02, 0]] * 8, number + 1)
        for executor in (asked, left_alone):
            executor.submit(new, 0.3 * number + 0.1, 0.3 * number)
        for instant in instants:
            asked.upcoming(0.3 * number + 0.1 + instant)
        for instant in np.linspace(0.0, 0.6, 7):
            time = 0.3 * number + 0.1 + instant
            np.testing.assert_array_equal(
                *(motion(executor, ActionKind.CARTESIAN_ABSOLUTE, time) for executor in (asked, left_alone))
            )


@pytest.mark.parametrize("mode", BLENDINGS)
def test_upcoming_are_the_steps_from_the_oldest_observation_under_way_to_the_end(mode):
    executor = made(mode)
    assert executor.upcoming(0.0) is None
    steps = np.outer(np.arange(1, 9), [0.01, 0, 0])
    for number in range(2):
        new = chunk(ActionKind.CARTESIAN_ABSOLUTE, steps, number + 1, gripper_width=np.linspace(0.08, 0, 8))
        executor.submit(new, 0.25, 0.0)
    prefix = executor.upcoming(0.55)
    assert prefix is not None and prefix.kind is ActionKind.CARTESIAN_ABSOLUTE
    steps_shown = np.abs(prefix.after[:, None] - (np.arange(4, 9) * 0.1 - 0.55)).min(axis=0)
    np.testing.assert_allclose(steps_shown, 0.0, atol=1e-9)
    assert prefix.after.min() > -executor.delays.p95
    ahead = prefix.after > 0.0
    np.testing.assert_allclose(prefix.targets[ahead, 0], [0.06, 0.07, 0.08], atol=1e-9)
    np.testing.assert_allclose(prefix.targets[:, 6], 1.0)
    widths = prefix.gripper_width[[np.abs(prefix.after - 0.1 * k + 0.55).argmin() for k in range(4, 9)]]
    np.testing.assert_allclose(widths, np.linspace(0.08, 0, 8)[3:])
    assert executor.upcoming(0.81) is None
    executor.slow_down(0.56, 0.3)
    assert executor.upcoming(0.57) is None and executor.end_time == pytest.approx(0.86)


def test_a_chunk_within_the_prefix_brings_nothing():
    executor = made("rtc")
    for number in range(2):
        new = chunk(ActionKind.CARTESIAN_ABSOLUTE, [[0.1, 0, 0]] * 20, number + 1)
        executor.submit(new, 0.5, 0.0)
    end = executor.end_time
    with pytest.raises(ActionError, match="all 3 steps lie in the committed prefix"):
        executor.submit(chunk(ActionKind.CARTESIAN_ABSOLUTE, [[0.2, 0, 0]] * 3, 3), 0.6, 0.6)
    assert executor.end_time == end and executor.sequence == 2


# -- what is asked for -------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 6), st.sampled_from([0.01, 0.0, 0.5, -0.5]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_ensemble_is_the_weighted_mean_over_all_chunks_that_predict(seed, count, m, shuffled):
    """On a common grid, against the definition written out (ACT: i = 0 is the oldest)."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 9, count)
    paths = [Path(0.1 * (i + np.arange(n + 1)), random.normal(size=(n + 1, 2)), JOINTS)
             for i, n in enumerate(lengths)]  # fmt: skip
    order = random.permutation(count) if shuffled else np.arange(count)
    given_paths = [paths[i] for i in order]
    blended = TemporalEnsemble(m).blend(given_paths[-1], given_paths[:-1], given_paths[0], 0.0)
    newest = paths[-1]
    np.testing.assert_allclose(blended.path.times, newest.times)
    for step in range(1, lengths[-1] + 1):
        instant = count - 1 + step
        says = [path.points[instant - i] for i, path in enumerate(paths) if instant - i <= lengths[i]]
        weights = np.exp(-m * np.arange(len(says)))
        expected = (weights[:, None] * np.array(says)).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(blended.path.points[step], expected, atol=1e-9)


def test_a_duplicate_does_not_count_twice():
    executor = made("temporal_ensemble", UNHURRIED)
    one = chunk(ActionKind.CARTESIAN_ABSOLUTE, [[0.0, 0, 0]] * 8, 1)
    other = chunk(ActionKind.CARTESIAN_ABSOLUTE, [[0.1, 0, 0]] * 8, 2)
    for new in (one, one, one, other, other):
        executor.submit(new, 0.01, 0.0)
    share = np.exp(-0.01) / (1.0 + np.exp(-0.01))
    assert executor.targets.at(0.5).position[0] == pytest.approx(0.1 * share)


@pytest.mark.parametrize("mode", BLENDINGS)
def test_chunks_that_agree_are_asked_for_as_they_are(mode):
    """Deltas of one motion, composed at their stamps, name the same targets, whenever they were made."""
    executor = made(mode, UNHURRIED)
    steps, turns = [[0.02, 0.01, 0]] * 8, np.tile(rotations.exp([0.0, 0.0, 0.05]), (8, 1))
    due, time = 0.0, 0.0
    for tick in range(100):
        time = 0.01 * tick
        # the stamps lie between the ticks
        if time >= due:
            new = chunk(ActionKind.CARTESIAN_DELTA, steps, tick + 1, quaternion=turns)
            executor.submit(new, time, due - 0.033 if tick else 0.0)
            due += 0.1
        executor.record(time, executor.targets.at(time))
    wanted = executor.targets.at(time + 0.5)
    np.testing.assert_allclose(wanted.position, (time + 0.5) * np.array([0.2, 0.1, 0.0]), atol=1e-7)
    np.testing.assert_allclose(rotations.log(wanted.quaternion), [0.0, 0.0, 0.5 * (time + 0.5)], atol=1e-6)


def test_the_soft_mask_is_that_of_the_paper():
    """Equation 5 with d = 2, H - s = 6, H = 10, written out."""
    expected = []
    for i in range(2, 10):
        c = (6 - i) / (6 - 2 + 1)
        expected.append(c * (np.exp(c) - 1) / (np.e - 1) if i < 6 else 0.0)
    np.testing.assert_allclose(soft_mask(4, 8), expected, atol=1e-12)


def test_rtc_goes_from_old_to_new():
    old = Path(0.1 * np.arange(9), np.zeros((9, 1)), JOINTS)
    new = Path(0.4 + 0.1 * np.arange(9), np.ones((9, 1)), JOINTS)
    blended = RealTimeChunking().blend(new, [], old, 0.55)
    assert blended.begin == 0.55
    times, values = blended.path.times, blended.path.points[:, 0]
    np.testing.assert_allclose(values[times <= 0.55], 0.0)
    np.testing.assert_allclose(values[times > 0.55], 1.0 - soft_mask(3, 7), atol=1e-12)
    np.testing.assert_allclose(values[times > 0.81], 1.0)


@given(seeds, st.integers(1, 6), st.floats(0.0, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_mean_of_poses_has_no_mean_turn_to_them(seed, count, spread):
    random = np.random.default_rng(seed)
    about = rotations.exp(random.normal(size=3))
    turns = random.normal(size=(count, 2, 3))
    turns *= spread / np.linalg.norm(turns, axis=-1, keepdims=True)
    quaternions = rotations.multiply(rotations.exp(turns), about)
    quaternions *= random.choice([-1.0, 1.0], size=(count, 2, 1))
    points = np.concatenate([random.normal(size=(count, 2, 3)), quaternions], axis=-1)
    weights = random.uniform(0.01, 1.0, size=(count, 2))
    weights /= weights.sum(axis=0)
    mean = POSES.mean(points, weights)
    np.testing.assert_allclose(mean[:, :3], (weights[..., None] * points[..., :3]).sum(axis=0), atol=1e-12)
    left = rotations.log(rotations.multiply(quaternions, rotations.conjugate(mean[:, 3:])))
    np.testing.assert_allclose((weights[..., None] * left).sum(axis=0), 0.0, atol=1e-5)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_path_is_read_alike_one_by_one_and_all_at_once(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 6))
    turns = rotations.exp(random.normal(size=(count, 3)))
    path = TargetPath(np.cumsum(random.uniform(0.01, 1.0, count)), random.normal(size=(count, 3)), turns)
    times = random.uniform(-1.0, path.end + 1.0, 20)
    for time, point in zip(times, path.points_at(times), strict=True):
        pose = path.at(float(time))
        np.testing.assert_allclose(point[:3], pose.position, atol=1e-12)
        assert rotations.angle_between(point[3:], pose.quaternion) < 1e-7


# -- rest --------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 20), st.floats(0.02, 0.3))
@settings(max_examples=80, deadline=None)
def test_the_eased_times_keep_order_and_are_never_early(seed, count, period):
    random = np.random.default_rng(seed)
    times = 1.0 + period * (np.arange(count) + random.uniform(0.3, 1.0))
    start = CurveState(*(0.1 * random.normal(size=(3, 3))))
    points = np.cumsum(random.normal(size=(count, 3)) * 10.0 ** random.uniform(-4, 0), axis=0)
    gentle = Gentle(np.full(3, 1.2), np.full(3, 16.0))
    eased = ease_out(1.0, start, times, points, gentle)
    assert (eased >= times - 1e-9).all() and (np.diff(np.concatenate([[1.0], eased])) > 0.0).all()


def test_a_path_that_ends_slowly_is_left_alone():
    times = 0.2 * np.arange(1, 6)
    points = np.array([0.1, 0.15, 0.17, 0.175, 0.175])[:, None]
    gentle = Gentle(np.array([10.0]), np.array([100.0]))
    start = CurveState(*np.zeros((3, 1)))
    np.testing.assert_allclose(ease_out(0.0, start, times, points, gentle), times, atol=1e-2)


@pytest.mark.parametrize("mode", BLENDINGS)
@pytest.mark.parametrize("rate", [5.0, 10.0, 30.0])
@pytest.mark.parametrize("kind", [ActionKind.CARTESIAN_DELTA, ActionKind.JOINT_POSITION])
def test_starvation_ends_in_a_gentle_rest_at_the_last_target_and_return_is_gentle(mode, rate, kind):
    """Chunks of a steady motion come, stop, and come again: the tool's or joints' limits hold throughout."""
    executor = made(mode)
    joints = kind is ActionKind.JOINT_POSITION
    limits = SPEC.applied if joints else SPEC.tcp
    most, worst = limits.acceleration, limits.jerk
    speed, period, delay, tick = 0.2, 1.0 / rate, 0.15, 0.002
    direction = np.array([0.8, -0.6, 0.0, 0.0, 0.0, 0.0]) if joints else np.array([0.8, -0.6, 0.0])
    horizon = round(1.0 * rate)
    pending, states, last, ends = [], [], 0.0, np.inf
    size = 6 if joints else 3
    for number in range(round(5.0 / tick)):
        time = number * tick
        executor.record(time, executor.targets.at(time))
        asks = time < 1.0 or 3.5 <= time < 4.0
        if asks and time >= last:
            last = time + 0.1
            if joints:
                here = (
                    executor._joint_path.points_at(np.array([time]))[0]
                    if executor.joint_mode
                    else np.zeros(6)
                )
                steps = here + speed * period * np.outer(np.arange(1, horizon + 1), direction)
            else:
                steps = np.tile(speed * period * direction, (horizon, 1))
            pending.append((time + delay, chunk(kind, steps, round(1e9 * (1.0 + time)), period), time))
        while pending and pending[0][0] <= time:
            _, new, stamp = pending.pop(0)
            executor.submit(new, time, stamp)
        if joints:
            state = executor.sample_joints(time)
            states.append(np.concatenate([state.position, state.velocity, state.acceleration]))
        else:
            sample = executor.sample(time)
            states.append(np.concatenate([sample.pose.position, sample.twist[:3], sample.acceleration[:3]]))
        if number == round(2.0 / tick):
            ends = executor.end_time
    states = np.array(states)
    accelerations = states[:, 2 * size :]
    jerks = np.diff(accelerations, axis=0) / tick
    assert np.abs(states[:, size : 2 * size]).max() > 0.5 * speed
    # the start, the slow-down after the last chunk, the return; between them chunks contradict one another
    for begin, end in ((0.0, 0.35), (1.06, 3.2), (3.4, 3.85)):
        window = slice(round(begin / tick), round(end / tick))
        assert (np.abs(accelerations[window]) <= most).all(), np.abs(accelerations[window]).max(axis=0)
        assert (np.abs(jerks[window]) <= worst).all(), np.abs(jerks[window]).max(axis=0)
    assert ends < 3.0, "it rests before chunks return"
    resting = states[round(3.2 / tick)]
    assert not resting[size:].any()
    # never past the last target, on the way or at rest
    along = states[: round(3.2 / tick), :size] @ direction
    assert along.max() <= along[-1] + 1e-6


@pytest.mark.parametrize("mode", BLENDINGS)
@pytest.mark.parametrize("rate", [10.0, 30.0])
@pytest.mark.parametrize("kind", [ActionKind.CARTESIAN_ABSOLUTE, ActionKind.JOINT_POSITION])
def test_steps_a_millimetre_off_do_not_lead_the_motion_astray(mode, rate, kind):
    """A steady motion, every step with noise: a curve exactly through steps of 30 Hz left it by 30 cm."""
    random, executor, delay, tick = np.random.default_rng(3), made(mode), 0.2, 0.004
    direction = np.array([0.1, 0.05, 0.0, 0.0, 0.0, 0.0])[: 6 if kind is ActionKind.JOINT_POSITION else 3]
    pending, last, errors = [], 0.0, []
    for number in range(round(6.0 / tick)):
        time = number * tick
        executor.record(time, executor.targets.at(time))
        if time >= last:
            last = time + 0.2
            due = time + np.arange(1, round(1.5 * rate) + 1) / rate
            steps = np.outer(due, direction) + 0.001 * random.normal(size=(len(due), len(direction)))
            pending.append((time + delay, chunk(kind, steps, round(1e9 * (1.0 + time)), 1.0 / rate), time))
        while pending and pending[0][0] <= time:
            _, new, stamp = pending.pop(0)
            executor.submit(new, time, stamp)
        errors.append(motion(executor, kind, time)[: len(direction)] - time * direction)
    assert np.abs(errors[round(1.5 / tick) :]).max() < 0.006


@given(seeds, st.integers(1, 40), st.floats(0.01, 0.4))
@settings(max_examples=80, deadline=None)
def test_merged_waypoints_are_apart_and_on_a_steady_motion(seed, count, period):
    random = np.random.default_rng(seed)
    times, rate = 1.0 + period * np.arange(count), random.normal(size=4)
    instants, points = merged(times, np.outer(times, rate))
    np.testing.assert_allclose(points, np.outer(instants, rate), atol=1e-9)
    assert instants[-1] == times[-1] and (np.diff(instants) > 0.0).all()
    if period >= SPACING:
        np.testing.assert_array_equal(instants, times)
    # the first and the last run may be short
    assert (np.diff(instants)[1:-1] > SPACING - 1e-6).all()
    assert (np.diff(instants) < 2.0 * SPACING + period).all()


# -- delay and gripper -------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 3.0), min_size=2, max_size=150))
def test_delays_keep_the_warm_up_apart(seconds):
    delays = DelayStatistics(window=50)
    for value in seconds:
        delays.add(value)
    window = np.array(seconds[1:][-50:])
    assert delays.count == len(seconds) and delays.first == seconds[0]
    for percent, found in ((50, delays.p50), (95, delays.p95)):
        assert found in window and np.mean(window <= found) >= percent / 100.0
        assert np.mean(window < found) < percent / 100.0


def test_a_chunk_of_the_future_has_no_delay_and_a_useless_one_has():
    executor = made("replace")
    for number, age in enumerate((0.4, -0.01, 0.3)):
        executor.submit(chunk(ActionKind.CARTESIAN_DELTA, [[0, 0, 0]] * 8, number + 1), 1.0, 1.0 - age)
    turned = rotations.exp(np.array([[0.0, 0.0, 1.5]] * 2))
    with pytest.raises(ActionError, match="turned 3.00 rad"):
        executor.submit(chunk(ActionKind.CARTESIAN_DELTA, [[0, 0, 0]] * 2, 9, quaternion=turned), 1.0, 0.2)
    assert (executor.delays.first, executor.delays.count) == (pytest.approx(0.4), 4)
    assert executor.delays.p95 == pytest.approx(0.8) and executor.delays.p50 == pytest.approx(0.3)


@given(seeds, modes)
@settings(max_examples=40, deadline=None)
def test_a_binary_gripper_is_never_half_open(seed, mode):
    random = np.random.default_rng(seed)
    executor = made(mode)
    time, stamps = 0.0, []
    for _ in range(10):
        count = int(random.integers(1, 10))
        stamp = time - float(random.uniform(0.0, 0.2))
        widths = random.choice([0.0, 0.08], size=count)
        new = chunk(
            ActionKind.CARTESIAN_DELTA, np.zeros((count, 3)), round(1e9 * (10 + stamp)), gripper_width=widths
        )
        try:
            executor.submit(new, time, stamp)
            stamps.append(stamp)
        except ActionError:
            pass
        assert {executor.gripper(time + t) for t in np.linspace(0.0, 2.0, 50)} <= {0.0, 0.08}
        time += float(random.uniform(0.0, 0.3))
        executor.record(time, ORIGIN)
    assume(stamps)


@pytest.mark.parametrize("mode", BLENDINGS)
def test_the_newest_observation_has_the_say_of_the_gripper(mode):
    executor = made(mode)
    for stamp, width in ((2, 0.0), (1, 0.08)):
        steps = [[0.0, 0, 0]] * 8
        new = chunk(ActionKind.CARTESIAN_DELTA, steps, stamp, gripper_width=np.full(8, width))
        executor.submit(new, 0.2, 0.1 * stamp)
    assert executor.gripper(0.8) == 0.0


def test_a_schedule_keeps_the_past():
    schedule = Schedule.constant(0.08).then(1.0, np.array([0.5, 1.5]), np.array([0.02, 0.0]))
    assert [schedule.at(t) for t in (0.9, 1.0, 1.4, 1.5, 9.0)] == [0.08, 0.02, 0.02, 0.0, 0.0]
