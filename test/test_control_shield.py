"""The shield and what it certifies with: lever arms, margins along stops."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shields import shield_with

from vla_ros.control.barriers import FloorBarrier, SelfCollisionBarrier, make_barriers
from vla_ros.control.motion import JointMotion, Stop
from vla_ros.evaluation.speeds import judge_speeds
from vla_ros.evaluation.urdf_chain import joint_values, read_urdf
from vla_ros.evaluation.violations import Run
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics

ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")


@functools.cache
def parts(robot):
    spec = load_robot(robot)
    return spec, make_barriers(spec, Kinematics(spec))


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_no_margin_changes_faster_than_its_reach(robot, seed):
    spec, barriers = parts(robot)
    random = np.random.default_rng(seed)
    limits = spec.applied
    a = random.uniform(limits.position_min, limits.position_max)
    scale = random.choice([0.03, 0.3])
    b = np.clip(a + random.normal(size=spec.dof) * scale, limits.position_min, limits.position_max)
    for barrier in barriers:
        # a margin beyond the slow-down zone may be a bound, which says nothing about the margin elsewhere;
        # the shield relies on this alone: what is true elsewhere is no less than a bound here less the reach
        least = barrier.margins(a, 0.05) - barrier.reach @ np.abs(b - a) - 1e-6
        true = exact(barrier, b)
        assert (true >= least)[least > 0.0].all()
        assert (barrier.margins(b, 0.05) <= true + 1e-6)[true > 0.0].all()


def exact(barrier, q):
    """Margins (m,), none of them a bound."""
    if isinstance(barrier, SelfCollisionBarrier):
        return barrier._collision.least_distances(q, 0.05) - barrier._stop
    if isinstance(barrier, FloorBarrier):
        return barrier._collision.least_floor_heights(q, 0.05)
    return barrier.margins(q, 0.05)


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize("robot", ("panda", "ur5", "widowx"))
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_hostile_proposals_never_get_past_the_shield(robot, fast, seed):
    """Random jerks within the limits, proposed without any shaping: the shield alone keeps everything."""
    spec, barriers = parts(robot)
    limits, random = spec.applied, np.random.default_rng(seed)
    period, width = 0.004, spec.gripper.max_width
    shield = shield_with(spec, barriers, period, fast)
    start = JointMotion.at_rest(spec.home)
    shield.anchor(start, width)
    commands, refusals = [start.positions] * 4, 0
    push = np.zeros(spec.dof)
    for tick in range(500):
        motion = shield.motion
        if tick % 50 == 0:
            push = random.choice([-1.0, 1.0], spec.dof) * limits.velocity
        # greedy: full jerk towards the wanted velocity, acceleration clipped
        wanted = np.clip((push - motion.velocities) / 0.02, -limits.acceleration, limits.acceleration)
        step = limits.jerk * period
        a = np.clip(wanted, motion.accelerations - step, motion.accelerations + step)
        jerk = (a - motion.accelerations) / period
        proposal = JointMotion(
            motion.positions + motion.velocities * period + motion.accelerations * period**2 / 2
            + jerk * period**3 / 6,
            motion.velocities + motion.accelerations * period + jerk * period**2 / 2,
            a,
        )  # fmt: skip
        verdict = shield.judge(proposal, width)
        refusals += verdict.refused is not None
        commands.append(verdict.motion.positions)
    q = np.array(commands)
    assert (q >= limits.position_min - 1e-9).all() and (q <= limits.position_max + 1e-9).all()
    for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
        found = np.abs(np.diff(q, order, axis=0)) / period**order
        assert (found <= limit * (1 + 1e-6) + 1e-6).all(), order
    for positions in q[::3]:
        for barrier in barriers:
            assert barrier.margins(positions, width).min() > -1e-5, barrier.reason
    values = joint_values(spec.joint_names, q, spec.gripper, np.full(len(q), width))
    ticks = np.arange(len(q))
    speeds, too_fast = judge_speeds(
        read_urdf(spec.urdf, spec.urdf_path), values, ticks, [Run(0, len(q), True)], spec, period
    )
    assert fast or not too_fast
    assert max(speeds.shares) > (1.0 if fast else 0.5)
    assert refusals > 0, "the test must push against something"


def test_without_a_proposal_the_robot_stops_and_stays():
    spec, barriers = parts("panda")
    shield = shield_with(spec, barriers, 0.004)
    shield.anchor(JointMotion.at_rest(spec.home), 0.08)
    moving = JointMotion(spec.home, np.full(7, 0.001), np.zeros(7))
    assert shield.judge(moving, 0.08).refused is None
    duration = Stop(moving, spec.applied).duration
    for _ in range(int(duration / 0.004) + 2):
        verdict = shield.judge(None, 0.08)
        assert verdict.refused is not None
    assert verdict.motion.resting
