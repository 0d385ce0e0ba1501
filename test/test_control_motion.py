"""Stops and tracking: limits hold, stops agree with Ruckig, references are followed."""

from __future__ import annotations

import numpy as np
import pytest
import ruckig
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_ros.control.motion import JointMotion, Stop, Tracker, overspeed
from vla_ros.robots.spec import JointLimits

ONE = np.ones(3)
LIMITS = JointLimits(-2 * ONE, 2 * ONE, 1.1 * ONE, 5.0 * ONE, 400.0 * ONE, 50.0 * ONE)
SLOW = JointLimits(-2 * ONE, 2 * ONE, 3.1 * ONE, 5.0 * ONE, 50.0 * ONE, 50.0 * ONE)


def motions(limits):
    """Motions that could be on their way: within velocity and acceleration limits."""
    part = st.floats(-1.0, 1.0)
    three = st.tuples(part, part, part)
    return st.builds(
        lambda p, v, a: JointMotion(
            np.array(p), np.array(v) * limits.velocity, np.array(a) * limits.acceleration
        ),
        three, three, three,
    )  # fmt: skip


def ruckig_stop(motion, limits):
    n = len(motion.positions)
    otg, inp, trajectory = ruckig.Ruckig(n), ruckig.InputParameter(n), ruckig.Trajectory(n)
    inp.control_interface = ruckig.ControlInterface.Velocity
    inp.synchronization = ruckig.Synchronization.No
    inp.current_position = motion.positions.tolist()
    inp.current_velocity = motion.velocities.tolist()
    inp.current_acceleration = motion.accelerations.tolist()
    inp.target_velocity, inp.target_acceleration = [0.0] * n, [0.0] * n
    inp.max_acceleration, inp.max_jerk = limits.acceleration.tolist(), limits.jerk.tolist()
    assert otg.calculate(inp, trajectory) == ruckig.Result.Working
    return trajectory


@pytest.mark.parametrize("limits", [LIMITS, SLOW])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_stop_is_that_of_ruckig(limits, data):
    motion = data.draw(motions(limits))
    stop, other = Stop(motion, limits), ruckig_stop(motion, limits)
    assert stop.duration == pytest.approx(other.duration, abs=1e-6)
    for time in np.linspace(0.0, other.duration, 7):
        p, v, a = other.at_time(float(time))
        ours = stop.at(float(time))
        np.testing.assert_allclose(ours.positions, p, atol=1e-8)
        np.testing.assert_allclose(ours.velocities, v, atol=1e-5)
    rest = stop.at(stop.duration)
    assert rest.resting


@pytest.mark.parametrize("limits", [LIMITS, SLOW])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_extrema_bound_the_way_and_are_reached(limits, data):
    motion = data.draw(motions(limits))
    stop = Stop(motion, limits)
    low, high = stop.extrema()
    way = np.array([stop.at(t).positions for t in np.linspace(0.0, stop.duration, 400)])
    assert (way.min(axis=0) >= low - 1e-9).all()
    assert (way.max(axis=0) <= high + 1e-9).all()
    np.testing.assert_allclose(way.min(axis=0), low, atol=1e-3)
    np.testing.assert_allclose(way.max(axis=0), high, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), limits=st.sampled_from([LIMITS, SLOW]), period=st.sampled_from([0.001, 0.004, 0.01]))
def test_tracking_keeps_every_limit_whatever_the_reference(data, limits, period):
    """Finite differences of the commands, which the tracker knows nothing of, stay inside the limits."""
    seed = data.draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    tracker, motion = Tracker(limits, period), JointMotion.at_rest(np.zeros(3))
    commands = [motion.positions]
    reference = np.zeros((3, 3))
    for tick in range(150):
        if tick % 20 == 0:
            reference = random.normal(size=(3, 3)) * random.choice([0.1, 1.0, 10.0])
        following = tracker.step(motion, *reference)
        assert following is not None
        assert not overspeed(following, limits)
        motion = following
        commands.append(motion.positions)
    q = np.array([commands[0]] * 3 + commands)
    for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
        derivative = np.diff(q, order, axis=0) / period**order
        # references go to about 40 rad here, and positions are rounded in their size
        noise = 2.0**order * np.finfo(float).eps * 40.0 / period**order
        assert (np.abs(derivative) <= limit * (1 + 1e-8) + 2 * noise).all(), order


@given(st.floats(0.5, 4.0), st.floats(0.02, 0.2))
@settings(max_examples=25, deadline=None)
def test_a_reference_within_the_limits_is_followed_closely(frequency, amplitude):
    assume(amplitude * frequency < 0.5 and amplitude * frequency**2 < 2.5)
    period, tracker = 0.004, Tracker(LIMITS, 0.004)
    motion, errors = JointMotion.at_rest(np.zeros(3)), []
    for tick in range(1000):
        t = tick * period
        wave = [
            np.sin(frequency * t),
            frequency * np.cos(frequency * t),
            -(frequency**2) * np.sin(frequency * t),
        ]
        motion = tracker.step(motion, *(amplitude * w * ONE for w in wave))
        errors.append(np.abs(motion.positions - amplitude * np.sin(frequency * (t + period))).max())
    assert max(errors[500:]) < 1e-5


def test_a_state_that_is_not_finite_gives_no_motion():
    tracker = Tracker(LIMITS, 0.004)
    assert tracker.step(JointMotion.at_rest(np.zeros(3)), ONE * np.nan, 0 * ONE, 0 * ONE) is None


def test_a_still_robot_stops_where_it_is():
    stop = Stop(JointMotion.at_rest(ONE), LIMITS)
    assert stop.duration == 0.0
    np.testing.assert_array_equal(stop.at(1.0).positions, ONE)
