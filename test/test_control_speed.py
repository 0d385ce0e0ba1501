"""Speeds of tool and elbow: the kernel's kinematics, what is certified of stops, and proposals."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.control.motion import JointMotion, Stop, gentle
from vla_ros.control.speed import _AHEAD, _PACED, SpeedLimits
from vla_ros.kernels.speed import foreseen, speeds
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import InterventionAction, Reason

ROBOTS = st.sampled_from(robot_names())
SEEDS = st.integers(0, 2**32 - 1)


@functools.cache
def parts(name):
    spec = load_robot(name)
    kinematics = Kinematics(spec)
    return spec, kinematics, SpeedLimits(spec, kinematics, 1.0 / spec.control_rate)


def shares(name, q, v):
    """(3,) of the limits, by pinocchio."""
    spec, kinematics, _ = parts(name)
    tool, elbow = kinematics.jacobian(q) @ v, kinematics.elbow_jacobian(q) @ v
    found = [np.linalg.norm(part) for part in (tool[:3], tool[3:], elbow[:3])]
    return np.array(found) / [spec.tcp.speed, spec.tcp.angular_speed, spec.tcp.speed]


def motion(name, random, share):
    """Anywhere, with any acceleration, at `share` of the first speed limit that its velocity meets."""
    spec, _, _ = parts(name)
    limits = spec.applied
    q = random.uniform(limits.position_min, limits.position_max)
    v = random.normal(size=spec.dof) * random.choice([0.0, 1.0], spec.dof, p=[0.3, 0.7])
    v = v * share / max(shares(name, q, v).max(), 1e-9)
    v = np.clip(v, -limits.velocity, limits.velocity)
    return JointMotion(q, v, random.uniform(-1.0, 1.0, spec.dof) * limits.acceleration)


def before(name, after):
    """A posture from which the tick to `after` is as fast as `after` itself."""
    spec, _, _ = parts(name)
    before = after.positions - after.velocities / spec.control_rate
    return JointMotion(before, after.velocities, after.accelerations)


@given(ROBOTS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_kernel_has_pinocchios_kinematics(name, seed):
    spec, _, limits = parts(name)
    random = np.random.default_rng(seed)
    q = random.uniform(spec.applied.position_min, spec.applied.position_max)
    v = random.normal(size=spec.dof)
    wanted = shares(name, q, v) * limits._limits
    np.testing.assert_allclose(speeds(limits._chain, limits._ends, q, v), wanted, rtol=1e-12, atol=1e-12)


@given(ROBOTS, SEEDS, st.floats(0.3, 1.05))
@settings(max_examples=120, deadline=None)
def test_a_certified_stop_is_nowhere_too_fast_and_a_refused_one_is_somewhere(name, seed, share):
    spec, _, limits = parts(name)
    random = np.random.default_rng(seed)
    begin = motion(name, random, share)
    stop = Stop(begin, spec.applied)
    objection = limits.objection(begin, stop, begin)
    states = [stop.at(t) for t in np.linspace(0.0, stop.duration, 400)]
    most = max(shares(name, state.positions, state.velocities).max() for state in states)
    if objection is None:
        assert most <= 1.0 + 1e-9
    else:
        assert objection.reason in (Reason.TCP_SPEED, Reason.ELBOW_SPEED)
        assert objection.action is InterventionAction.STOP
        assert most > 0.97, "what lies between two looks is bounded, and the bound is not coarse"


def test_some_stops_are_faster_than_their_beginning():
    """Why the whole stop is looked at: joints brake at different rates, and may have cancelled each other."""
    random, found = np.random.default_rng(1), 0
    for name in robot_names():
        spec, _, limits = parts(name)
        for _ in range(200):
            begin = motion(name, random, 0.9)
            begin = JointMotion(begin.positions, begin.velocities, np.zeros(spec.dof))
            found += limits.objection(begin, Stop(begin, spec.applied), begin) is not None
    assert found > 0


@given(ROBOTS, SEEDS, st.floats(0.5, 1.5))
@settings(max_examples=100, deadline=None)
def test_the_mean_speed_of_a_tick_is_judged(name, seed, share):
    spec, kinematics, limits = parts(name)
    random = np.random.default_rng(seed)
    here = spec.home
    way = random.normal(size=spec.dof)
    way *= share / shares(name, here, way).max() / spec.control_rate
    there = JointMotion.at_rest(here + way)
    poses = [kinematics.forward(q) for q in (here, there.positions)]
    elbows = [kinematics.forward_frame(q, spec.elbow_frame).position for q in (here, there.positions)]
    angle = 2.0 * np.arccos(min(1.0, abs(float(poses[0].quaternion @ poses[1].quaternion))))
    mean = np.array(
        [np.linalg.norm(poses[1].position - poses[0].position), angle, np.linalg.norm(elbows[1] - elbows[0])]
    )
    most = (mean * spec.control_rate / limits._limits).max()
    found = limits.objection(there, Stop(there, spec.applied), JointMotion.at_rest(here))
    if abs(most - 1.0) > 1e-3:  # the arc cosine knows no more of small angles
        assert (found is not None) == (most > 1.0)


@given(ROBOTS, SEEDS, st.floats(0.2, 2.0))
@settings(max_examples=120, deadline=None)
def test_a_paced_motion_is_one_the_tracker_could_have_made(name, seed, share):
    spec, _, limits = parts(name)
    random = np.random.default_rng(seed)
    period, soft = 1.0 / spec.control_rate, gentle(spec.applied)
    present = motion(name, random, 0.9)
    jerk = random.uniform(-1.0, 1.0, spec.dof) * soft.jerk
    a = np.clip(present.accelerations + jerk * period, -soft.acceleration, soft.acceleration)
    jerk = (a - present.accelerations) / period
    v = share * present.velocities + present.accelerations * period + jerk * period**2 / 2.0
    proposal = JointMotion(present.positions + present.velocities * period, v, a)
    found = []
    paced = limits.paced(proposal, present, found)
    if not found:
        assert paced is proposal
        return
    assert found[0].action is InterventionAction.LIMIT and found[0].amount > 0.0
    assert (np.abs(paced.accelerations) <= soft.acceleration * (1.0 + 1e-9)).all()
    assert (np.abs(paced.accelerations - present.accelerations) <= soft.jerk * period * (1.0 + 1e-9)).all()
    # every joint is on its way, without overshoot, from where it was led to a slower velocity
    _, excess, aimed = foreseen(
        limits._chain, limits._ends, proposal.positions, proposal.velocities, proposal.accelerations,
        soft.jerk, limits._limits, _AHEAD,
    )  # fmt: skip
    goal = aimed * (_PACED / excess)
    assert shares(name, proposal.positions, goal).max() <= _PACED + 1e-9
    ends, led = np.array([_led(present, soft), goal]), _led(paced, soft)
    assert (led >= ends.min(axis=0) - 1e-9).all() and (led <= ends.max(axis=0) + 1e-9).all()


def _led(state, limits):
    return state.velocities + np.abs(state.accelerations) * state.accelerations / (2.0 * limits.jerk)


def test_what_is_not_finite_is_refused():
    spec, _, limits = parts("panda")
    for bad in (np.nan, np.inf):
        broken = JointMotion(np.full(7, bad), np.zeros(7), np.zeros(7))
        here = JointMotion.at_rest(spec.home)
        assert limits.objection(broken, Stop(broken, spec.applied), here) is not None
