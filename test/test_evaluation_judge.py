"""Whole runs: loaded from bags, judged, their latencies measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import START, motion, write_fake_run

from vla_ros.data.bag import BagWriter
from vla_ros.evaluation.judge import judge_bag, judge_run, judge_setpoints
from vla_ros.evaluation.latency import hops, rates
from vla_ros.evaluation.run_data import Setpoints, load_run
from vla_ros.evaluation.speeds import judge_speeds
from vla_ros.evaluation.urdf_chain import UrdfChain, joint_values, read_urdf
from vla_ros.evaluation.violations import Run
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.spec import RobotSpec


@pytest.mark.parametrize("name", robot_names())
def test_a_clean_run_is_clean(tmp_path: Path, name: str) -> None:
    robot = load_robot(name)
    q = motion(robot, 3.0)
    run = load_run(write_fake_run(tmp_path / "bag", robot, 3.0, images=False), robot)
    np.testing.assert_array_equal(run.setpoints.positions, q)
    assert run.closed and len(run.measured.stamps) == len(q) and run.start == START
    verdict = judge_run(run, robot)
    assert verdict.violations == () and verdict.ticks == len(q) and verdict.runs == 1
    assert verdict.period == pytest.approx(1 / robot.simulated_control_rate)
    assert (verdict.peaks < 1).all() and verdict.peaks[0].max() > 0.05
    assert all(0 < share < 1 for share in verdict.speeds.shares) and verdict.lowest_point > 0
    assert "No limit was broken" in verdict.sentence()


def test_broken_limits_are_found_in_a_bag(tmp_path: Path) -> None:
    robot = load_robot("panda")
    q = motion(robot, 3.0)
    q[350:, 2] += 0.02
    verdict = judge_run(
        load_run(write_fake_run(tmp_path / "a", robot, positions=q, images=False), robot), robot
    )
    joint, cartesian = {"velocity", "acceleration", "jerk"}, {"tcp_speed", "tcp_turn", "elbow_speed"}
    assert set(verdict.by_kind) == joint | cartesian
    assert all(351 <= v.tick <= 354 for v in verdict.violations)
    assert {v.subject for v in verdict.violations if v.kind in joint} == {"panda_joint3"}
    # the jump is one tick long, so only that tick is too fast for tool and elbow
    assert {(v.subject, v.tick - 351) for v in verdict.violations if v.kind in cartesian} == {
        ("tcp", 0),
        (robot.elbow_frame, 0),
    }
    assert "violations" in verdict.sentence() and "panda_joint3" in verdict.sentence()


@pytest.mark.parametrize("name", robot_names())
def test_tool_turn_and_elbow_that_are_too_fast_are_found(name: str) -> None:
    """One joint alone, at a velocity that is fine for the joint: just below each limit, and just above."""
    robot = load_robot(name)
    period, found = 1.0 / robot.simulated_control_rate, set[str]()
    chain = read_urdf(robot.urdf, robot.urdf_path)
    limits = np.array([robot.tcp.speed, robot.tcp.angular_speed, robot.tcp.speed])
    kinds = ("tcp_speed", "tcp_turn", "elbow_speed")
    # a second from rest to a velocity and one of it; the way there is slower, so only the end counts
    s = np.arange(0.0, 2.0, period)
    way = np.where(s < 1.0, s**3 - 0.5 * s**4, s - 0.5)
    for joint in range(robot.dof):
        sign = 1.0 if robot.home[joint] < 0.0 else -1.0
        shares = _own_speeds(chain, robot, robot.home, joint, sign) / limits
        for row in np.flatnonzero(shares > 0.01):
            for share in (0.999, 1.001):
                rate = share / shares[row]
                if rate > robot.applied.velocity[joint]:
                    continue
                q = np.tile(robot.home, (len(s), 1))
                q[:, joint] += sign * rate * (way - way[-1] / 2.0)
                verdict = judge_setpoints(_setpoints(robot, q, period), robot)
                np.testing.assert_allclose(verdict.speeds.shares, rate * shares, rtol=1e-4, atol=1e-9)
                guilty = {kind for kind in verdict.by_kind if kind in kinds}
                assert guilty == {kind for kind, part in zip(kinds, rate * shares, strict=True) if part > 1.0}
                assert (kinds[row] in guilty) == (share > 1.0), (joint, share, verdict.sentence())
                found |= guilty
    assert {"tcp_speed", "tcp_turn"} <= found


def _setpoints(robot: RobotSpec, q: np.ndarray, period: float) -> Setpoints:
    """Commands q (N, n), one a period, with an open gripper."""
    count, nothing = len(q), np.zeros_like(q)
    numbers = np.arange(1, count + 1)
    stamps = START + np.round(numbers * period * 1e9).astype(np.int64)
    widths, zero = np.full(count, robot.gripper.max_width), np.zeros(count, np.int64)
    return Setpoints(stamps, stamps, numbers, q, nothing, nothing, widths, zero, zero)


def _own_speeds(chain: UrdfChain, robot: RobotSpec, q: np.ndarray, joint: int, sign: float) -> np.ndarray:
    """(3,) of tool, turn and elbow when one joint moves at 1 rad/s; they do not depend on where it stands."""
    rows = np.stack([q, q])
    rows[1, joint] += sign * 1e-3
    values = joint_values(robot.joint_names, rows, robot.gripper, np.full(2, robot.gripper.max_width))
    speeds, _ = judge_speeds(chain, values, np.arange(2), [Run(0, 2, True)], robot, 1e-3)
    tool = chain.poses(robot.tcp_frame, values)
    assert speeds.tool == pytest.approx(float(np.linalg.norm(tool[1, :3, 3] - tool[0, :3, 3])) / 1e-3)
    return np.array([speeds.tool, speeds.turn, speeds.elbow])


def test_leaving_box_and_floor_and_folding_up_are_found(tmp_path: Path) -> None:
    robot = load_robot("panda")
    down = robot.home.copy()
    down[1] += 0.9
    folded = robot.home.copy()
    folded[[3, 5]] = -2.9, 1.0
    for name, goal, kinds in (("a", down, {"floor", "workspace"}), ("b", folded, {"self_collision"})):
        s = np.linspace(0, 1, 1500)[:, None]
        q = robot.home + (goal - robot.home) * (10 * s**3 - 15 * s**4 + 6 * s**5)
        bag = write_fake_run(tmp_path / name, robot, positions=q, images=False)
        assert kinds <= set(judge_bag(bag, robot).by_kind)


def test_a_command_that_is_no_setpoint_is_found(tmp_path: Path) -> None:
    robot = load_robot("widowx")
    bag = write_fake_run(tmp_path / "bag", robot, 3.0, images=False)
    run = load_run(bag, robot)
    assert run.commands.positions.dtype == np.float64 and judge_run(run, robot).violations == ()
    run.commands.positions[100, 2] += 1e-3
    (found,) = judge_run(run, robot).violations
    assert found.kind == "foreign_command" and found.value == pytest.approx(1e-3, rel=0.6)


def test_latencies_are_those_that_were_written(tmp_path: Path) -> None:
    robot = load_robot("ur5e")
    run = load_run(write_fake_run(tmp_path / "bag", robot, 3.0, images=False), robot)
    found = {hop.name: hop for hop in hops(run)}
    np.testing.assert_allclose(found["camera stamp to Observation"].seconds, 0.012)
    np.testing.assert_allclose(found["Observation to PolicyOutput"].percentile(0), 0.063)
    np.testing.assert_allclose(found["PolicyOutput to ActionChunk"].seconds, 0.002)
    last = found["ActionChunk to first command"]
    assert len(last.seconds) > 8 and 0.05 < last.percentile(50) < 0.07
    by_topic = {rate.topic: rate for rate in rates(run)}
    assert by_topic["/vla/joint_setpoint"].rate == pytest.approx(robot.simulated_control_rate, rel=1e-3)
    assert by_topic["/vla/observation"].largest_gap == pytest.approx(0.2)


def test_a_run_without_anything_says_so(tmp_path: Path) -> None:
    robot = load_robot("panda")
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/other", "std_msgs/Int64", 5, writer.types.create("std_msgs/Int64", data=1))
    run = load_run(tmp_path / "bag", robot)
    verdict = judge_run(run, robot)
    assert verdict.ticks == 0 and "Nothing to judge" in verdict.sentence()
    assert all(len(hop.seconds) == 0 and np.isnan(hop.percentile(50)) for hop in hops(run))


def test_a_clock_set_forward_in_motion_is_no_restart_and_an_activation_is_one(tmp_path: Path) -> None:
    robot = load_robot("panda")
    run = load_run(write_fake_run(tmp_path / "bag", robot, 3.0, images=False), robot)
    moving = int(np.argmax(np.abs(np.diff(run.setpoints.positions[:, 2]))))
    stamps = run.setpoints.stamps.copy()
    stamps[moving:] += 5_000_000_000
    forward = judge_setpoints(replace(run.setpoints, stamps=stamps), robot)
    assert forward.violations == () and forward.runs == 1
    elsewhere = run.setpoints.positions.copy()
    elsewhere[moving:] = elsewhere[moving] + 0.02
    anew = judge_setpoints(replace(run.setpoints, stamps=stamps, positions=elsewhere), robot)
    assert anew.runs == 2


def test_a_setpoint_that_is_stamped_too_early_is_still_the_next_one(tmp_path: Path) -> None:
    robot = load_robot("panda")
    bag = write_fake_run(tmp_path / "bag", robot, 3.0, images=False, early={350: 9_000_000})
    run = load_run(bag, robot)
    assert (np.diff(run.setpoints.ticks) == 1).all()
    verdict = judge_run(run, robot)
    assert verdict.violations == () and verdict.runs == 1
