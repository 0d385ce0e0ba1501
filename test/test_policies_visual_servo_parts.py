"""Tracking, tool geometry and motion of the visual servo, each alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_ros.actions import rotations
from vla_ros.errors import ConfigurationError
from vla_ros.policies.visual_servo.detection import Detection
from vla_ros.policies.visual_servo.motion import Goal, Pace, Plan, Schedule, deltas, make_plan, observed, step
from vla_ros.policies.visual_servo.situation import GripperWatch, Situation
from vla_ros.policies.visual_servo.tool import MAX_YAW, tool_of
from vla_ros.policies.visual_servo.tracking import Tracker
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import Pose

SECOND = 1_000_000_000
PANDA = load_robot("panda")
PANDA_TOOL = tool_of(PANDA, Kinematics(PANDA).forward_frame)
PACE = Pace.of(PANDA)


def seen(x: float, y: float, yaw: float = 0.1, sigma: float = 0.001) -> Detection:
    return Detection("red", "block", x, y, yaw, sigma, 0.95, 1.0)


# ---- tracking


def test_one_sighting_is_not_believed_two_are() -> None:
    tracker = Tracker()
    tracker.update([seen(0.4, 0.1)], SECOND)
    assert tracker.get(("red", "block")) is None
    tracker.update([seen(0.4, 0.1)], 2 * SECOND)
    estimate = tracker.get(("red", "block"))
    assert estimate is not None
    assert estimate.age(5 * SECOND) == 3.0
    assert estimate.name == "red block"


def test_better_cameras_count_for_more() -> None:
    tracker = Tracker()
    for _ in range(3):
        tracker.update([seen(0.400, 0.1, sigma=0.004), seen(0.406, 0.1, sigma=0.0005)], SECOND)
    estimate = tracker.get(("red", "block"))
    assert estimate is not None
    assert abs(estimate.x - 0.406) < 0.001
    assert estimate.sigma < 0.0005


def test_an_outlier_is_ignored_and_a_move_is_followed() -> None:
    tracker = Tracker()
    for k in range(5):
        tracker.update([seen(0.4, 0.1)], k * SECOND)
    tracker.update([seen(0.5, 0.1)], 5 * SECOND)
    estimate = tracker.get(("red", "block"))
    assert estimate is not None and abs(estimate.x - 0.4) < 1e-6
    tracker.update([seen(0.5, 0.1)], 6 * SECOND)
    estimate = tracker.get(("red", "block"))
    assert estimate is not None and abs(estimate.x - 0.5) < 1e-6


@given(st.floats(0.0, 1.57), st.floats(-0.2, 0.2))
def test_yaw_is_averaged_on_the_circle_of_a_quarter_turn(yaw: float, error: float) -> None:
    tracker = Tracker()
    quarter = 0.5 * np.pi
    for _ in range(2):
        tracker.update(
            [seen(0.4, 0.0, (yaw + error) % quarter), seen(0.4, 0.0, (yaw - error) % quarter)], SECOND
        )
    estimate = tracker.get(("red", "block"))
    assert estimate is not None
    assert abs((estimate.yaw - yaw + 0.5 * quarter) % quarter - 0.5 * quarter) <= abs(error) + 1e-9


def test_a_moving_camera_is_trusted_less() -> None:
    still, moving = Tracker(), Tracker()
    for _ in range(2):
        still.update([seen(0.4, 0.0)], SECOND)
        moving.update([seen(0.4, 0.0)], SECOND, camera_speed=0.2)
    a, b = still.get(("red", "block")), moving.get(("red", "block"))
    assert a is not None and b is not None and b.sigma > 2.0 * a.sigma


def test_forgets_on_request() -> None:
    tracker = Tracker()
    tracker.update([seen(0.4, 0.0), seen(0.4, 0.0)], SECOND)
    tracker.forget(("red", "block"))
    assert tracker.confirmed() == []


# ---- tool


@pytest.mark.parametrize("name", robot_names())
def test_the_fingers_of_every_robot_close_level_and_above_the_table(name: str) -> None:
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    tool = tool_of(robot, kinematics.forward_frame)
    first, second = (kinematics.forward_frame(robot.home, f).position for f in robot.gripper.finger_frames)
    line = second - first
    angle = (np.arctan2(line[1], line[0]) - tool.closing_angle + 0.5 * np.pi) % np.pi - 0.5 * np.pi
    assert abs(angle) < 0.01
    assert 0.015 <= tool.grasp_height <= 0.025


@given(st.floats(-3.0, 3.0))
def test_yaw_reads_back(yaw: float) -> None:
    assert PANDA_TOOL.yaw_of(PANDA_TOOL.orientation(yaw)) == pytest.approx(yaw, abs=1e-9)


@given(st.floats(0.0, 1.57), st.floats(-1.5, 1.5))
def test_grasps_are_square_to_the_block_and_within_reach(block: float, current: float) -> None:
    yaw = PANDA_TOOL.grasp_yaw(block, current, [])
    skew = (yaw + PANDA_TOOL.closing_angle - block + np.pi / 4) % (np.pi / 2) - np.pi / 4
    assert abs(skew) < 1e-9
    assert abs(yaw) <= MAX_YAW


@given(st.floats(0.0, 2.0 * np.pi))
def test_fingers_do_not_come_down_on_a_neighbour(direction: float) -> None:
    offset = (0.06 * np.cos(direction), 0.06 * np.sin(direction))
    block = (direction + 0.3) % (np.pi / 2)
    yaw = PANDA_TOOL.grasp_yaw(block, 0.0, [offset])
    between = abs((yaw + PANDA_TOOL.closing_angle - direction + np.pi / 2) % np.pi - np.pi / 2)
    assert between > np.pi / 4 - 0.01


@given(st.sampled_from([0.5 * np.pi, -0.5 * np.pi]), st.floats(-1.0, 1.0))
def test_pushing_fingers_lie_across_the_push(direction: float, current: float) -> None:
    yaw = PANDA_TOOL.across_yaw(direction, current)
    assert abs(np.cos(yaw + PANDA_TOOL.closing_angle - direction)) < 1e-9
    assert abs(yaw) <= MAX_YAW


def test_a_urdf_without_the_finger_joint_is_refused() -> None:
    broken = replace(PANDA, gripper=replace(PANDA.gripper, joint_names=("no_such_joint",)))
    with pytest.raises(ConfigurationError, match="no_such_joint"):
        tool_of(broken, Kinematics(PANDA).forward_frame)


# ---- motion

positions = st.tuples(st.floats(0.3, 0.6), st.floats(-0.25, 0.25), st.floats(0.02, 0.35)).map(np.array)


@settings(max_examples=60, deadline=None)
@given(positions, positions, st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.sampled_from([0.0, 0.05, 0.1]))
def test_every_start_reaches_every_goal_within_the_pace(
    start: np.ndarray, end: np.ndarray, yaw: float, turn: float, hover: float
) -> None:
    pose = Pose(start, PANDA_TOOL.orientation(yaw))
    goal = Goal(end, PANDA_TOOL.orientation(turn), hover)
    for _ in range(120):
        after = step(pose, goal, PACE, 0.2)
        assert np.linalg.norm(after.position - pose.position) <= PACE.speed * 0.2 + 1e-9
        assert rotations.angle_between(pose.quaternion, after.quaternion) <= PACE.angular_speed * 0.2 + 1e-6
        pose = after
    np.testing.assert_allclose(pose.position, end, atol=1e-3)
    assert rotations.angle_between(pose.quaternion, goal.quaternion) < 1e-2


@settings(max_examples=60, deadline=None)
@given(positions, positions)
def test_comes_down_only_when_above(start: np.ndarray, end: np.ndarray) -> None:
    assume(np.hypot(*(start - end)[:2]) > 0.05)
    goal = Goal(np.array([end[0], end[1], 0.02]), PANDA_TOOL.orientation(0.0), 0.08)
    pose = Pose(np.array([start[0], start[1], max(start[2], 0.12)]), PANDA_TOOL.orientation(0.0))
    for _ in range(100):
        pose = step(pose, goal, PACE, 0.2)
        if pose.position[2] < 0.05:
            assert np.hypot(*(pose.position - goal.position)[:2]) < 0.012


@settings(deadline=None)
@given(positions, positions, st.floats(-1.0, 1.0), st.integers(0, 3), st.integers(1, 4))
def test_replanning_along_the_way_gives_the_rest_of_the_same_path(
    start: np.ndarray, end: np.ndarray, turn: float, committed: int, later: int
) -> None:
    goal = Goal(end, PANDA_TOOL.orientation(turn), 0.08)
    first = Schedule(3.0, 0.2, 10, committed)
    plan = make_plan(Pose(start, PANDA_TOOL.orientation(0.0)), goal, PACE, first, None)
    second = Schedule(3.0 + 0.2 * later, 0.2, 10 - later, committed)
    again = make_plan(plan.pose(second.start), goal, PACE, second, plan)
    np.testing.assert_allclose(deltas(again, second), deltas(plan, first)[later:], atol=1e-6)


@settings(deadline=None)
@given(positions, positions, st.integers(1, 4))
def test_nothing_is_asked_for_before_it_can_have_been_heard(
    start: np.ndarray, end: np.ndarray, committed: int
) -> None:
    pose = Pose(start, PANDA_TOOL.orientation(0.0))
    schedule = Schedule(0.0, 0.2, 8, committed)
    rows = deltas(make_plan(pose, Goal(end, pose.quaternion), PACE, schedule, None), schedule)
    np.testing.assert_allclose(rows[:committed], 0.0, atol=1e-12)


def test_a_changed_mind_lets_steps_under_way_finish() -> None:
    pose = Pose(np.array([0.45, 0.0, 0.2]), PANDA_TOOL.orientation(0.0))
    schedule = Schedule(0.0, 0.2, 8, 2)
    going = make_plan(pose, Goal(np.array([0.45, 0.2, 0.2]), pose.quaternion), PACE, schedule, None)
    later = Schedule(0.6, 0.2, 8, 2)
    stopping = make_plan(going.pose(0.6), None, PACE, later, going)
    rows = deltas(stopping, later)
    np.testing.assert_allclose(rows[:2], deltas(going, schedule)[3:5], atol=1e-9)
    np.testing.assert_allclose(rows[2:], 0.0, atol=1e-12)


def test_a_plan_rests_before_and_after() -> None:
    poses = [Pose(np.array([0.1 * k, 0.0, 0.0]), rotations.IDENTITY) for k in range(3)]
    plan = Plan(1.0, 0.2, poses)
    np.testing.assert_allclose(
        [plan.pose(t).position[0] for t in (0.0, 1.1, 1.3, 9.0)], [0.0, 0.05, 0.15, 0.2]
    )


def test_speed_is_gained_gradually() -> None:
    pose = Pose(np.array([0.45, -0.2, 0.2]), PANDA_TOOL.orientation(0.0))
    goal = Goal(np.array([0.45, 0.2, 0.2]), pose.quaternion)
    schedule = Schedule(0.0, 0.2, 8, 1)
    plan = make_plan(pose, goal, PACE, schedule, None)
    lengths = np.linalg.norm(deltas(plan, schedule)[:, :3], axis=1)
    assert np.diff(lengths).max() <= PACE.acceleration * 0.2**2 + 1e-9
    assert lengths.max() == pytest.approx(PACE.speed * 0.2)
    turning = make_plan(pose, Goal(pose.position, PANDA_TOOL.orientation(1.5)), PACE, schedule, None)
    angles = np.abs(deltas(turning, schedule)[:, 5])
    assert np.diff(angles).max() <= PACE.angular_acceleration * 0.2**2 + 1e-9
    assert angles.max() == pytest.approx(PACE.angular_speed * 0.2)
    later = Schedule(0.8, 0.2, 8, 0)
    assert deltas(make_plan(plan.pose(0.8), goal, PACE, later, plan), later)[0, 1] == pytest.approx(
        lengths.max()
    )


def test_a_lag_is_taken_over_in_part_a_lasting_difference_at_last_a_failure_at_once() -> None:
    at = lambda x: Pose(np.array([x, 0.0, 0.2]), rotations.IDENTITY)  # noqa: E731
    plan = Plan(0.0, 0.2, [at(0.40), at(0.42)])
    assert observed(at(0.1), None, 0.0).position[0] == 0.1
    assert 0.413 < observed(at(0.40), plan, 0.2).position[0] < 0.419
    believed = plan
    for _ in range(20):
        believed = Plan(0.0, 0.2, [observed(at(0.40), believed, 0.2)])
    assert believed.pose(0.2).position[0] == pytest.approx(0.40, abs=1e-3)
    assert observed(at(0.30), plan, 0.2).position[0] == 0.30


def test_without_a_goal_nothing_moves() -> None:
    schedule = Schedule(0.0, 0.2, 6, 1)
    pose = Pose(np.zeros(3), rotations.IDENTITY)
    rows = deltas(make_plan(pose, None, PACE, schedule, None), schedule)
    np.testing.assert_allclose(rows, 0.0, atol=1e-12)


def test_deltas_add_up_to_the_goal() -> None:
    pose = Pose(np.array([0.45, 0.0, 0.2]), PANDA_TOOL.orientation(0.3))
    goal = Goal(np.array([0.46, 0.01, 0.19]), PANDA_TOOL.orientation(0.1))
    schedule = Schedule(0.0, 0.2, 14, 2)
    rows = deltas(make_plan(pose, goal, PACE, schedule, None), schedule)
    quaternion = pose.quaternion
    for row in rows:
        quaternion = rotations.multiply(rotations.from_euler_xyz(row[3:]), quaternion)
    np.testing.assert_allclose(pose.position + rows[:, :3].sum(axis=0), goal.position, atol=1e-4)
    assert rotations.angle_between(quaternion, goal.quaternion) < 1e-3


# ---- gripper


@pytest.mark.parametrize("name", ["panda", "widowx", "ur5"])
def test_widths_tell_a_block_from_nothing(name: str) -> None:
    gripper = load_robot(name).gripper
    watch = GripperWatch(gripper, 0.04)
    assert watch.holds(0.04)
    assert watch.holds(0.037)
    assert not watch.holds(gripper.min_width)
    assert not watch.holds(gripper.max_width)
    assert watch.is_open(gripper.max_width)
    assert not watch.is_open(0.041)


def test_rest_is_a_width_that_stays() -> None:
    watch = GripperWatch(PANDA.gripper, 0.04)
    now = Situation(0, Pose(np.zeros(3), rotations.IDENTITY), 0.0, 0.08, Tracker())
    watch.restart(now)
    rest = []
    for k, width in enumerate([0.08, 0.06, 0.042, 0.0401, 0.0400, 0.0402]):
        rest.append(watch.at_rest(replace(now, stamp=k * SECOND // 5, width=width), 0.35))
    assert rest == [False, False, False, False, False, True]
