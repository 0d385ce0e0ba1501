"""Driver behaviour: commands are reached within a period and kept; nonsense is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.robots import load_robot
from vla_ros.sim.drivers import DYNAMIXEL_VELOCITY, make_driver

ROBOTS = {name: load_robot(name) for name in ("panda", "ur5", "widowx")}
STEP = 0.001


def play(driver, commands, period, tail=1.0):
    """Ticks of `STEP` with a command every `period`; all targets (ticks, n)."""
    targets, time, due = [], 0.0, 0.0
    pending = list(commands)
    for _ in range(round((len(pending) * period + tail) / STEP)):
        if pending and time >= due - 1e-9:
            driver.command(pending.pop(0), time)
            due += period
        time += STEP
        targets.append(driver.tick(time).copy())
    return np.array(targets)


@pytest.mark.parametrize("robot", ROBOTS)
def test_at_rest_it_stays_and_the_last_command_is_kept(robot):
    spec = ROBOTS[robot]
    driver = make_driver(spec)
    np.testing.assert_array_equal(driver.tick(5.0), spec.home)
    goal = spec.home + 0.01
    driver.command(goal, 5.0)
    for time in np.arange(5.0, 5.5, STEP):
        target = driver.tick(time)
    np.testing.assert_allclose(target, goal, atol=1e-12)
    np.testing.assert_allclose(driver.tick(500.0), goal, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(ROBOTS)), st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=8))
def test_targets_stay_between_commands_and_end_at_the_last(robot, offsets):
    spec = ROBOTS[robot]
    driver = make_driver(spec)
    targets = play(driver, [spec.home + offset for offset in offsets], 1.0 / spec.simulated_control_rate)
    relative = targets - spec.home
    assert relative.min() >= min(0.0, *offsets) - 1e-9
    assert relative.max() <= max(0.0, *offsets) + 1e-9
    np.testing.assert_allclose(relative[-1], offsets[-1], atol=1e-9)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_steady_stream_is_followed_without_steps(robot):
    spec = ROBOTS[robot]
    period, speed = 1.0 / spec.simulated_control_rate, 1.0
    commands = [spec.home + speed * period * k for k in range(1, 60)]
    targets = play(make_driver(spec), commands, period, tail=0.0)
    np.testing.assert_allclose(np.diff(targets, axis=0), speed * STEP, rtol=1e-6)


def test_the_widowx_servos_limit_their_velocity():
    spec = ROBOTS["widowx"]
    targets = play(make_driver(spec), [spec.home + 1.0], 0.01)
    assert np.abs(np.diff(targets, axis=0)).max() <= DYNAMIXEL_VELOCITY * STEP + 1e-12
    assert np.pi * 0.99 < DYNAMIXEL_VELOCITY < np.pi * 1.01


@pytest.mark.parametrize("robot", ROBOTS)
def test_malformed_commands_are_refused_and_change_nothing(robot):
    spec = ROBOTS[robot]
    driver = make_driver(spec)
    bad = spec.home.copy()
    bad[1] = np.nan
    with pytest.raises(ActionError, match=f"{spec.joint_names[1]} is not a number"):
        driver.command(bad, 0.0)
    with pytest.raises(ActionError, match=f"has 3 values; the driver takes {spec.dof}"):
        driver.command(np.zeros(3), 0.0)
    np.testing.assert_array_equal(driver.tick(1.0), spec.home)


def test_an_unknown_driver_is_refused():
    spec = ROBOTS["panda"]
    odd = dataclasses.replace(spec, driver=dataclasses.replace(spec.driver, kind="telepathy"))
    with pytest.raises(ConfigurationError, match="'telepathy'.*franka_ros2, ur_robot_driver, interbotix"):
        make_driver(odd)
