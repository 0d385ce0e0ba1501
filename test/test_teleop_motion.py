"""What a person asks for becomes what a policy would have to output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.actions import action_space_names, decode, rotations
from vla_ros.contract import Contract, load_contract
from vla_ros.robots.kinematics import Kinematics
from vla_ros.teleop.command import Command, Press
from vla_ros.teleop.grid import LEAD, Grid
from vla_ros.teleop.motion import ANGLE, LENGTH, LEVELS, Motion
from vla_ros.teleop.panel import Painter, PanelState, panel_lines
from vla_ros.types import ActionChunk, ActionKind, Pose, Source

SPACES = [name for name in action_space_names() if name != "fractal_sticky"]
TICK = 0.01


class Robot:
    """A robot that does at once what it is told."""

    def __init__(self, space: str, robot: str = "panda") -> None:
        self.contract: Contract = load_contract(robot, action_space=space)
        self.kinematics = Kinematics(self.contract.robot)
        self.motion = Motion(self.contract)
        self.pose = self.kinematics.forward(self.contract.robot.home)
        self.width = self.contract.robot.gripper.max_width
        self.motion.anchor(self.pose, self.contract.robot.home, self.width)
        self.count = 0
        self.rows: list[np.ndarray] = []

    def period(self, command: Command) -> ActionChunk:
        """One period of a command that stays."""
        for _ in range(round(self.contract.action_space.period / TICK)):
            self.motion.add(command, TICK)
        self.count += 1
        output = self.motion.action(self.count, self.count, self.pose)
        assert output.source is Source.PERSON and output.values is not None
        assert output.values.shape == (1, self.contract.action_space.dimension)
        assert (output.values == output.values.astype(np.float32)).all()
        self.rows.append(output.values[0])
        chunk = decode(output, self.contract.action_space, self.contract.robot.gripper)
        if chunk.kind is ActionKind.CARTESIAN_DELTA:
            turned = rotations.multiply(chunk.quaternion[0], self.pose.quaternion)
            self.pose = Pose(self.pose.position + chunk.translation[0], rotations.normalize(turned))
        elif chunk.kind is ActionKind.CARTESIAN_ABSOLUTE:
            self.pose = Pose(chunk.translation[0], chunk.quaternion[0])
        else:
            self.pose = self.kinematics.forward(chunk.joints[0])
        self.width = float(chunk.gripper_width[0])
        return chunk


def moving(axis: int, sign: float = 1.0, **more: object) -> Command:
    motion = np.zeros(6)
    motion[axis] = sign
    return Command(motion[:3], motion[3:], True, **more)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("axis", range(6))
def test_every_space_moves_the_tool_the_same_way(space: str, axis: int) -> None:
    robot = Robot(space)
    start = robot.pose
    seconds = 6 * round(robot.contract.action_space.period / TICK) * TICK
    for _ in range(6):
        robot.period(moving(axis))
    moved = robot.pose.position - start.position
    turned = rotations.log(rotations.multiply(robot.pose.quaternion, rotations.conjugate(start.quaternion)))
    wanted = np.zeros(6)
    wanted[axis] = seconds * (LEVELS[2] if axis < 3 else 5.0 * LEVELS[2])
    np.testing.assert_allclose(moved, wanted[:3], atol=2e-4)
    np.testing.assert_allclose(turned, wanted[3:], atol=2e-3)


@pytest.mark.parametrize("space", SPACES)
def test_a_device_that_knows_where_the_tool_is_to_be_brings_it_there(space: str) -> None:
    robot = Robot(space)
    start = robot.pose
    turn = rotations.exp(np.array([0.0, 0.0, 0.2]))
    goal = Pose(start.position + [0.04, -0.06, 0.03], rotations.multiply(turn, start.quaternion))
    for _ in range(12):
        robot.period(Command(engaged=True, pose=goal, width=0.0))
    np.testing.assert_allclose(robot.pose.position, goal.position, atol=1e-3)
    turned = rotations.log(rotations.multiply(robot.pose.quaternion, rotations.conjugate(goal.quaternion)))
    assert np.linalg.norm(turned) < 5e-3 and robot.motion.closed
    # nobody asks any more, and what is not finite is no goal
    there = robot.pose.position
    for command in (Command(), Command(engaged=True, pose=Pose(goal.position * np.nan, goal.quaternion))):
        robot.period(command)
        np.testing.assert_allclose(robot.pose.position, there, atol=1e-3)


@pytest.mark.parametrize("space", SPACES)
def test_idle_is_null_for_deltas_and_the_same_numbers_for_the_rest(space: str) -> None:
    robot = Robot(space)
    for _ in range(3):
        robot.period(moving(0))
    before = robot.rows[-1]
    robot.period(Command())
    idle = robot.rows[-1]
    if robot.contract.action_space.kind is ActionKind.CARTESIAN_DELTA:
        assert not idle[:-1].any()
    else:
        np.testing.assert_array_equal(idle[:-1], before[:-1])
    robot.period(Command())
    np.testing.assert_array_equal(robot.rows[-1], idle)
    assert not robot.motion.moving


@pytest.mark.parametrize("space", SPACES)
def test_the_gripper_is_toggled_in_every_convention(space: str) -> None:
    robot = Robot(space)
    gripper = robot.contract.robot.gripper
    toggle = Command(presses=(Press.GRIPPER,))
    robot.motion.add(toggle, TICK)
    assert robot.motion.closed and robot.motion.moving
    relative = robot.contract.action_space.gripper.relative
    for number in range(3):
        chunk = robot.period(Command())
        if not relative or number == 0:
            assert chunk.gripper_width[0] == pytest.approx(gripper.min_width, abs=1e-8)
    robot.motion.add(toggle, TICK)
    assert robot.period(Command()).gripper_width[0] == pytest.approx(gripper.max_width, abs=1e-8)


@settings(max_examples=40)
@given(
    st.sampled_from(SPACES),
    st.lists(st.tuples(*[st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf])] * 6), max_size=6),
)
def test_no_twist_leaves_clips_leash_and_numbers(space: str, twists: list[tuple[float, ...]]) -> None:
    robot = Robot(space)
    measured = robot.pose
    for twist in twists:
        command = Command(np.array(twist[:3]), np.array(twist[3:]), True, physical=True)
        robot.motion.add(command, 10.0)
        output = robot.motion.action(1, 1, measured)
        assert np.isfinite(output.values).all()
        kind = robot.contract.action_space.kind
        chunk = decode(output, robot.contract.action_space, robot.contract.robot.gripper)
        if kind is ActionKind.CARTESIAN_DELTA:
            most = robot.contract.robot.tcp.speed * robot.contract.action_space.period
            assert np.linalg.norm(chunk.translation[0]) <= most + 1e-9
        elif kind is ActionKind.CARTESIAN_ABSOLUTE:
            assert np.linalg.norm(chunk.translation[0] - measured.position) <= LENGTH + 1e-6
            assert rotations.angle_between(chunk.quaternion[0], measured.quaternion) <= ANGLE + 1e-4
        else:
            limits = robot.contract.robot.applied
            assert (chunk.joints[0] >= limits.position_min - 1e-6).all()
            assert (chunk.joints[0] <= limits.position_max + 1e-6).all()


def test_let_go_forgets_what_was_not_sent_and_a_tap_is_not_lost() -> None:
    robot = Robot("delta_tcp")
    robot.motion.add(moving(0), TICK)
    robot.motion.add(Command(), TICK, dead_man=True)
    assert not robot.motion.action(1, 1, robot.pose).values[0, :6].any()
    robot.motion.add(moving(0), TICK)
    robot.motion.add(Command(), TICK, dead_man=False)
    assert robot.motion.action(2, 2, robot.pose).values[0, 0] == pytest.approx(LEVELS[2] * TICK)


def test_levels() -> None:
    robot = Robot("delta_tcp")
    robot.motion.add(Command(level=0), TICK)
    assert robot.motion.speed == LEVELS[0]
    for _ in range(9):
        robot.motion.add(Command(presses=(Press.FASTER,)), TICK)
    assert robot.motion.speed == LEVELS[-1]
    robot.motion.add(Command(presses=(Press.SLOWER,)), TICK)
    assert robot.motion.speed == LEVELS[-2]


@pytest.mark.parametrize("space", ["delta_tcp", "droid", "absolute_tcp", "joint_position"])
def test_a_leader_leads_gently(space: str) -> None:
    robot = Robot(space)
    home = robot.contract.robot.home
    goal = home.copy()
    goal[0] += 0.2
    there = robot.kinematics.forward(goal)
    before = robot.pose
    for _ in range(60):
        robot.period(Command(engaged=True, joints=goal, width=0.02))
        way = np.linalg.norm(robot.pose.position - before.position)
        assert way <= 0.6 * robot.contract.action_space.period
        before = robot.pose
    np.testing.assert_allclose(robot.pose.position, there.position, atol=2e-3)
    assert rotations.angle_between(robot.pose.quaternion, there.quaternion) < 5e-3
    assert robot.width == pytest.approx(0.02, abs=1e-6)


def test_a_new_stream_begins_where_the_robot_is_asked_to_be() -> None:
    robot = Robot("absolute_tcp")
    elsewhere = Pose(robot.pose.position + 0.05, robot.pose.quaternion)
    robot.motion.anchor(elsewhere, robot.contract.robot.home, 0.0)
    row = robot.motion.action(1, 1, elsewhere).values[0]
    np.testing.assert_allclose(row[:3], elsewhere.position, atol=1e-7)
    assert robot.motion.closed and not robot.motion.moving


# -- the grid ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300_000_000), min_size=1, max_size=60), st.sampled_from([3.0, 5.0, 15.0]))
def test_stamps_lie_on_the_grid_each_once_and_never_in_the_future(gaps: list[int], rate: float) -> None:
    grid = Grid(1.0 / rate)
    now = 10**18
    assert grid.due(now) is None
    grid.start(now)
    begun, stamps = now + LEAD, []
    for gap in gaps:
        now += gap
        stamp = grid.due(now)
        if stamp is not None:
            assert stamp <= now and now - stamp < 1e9 / rate + 1
            steps = (stamp - begun) * rate / 1e9
            assert abs(steps - round(steps)) < 1e-6
            stamps.append(stamp)
    assert stamps == sorted(set(stamps))
    if stamps:
        assert len(stamps) + grid.skipped == round((stamps[-1] - begun) * rate / 1e9) + 1


# -- the panel ---------------------------------------------------------------------------------------------

STATE = PanelState("person", "keyboard", True, 0.06, 2, 5, False, 0.08, safety="RUNNING")


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_the_panel_fits(columns: int) -> None:
    long = PanelState(
        "policy", "spacemouse", False, 0.2, 4, 5, True, 0.0, "episode_0001", "RUNNING", 12.0, 60,
        "pick " * 40,
        {"observations": 15.0}, "bags", 3, 10**9, "STOPPED: " + "x" * 200, "leash tcp",
        "bad\x1b[2Jline\n" * 9,
        tuple((key, key * 20) for key in "abcdef"),
    )  # fmt: skip
    lines = panel_lines(long, columns)
    assert all(len(line) <= max(min(78, columns - 1), 20) for line in lines)
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_what_is_under_way_is_shown_before_the_first_episode_too() -> None:
    assert "none yet" in panel_lines(STATE)[2]
    for episode in ("", "episode_0001"):
        state = replace(STATE, doing="going home", episode=episode)
        assert panel_lines(state)[2] == "episode    going home"


def test_the_painter_draws_what_has_changed_in_place() -> None:
    painter = Painter()
    lines = panel_lines(STATE)
    assert painter.paint(lines).count("\r\n") == len(lines)
    assert painter.paint(lines) == ""
    other = [*lines[:-1], "new"]
    drawn = painter.paint(other)
    assert drawn.startswith(f"\x1b[{len(lines)}A") and "new" in drawn and lines[0] not in drawn
    assert painter.paint(other[:3]).endswith("\x1b[J")
