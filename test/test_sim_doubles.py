"""The drivers' teeth: what trips the Franka and stops the UR, what the WidowX does, and the way back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ActionError
from vla_ros.robots import load_robot
from vla_ros.robots.drivers.interbotix import DEFAULT_PROFILE, STREAMING_PROFILE
from vla_ros.robots.drivers.ur import RobotMode, SafetyMode
from vla_ros.sim.drivers import make_driver
from vla_ros.sim.drivers.braking import Braking
from vla_ros.sim.drivers.fci import COMMUNICATION

STEP = 0.001
PANDA, UR5, WIDOWX = (load_robot(name) for name in ("panda", "ur5", "widowx"))
VELOCITY = "joint_motion_generator_velocity_discontinuity"


def quintic(spec, distance, seconds, rest=0.0):
    """Rest to rest along the minimum-jerk curve, (N, n), at the controller's rate, then `rest` seconds."""
    period = 1.0 / spec.simulated_control_rate
    t = np.minimum(np.arange(1, round((seconds + rest) / period) + 1) * period / seconds, 1.0)
    return spec.home + distance * (t**3 * (10 - 15 * t + 6 * t * t))[:, None]


class Play:
    """A driver on a clock of its own."""

    def __init__(self, spec, patience=1.0):
        self.driver, self.spec, self.time = make_driver(spec, patience), spec, 0.0
        self.period = 1.0 / spec.simulated_control_rate
        self.targets = []

    def run(self, seconds):
        for _ in range(round(seconds / STEP)):
            self.time += STEP
            self.targets.append(self.driver.tick(self.time).copy())
        return self

    def send(self, commands):
        for command in commands:
            self.driver.command(command, self.time)
            self.run(self.period)
        return self

    def speeds(self):
        return np.diff(self.targets, axis=0) / STEP


# -- Franka ----------------------------------------------------------------------------------------------


def test_the_franka_follows_a_smooth_stream_and_may_be_left_alone():
    play = Play(PANDA).send(quintic(PANDA, 0.3, 1.0, rest=0.1)).run(5.0)
    assert play.driver.following and play.driver.error == ""
    np.testing.assert_allclose(play.targets[-1], PANDA.home + 0.3, atol=1e-9)


def test_a_franka_that_was_never_commanded_does_not_trip():
    assert Play(PANDA).run(3.0).driver.following


@pytest.mark.parametrize("size", [0.005, 0.008])
def test_a_jump_trips_and_nothing_is_followed_any_more(size):
    play = Play(PANDA).send(quintic(PANDA, 0.3, 1.0)[:100])
    before = play.targets[-1]
    play.send([before + size])
    assert play.driver.error == VELOCITY and not play.driver.following
    stands = play.run(1.0).targets[-1]
    play.send([before] * 5)
    np.testing.assert_array_equal(play.targets[-1], stands)
    assert play.driver.ignored == 5


def test_the_reflex_brakes_within_the_makers_acceleration():
    play = Play(PANDA).send(quintic(PANDA, 0.5, 1.0)[:125])
    speed = play.speeds()[-1]
    assert speed.min() > 0.5
    play.driver.trip("joint_reflex", play.time)
    play.run(0.5)
    slowing = np.diff(play.speeds()[-500:], axis=0) / STEP
    assert (np.abs(slowing) <= PANDA.published.acceleration * 1.01).all()
    np.testing.assert_allclose(play.speeds()[-1], 0.0, atol=1e-9)


@pytest.mark.parametrize("offset, error", [(0.05, "velocity_limits"), (0.001, "velocity_disc"), (5e-7, "")])
def test_the_first_command_must_follow_on_from_where_the_robot_is_held(offset, error):
    play = Play(PANDA).run(1.0).send([PANDA.home + offset])
    assert error in play.driver.error and bool(error) is bool(play.driver.error)


@pytest.mark.parametrize("patience, silence, trips", [(1, 0.01, True), (5, 0.05, False), (5, 0.12, True)])
def test_a_moving_franka_left_alone_trips(patience, silence, trips):
    play = Play(PANDA, patience).send(quintic(PANDA, 0.5, 1.0)[:125]).run(silence)
    assert play.driver.error == (VELOCITY if trips else "")


def test_with_patience_a_lost_command_is_forgiven_when_it_was_late_and_only_then():
    commands = quintic(PANDA, 0.3, 1.0)
    late = Play(PANDA, 5).send(commands[:100]).run(0.01).send(commands[102:])
    assert late.driver.error == ""
    early = Play(PANDA, 5).send(commands[:100]).send(commands[102:104])
    assert early.driver.error == VELOCITY
    strict = Play(PANDA, 1).send(commands[:100]).send(commands[102:104])
    assert strict.driver.error == VELOCITY


def test_patience_does_not_forgive_a_step_of_a_robot_that_stood():
    play = Play(PANDA, 100).send([PANDA.home] * 5).run(1.0).send([PANDA.home + 0.001])
    assert play.driver.error == VELOCITY


def test_patience_does_not_forgive_a_teleport():
    play = Play(PANDA, 5).send(quintic(PANDA, 0.3, 1.0)[:100]).run(0.01)
    play.send([play.targets[-1] + 0.5])
    assert play.driver.error == VELOCITY or "velocity_limits" in play.driver.error


@pytest.mark.parametrize("count, trips", [(19, False), (25, True)])
def test_twenty_missed_packets_end_the_motion(count, trips):
    commands = quintic(PANDA, 0.3, 1.0)
    play = Play(PANDA).send(commands[:100])
    play.driver.lose_packets(count, play.time)
    play.send(commands[100:110])
    assert play.driver.error == (COMMUNICATION if trips else "")
    if not trips:  # it went on meanwhile, and follows again
        assert play.speeds()[-40:-22].min() > 0.0
        np.testing.assert_allclose(play.send(commands[110:]).targets[-1], commands[-1], atol=1e-6)


def test_the_way_back_from_a_reflex_is_recovery_hardware_controller():
    play = Play(PANDA).send(quintic(PANDA, 0.5, 1.0)[:125])
    play.driver.trip("joint_reflex", play.time)
    assert play.driver.recover(play.time) == (False, "the robot is still braking")
    measured = play.run(1.0).targets[-1]
    assert not play.driver.set_hardware(True)
    assert not play.driver.set_controller(True, measured)
    assert play.driver.recover(play.time)[0]
    assert not play.driver.set_controller(True, measured)
    assert play.driver.set_hardware(True) and not play.driver.following
    assert play.driver.set_controller(True, measured) and play.driver.following
    assert play.driver.last_error == "joint_reflex"
    play.send(measured + quintic(PANDA, 0.1, 1.0) - PANDA.home)
    assert play.driver.following
    np.testing.assert_allclose(play.targets[-1], measured + 0.1, atol=1e-6)


def test_a_jump_after_the_recovery_trips_again():
    play = Play(PANDA).send(quintic(PANDA, 0.5, 1.0)[:125])
    old = play.targets[-1] + 0.05
    play.driver.trip("joint_reflex", play.time)
    measured = play.run(1.0).targets[-1]
    play.driver.recover(play.time), play.driver.set_hardware(True), play.driver.set_controller(True, measured)
    play.send([old + 0.1])
    assert "velocity_limits" in play.driver.error


# -- UR --------------------------------------------------------------------------------------------------


def test_a_ur_waits_for_its_first_command_for_ever():
    assert Play(UR5).run(5.0).driver.following


def test_without_commands_the_ur_goes_on_then_stops_with_stopj_and_its_program_ends():
    play = Play(UR5).send(quintic(UR5, 0.8, 1.6)[:100])
    speed = play.speeds()[-1]
    count = len(play.targets)
    play.run(1.0)
    after = play.speeds()[count - 1 :]
    np.testing.assert_allclose(after[2:30], np.tile(speed, (28, 1)), rtol=0.05)  # extrapolated
    np.testing.assert_allclose(np.diff(after[40:100], axis=0) / STEP, -4.0, rtol=1e-3)  # stopj
    np.testing.assert_allclose(after[-1], 0.0, atol=1e-9)
    assert not play.driver.program_running and play.driver.safety_mode is SafetyMode.NORMAL
    assert not play.driver.controller_active


@pytest.mark.parametrize(
    "patience, silence, ends", [(1, 0.025, False), (1, 0.06, True), (5, 0.15, False), (5, 0.25, True)]
)
def test_the_receive_timeout(patience, silence, ends):
    play = Play(UR5, patience).send(quintic(UR5, 0.3, 1.0)[:60]).run(silence)
    assert play.driver.program_running is not ends


def test_the_receive_timeout_comes_from_the_robots_file():
    driver = dataclasses.replace(UR5.driver, extra={**UR5.driver.extra, "robot_receive_timeout": 0.5})
    spec = dataclasses.replace(UR5, driver=driver)
    assert Play(spec).send(quintic(spec, 0.3, 1.0)[:60]).run(0.3).driver.program_running


def test_a_ur_that_stands_still_also_loses_its_program_when_commands_stop():
    assert not Play(UR5).send([UR5.home] * 10).run(0.1).driver.program_running


def test_a_program_sent_again_follows_from_where_the_robot_stands():
    play = Play(UR5).send(quintic(UR5, 0.3, 1.0)[:60]).run(1.0)
    measured = play.targets[-1]
    play.send([UR5.home])
    np.testing.assert_array_equal(play.targets[-1], measured)
    assert play.driver.resend_program(measured) and play.driver.following
    play.run(1.0).send(measured + quintic(UR5, 0.1, 1.0) - UR5.home)
    np.testing.assert_allclose(play.targets[-1], measured + 0.1, atol=1e-9)


def test_an_absurd_command_is_ignored_and_one_too_fast_stops_the_robot():
    play = Play(UR5).send([UR5.home] * 5).send([UR5.home + 1.0])
    assert play.driver.following and play.driver.ignored == 1
    play.send([UR5.home + 0.05])  # 6.25 rad/s
    assert play.driver.safety_mode is SafetyMode.PROTECTIVE_STOP and not play.driver.program_running


def test_a_protective_stop_is_unlocked_after_five_seconds_and_the_program_does_not_go_on_by_itself():
    play = Play(UR5).send(quintic(UR5, 0.8, 1.6)[:100])
    play.driver.protective_stop(play.time)
    done, sentence = play.driver.unlock_protective_stop(play.time + 4.9)
    assert not done and "5s" in sentence
    measured = play.run(1.0).targets[-1]
    np.testing.assert_allclose(play.speeds()[-1], 0.0, atol=1e-9)
    assert not play.driver.resend_program(measured)
    assert play.driver.unlock_protective_stop(play.time + 5.0)[0]
    assert not play.driver.following
    assert play.driver.resend_program(measured) and play.driver.following
    assert not play.driver.unlock_protective_stop(play.time + 6.0)[0]


def test_a_robot_that_is_not_powered_runs_no_program():
    play = Play(UR5).send([UR5.home]).run(1.0)
    play.driver.robot_mode = RobotMode.IDLE
    assert not play.driver.resend_program(UR5.home)


# -- WidowX ----------------------------------------------------------------------------------------------


def test_with_the_default_profile_a_stream_drags_behind_and_with_the_streaming_one_it_does_not():
    commands = quintic(WIDOWX, 0.5, 1.0)
    slow = Play(WIDOWX).send(commands)
    assert slow.driver.profile == DEFAULT_PROFILE
    assert (slow.targets[-1] - WIDOWX.home).max() < 0.25
    fast = Play(WIDOWX)
    fast.driver.set_modes("position", STREAMING_PROFILE)
    np.testing.assert_allclose(fast.send(commands).targets[-1], commands[-1], atol=1e-6)


def test_the_last_goal_stays_and_is_reached_without_the_controller():
    play = Play(WIDOWX)
    play.driver.set_modes("position", STREAMING_PROFILE)
    play.send([WIDOWX.home + 1.0]).run(1.0)
    np.testing.assert_allclose(play.run(60.0).targets[-1], WIDOWX.home + 1.0, atol=1e-9)


def test_without_torque_or_in_another_mode_goals_are_ignored():
    play = Play(WIDOWX)
    play.driver.set_modes("position", STREAMING_PROFILE)
    play.send([WIDOWX.home + 0.01]).run(0.1)
    play.driver.set_torque(False)
    play.send([WIDOWX.home + 0.3]).run(0.5)
    np.testing.assert_allclose(play.targets[-1], WIDOWX.home + 0.01, atol=1e-9)
    play.driver.set_torque(True)
    play.run(0.5)  # torque back: it stays, the ignored goal is not made up for
    np.testing.assert_allclose(play.targets[-1], WIDOWX.home + 0.01, atol=1e-9)
    play.driver.set_modes("velocity", STREAMING_PROFILE)
    play.send([WIDOWX.home + 0.3])
    assert play.driver.ignored == 2


# -- all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PANDA, UR5, WIDOWX], ids=lambda spec: spec.name)
def test_malformed_commands_are_refused_and_change_nothing(spec):
    play = Play(spec)
    bad = spec.home.copy()
    bad[1] = np.nan
    with pytest.raises(ActionError, match="is not a number"):
        play.driver.command(bad, 0.0)
    with pytest.raises(ActionError, match=f"has 3 values; the driver takes {spec.dof}"):
        play.driver.command(np.zeros(3), 0.0)
    assert play.run(0.1).driver.following
    np.testing.assert_array_equal(play.targets[-1], spec.home)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([PANDA, UR5, WIDOWX]), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 5.0]))
def test_whatever_is_commanded_targets_never_jump(spec, seed, patience):
    """Between two ticks of a millisecond no joint moves further than its fastest allowed command asks."""
    random = np.random.default_rng(seed)
    play = Play(spec, patience)
    for _ in range(30):
        size = random.choice([0.0, 1e-4, 1e-2, 1.0])
        play.send([spec.home + random.normal(size=spec.dof) * size])
        play.run(float(random.choice([0.0, 0.02, 0.3])))
        if random.random() < 0.1 and spec is UR5:
            play.driver.protective_stop(play.time)
    # the UR's program takes up to 20 rad/s once, before the safety system stops the arm; with patience the
    # Franka may catch up with as many lost commands in one period
    most = {"ur5": 20.0, "panda": 2.61 * 5.0, "widowx": np.inf}[spec.name]
    assert np.abs(play.speeds()).max() <= most + 1e-6
    assert np.isfinite(play.targets).all()


def test_braking_is_at_the_deceleration_and_ends_at_rest():
    brake = Braking(np.array([0.0, 1.0]), np.array([1.0, -0.5]), 4.0, 10.0)
    assert brake.end == pytest.approx(10.25)
    np.testing.assert_allclose(brake.at(10.0), [0.0, 1.0])
    np.testing.assert_allclose(brake.at(99.0), [0.125, 1.0 - 0.5 * 0.25 / 4.0])
