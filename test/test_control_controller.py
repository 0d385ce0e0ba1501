"""The safety controller: limits whatever comes in, states, hands, and the checks."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.actions import rotations
from vla_ros.contract import load_contract
from vla_ros.control.controller import WATCHDOG, SafetyController
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    Composition,
    InterventionAction,
    JointState,
    Reason,
    SafetyState,
)

START = 1_000 * NANOSECONDS
ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")


@functools.cache
def contract_of(robot):
    return load_contract(robot, simulated=True)


def tool_of(rig, tick):
    return rig.controller._kinematics.forward(tick.setpoint.positions).position


class Rig:
    """A controller whose robot follows its commands perfectly, on a clock of its own."""

    def __init__(self, robot="panda", home=None):
        self.contract = contract_of(robot)
        self.spec = self.contract.robot
        self.period = 1.0 / self.contract.control_rate
        self.controller = SafetyController(self.contract, self.period)
        self.time = 0.0
        self.positions = np.array(self.spec.home if home is None else home)
        self.sequence = 0
        self.commands, self.reasons, self.actions = [self.positions.copy()], set(), set()
        self.age = 0.002
        self.controller.activate(self.measured(), self.spec.gripper.max_width, 0.0)

    @property
    def now(self):
        return START + round(self.time * NANOSECONDS)

    def measured(self):
        zero = np.zeros(self.spec.dof)
        return JointState(self.now, self.positions.copy(), zero, np.zeros(0))

    def run(self, seconds, measured=True):
        for _ in range(round(seconds / self.period)):
            self.time += self.period
            state = self.measured() if measured is True else measured
            tick = self.controller.update(self.time, self.now, state, self.age)
            self.positions = tick.setpoint.positions
            self.commands.append(self.positions.copy())
            self.reasons |= {i.reason for i in tick.interventions}
            self.actions |= {i.action for i in tick.interventions}
        return tick

    def submit(self, steps, delay=0.1, width=0.08, period=0.2, **changes):
        translation = np.atleast_2d(np.asarray(steps, dtype=float))
        count = len(translation)
        self.sequence += 1
        fields = {
            "stamp": self.now - round(delay * NANOSECONDS),
            "sequence": self.sequence,
            "kind": ActionKind.CARTESIAN_DELTA,
            "period": period,
            "gripper_width": np.full(count, width),
            "translation": translation,
            "quaternion": np.tile(rotations.IDENTITY, (count, 1)),
        }
        fields.update(changes)
        return self.controller.submit(ActionChunk(**fields), self.time, self.now)

    def assert_limits(self, since=0):
        """Finite differences of the commands, on their own."""
        limits, q = self.spec.applied, np.array(self.commands[since:])
        q = np.vstack([q[:1]] * 3 + [q])
        assert (q >= limits.position_min - 1e-9).all() and (q <= limits.position_max + 1e-9).all()
        for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
            found = np.abs(np.diff(q, order, axis=0)) / self.period**order
            noise = 2.0**order * np.finfo(float).eps * 8.0 / self.period**order
            assert (found <= limit * (1 + 1e-6) + noise).all(), (order, (found / limit).max())

    def assert_inside(self):
        box, kinematics = self.spec.workspace, self.controller._kinematics
        for q in self.commands[::5]:
            position = kinematics.forward(q).position
            assert (position >= box.minimum - 1e-6).all() and (position <= box.maximum + 1e-6).all(), position


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_whatever_comes_in_the_commands_keep_every_limit(robot, seed):
    random = np.random.default_rng(seed)
    rig = Rig(robot)
    for _ in range(12):
        count = int(random.integers(1, 9))
        steps = random.normal(size=(count, 3)) * random.choice([0.005, 0.03, 0.08])
        turns = rotations.exp(random.normal(size=(count, 3)) * random.choice([0.02, 0.2]))
        rig.submit(np.clip(steps, -0.08, 0.08), float(random.uniform(0, 0.5)), quaternion=turns)
        rig.run(float(random.uniform(0.02, 0.4)))
    rig.run(1.5)
    rig.assert_limits()
    rig.assert_inside()
    assert rig.controller.state is not SafetyState.FAULT


def test_a_chunk_moves_the_tool_where_it_says():
    rig = Rig()
    start = rig.controller._kinematics.forward(rig.positions).position
    rig.run(1.1)
    rig.submit([[0.01, 0.005, -0.01]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)
    tick = rig.run(2.5)
    np.testing.assert_allclose(tool_of(rig, tick) - start, [0.08, 0.04, -0.08], atol=1e-3)
    assert tick.state is SafetyState.HOLDING
    assert Reason.STARVATION in rig.reasons


def test_nothing_moves_without_a_chunk():
    rig = Rig()
    assert rig.run(0.5).state is SafetyState.IDLE
    assert np.abs(np.diff(rig.commands, axis=0)).max() == 0.0


def test_emergency_stop_latches_until_a_person_resets_at_rest():
    rig = Rig()
    rig.run(1.1)
    rig.submit([[0.03, 0, 0]] * 8)
    rig.run(0.5)
    rig.controller.emergency_stop("test")
    assert rig.run(rig.period).state is SafetyState.STOPPING
    done, why = rig.controller.reset(rig.measured(), 0.08, rig.time)
    assert not done and "STOPPING" in why
    assert rig.run(0.5).state is SafetyState.STOPPED
    assert rig.submit([[0.03, 0, 0]] * 8)[1].endswith("came in state STOPPED")
    assert rig.run(0.5).state is SafetyState.STOPPED
    moving = JointState(rig.now, rig.positions, np.full(7, 0.5), np.zeros(0))
    assert not rig.controller.reset(moving, 0.08, rig.time)[0]
    assert not rig.controller.reset(None, 0.08, rig.time)[0]
    rig.assert_limits()
    assert rig.controller.reset(rig.measured(), 0.08, rig.time)[0]
    assert rig.run(rig.period).state is SafetyState.IDLE
    rig.submit([[0.01, 0, 0]] * 8, delay=0.0)
    assert rig.run(0.5).state in (SafetyState.RUNNING, SafetyState.LIMITED)
    rig.assert_limits()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_latches_a_stop_and_moves_nothing(value):
    rig = Rig()
    rig.run(0.1)
    rig.submit([[value, 0, 0]] * 4)
    tick = rig.run(0.5)
    assert tick.state is SafetyState.STOPPED
    assert "not finite" in rig.controller.message
    assert np.abs(np.diff(rig.commands, axis=0)).max() == 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stamp": START + 5 * NANOSECONDS}, Reason.FUTURE_CHUNK),
        ({"stamp": START - 10 * NANOSECONDS}, Reason.STALE_CHUNK),
        ({"quaternion": rotations.exp(np.full((4, 3), 0.6))}, Reason.STEP_TOO_LARGE),
        ({"quaternion": np.full((4, 4), 0.9)}, Reason.WRONG_DIMENSION),
        ({"quaternion": np.zeros((3, 4))}, Reason.WRONG_DIMENSION),
        ({"kind": ActionKind.JOINT_POSITION, "joints": np.zeros((4, 3))}, Reason.WRONG_DIMENSION),
        ({"period": 0.0}, Reason.WRONG_DIMENSION),
        ({"frame": "camera_link"}, Reason.WRONG_FRAME),
        (
            {
                "kind": ActionKind.CARTESIAN_ABSOLUTE,
                "translation": np.array([[0.4, 0, 0.2], [0.4, 0, 0.2], [0.4, 0.16, 0.2], [0.4, 0, 0.2]]),
            },
            Reason.STEP_TOO_LARGE,
        ),
        (
            {
                "kind": ActionKind.CARTESIAN_ABSOLUTE,
                "quaternion": rotations.exp(np.array([[0, 0, 0], [0, 0, 0.1], [0, 0.8, 0], [0, 0, 0]])),
            },
            Reason.STEP_TOO_LARGE,
        ),
        (
            {"kind": ActionKind.JOINT_POSITION, "joints": np.outer([0.0, 0.0, 1.0, 0.0], np.ones(7))},
            Reason.STEP_TOO_LARGE,
        ),
    ],
)
def test_bad_chunks_are_refused_in_a_sentence_and_move_nothing(changes, reason):
    rig = Rig()
    rig.run(0.2)
    found, sentence = rig.submit([[0.01, 0, 0]] * 4, **changes)
    assert [i.reason for i in found] == [reason] and found[0].action is InterventionAction.REJECT
    assert sentence.startswith("chunk 1 ")
    assert rig.run(0.3).state is SafetyState.IDLE
    assert np.abs(np.diff(rig.commands, axis=0)).max() == 0.0


def test_chunks_out_of_order_are_refused():
    rig = Rig()
    rig.run(0.5)
    rig.submit([[0.01, 0, 0]] * 8, delay=0.1)
    found, _ = rig.submit([[0.01, 0, 0]] * 8, delay=0.2)
    assert [i.reason for i in found] == [Reason.OUT_OF_ORDER]


def test_stale_joint_states_hold_and_lost_ones_stop():
    rig = Rig()
    rig.run(1.1)
    rig.submit([[0.02, 0, 0]] * 8)
    rig.run(0.3)
    rig.age = 0.2
    tick = rig.run(1.2)
    assert tick.state is SafetyState.HOLDING and Reason.STALE_JOINT_STATE in rig.reasons
    assert "joint states are 0.20 s old" in rig.submit([[0.01, 0, 0]] * 8)[1]
    rig.age = 0.002
    rig.run(rig.period)
    rig.submit([[0.01, 0, 0]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)
    rig.age = 0.7
    assert rig.run(1.0).state is SafetyState.FAULT
    rig.assert_limits()


def test_a_jumping_or_diverging_joint_state_stops():
    rig = Rig()
    rig.run(0.5)
    jumped = rig.positions + 0.1
    assert rig.run(0.2, JointState(rig.now, jumped, np.zeros(7), np.zeros(0))).state is SafetyState.FAULT
    assert "jumped" in rig.controller.message
    rig = Rig()
    for _ in range(60):  # creeps away from the command without a jump
        rig.commands.clear()
        stuck = JointState(rig.now, rig.spec.home + 0.004 * _, np.zeros(7), np.zeros(0))
        rig.run(rig.period, stuck)
    assert rig.run(0.1).state is SafetyState.STOPPED
    assert "from its command" in rig.controller.message


def test_pause_slows_down_refuses_chunks_and_resume_takes_them_again():
    rig = Rig()
    rig.run(1.1)
    rig.submit([[0.02, 0, 0]] * 8)
    rig.run(0.5)
    assert rig.controller.pause(rig.time)[0]
    assert rig.run(1.5).state is SafetyState.HOLDING
    assert not rig.controller.moving
    assert "paused" in rig.submit([[0.02, 0, 0]] * 8)[1]
    assert rig.controller.resume(rig.time)[0]
    assert not rig.controller.resume(rig.time)[0]
    rig.submit([[0.01, 0, 0]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)
    rig.assert_limits()


@pytest.mark.parametrize("robot", ROBOTS)
def test_move_to_joints_arrives_within_the_limits(robot):
    spec = contract_of(robot).robot
    start = spec.home + 0.15
    rig = Rig(robot, home=start)
    rig.run(0.1)
    assert rig.controller.move_to_joints(spec.home, None, rig.time)[0]
    assert "moving to a posture" in rig.submit([[0.01, 0, 0]] * 4)[1]
    rig.run(4.0)
    assert not rig.controller.moving
    np.testing.assert_allclose(rig.positions, spec.home, atol=2e-3)
    rig.assert_limits()
    rig.submit([[0.01, 0, 0]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)


def test_move_to_joints_refuses_what_it_cannot_do():
    rig = Rig()
    home = rig.spec.home
    for positions, word in ((home[:3], "needs 7"), (home + np.nan, "finite"), (home + 5.0, "limits")):
        done, sentence = rig.controller.move_to_joints(positions, None, rig.time)
        assert not done and word in sentence
    rig.run(1.1)
    rig.submit([[0.02, 0, 0]] * 8)
    rig.run(0.4)
    assert "come to rest" in rig.controller.move_to_joints(home, None, rig.time)[1]
    rig.controller.emergency_stop("somebody leaned on it")
    rig.run(1.0)
    sentence = rig.controller.move_to_joints(home, None, rig.time)[1]
    assert "STOPPED (somebody leaned on it)" in sentence and "reset" in sentence


def test_a_target_out_of_reach_is_given_up_and_motion_goes_on_afterwards():
    rig = Rig()
    rig.run(1.1)
    for _ in range(30):
        rig.submit([[0.0, 0.0, 0.04]] * 8)
        rig.run(0.2)
    rig.run(2.0)
    rig.assert_inside()
    height = rig.controller._kinematics.forward(rig.positions).position[2]
    rig.submit([[0.0, 0.0, -0.02]] * 8)
    rig.run(3.0)
    assert rig.controller._kinematics.forward(rig.positions).position[2] < height - 0.05
    rig.assert_limits()


def test_the_gripper_moves_at_its_speed_and_does_not_chatter():
    rig = Rig()
    rig.run(0.5)
    rig.submit([[0, 0, 0]] * 8, width=0.0)
    first = rig.run(0.1)
    assert first.gripper_target == 0.0
    assert first.setpoint.gripper_width == pytest.approx(0.08 - rig.spec.gripper.speed * 0.1, abs=2e-3)
    assert rig.run(1.5).setpoint.gripper_width == 0.0


def test_a_loop_that_cannot_keep_up_slows_the_robot_to_rest_and_a_new_chunk_goes_on():
    rig = Rig()
    rig.run(0.2)
    rig.submit(np.tile([[0.02, 0.0, 0.0]], (8, 1)))
    rig.run(0.5)
    assert rig.controller.moving
    rig.controller.overrun(5, rig.time)
    rig.run(1.0)
    assert Reason.OVERRUN in rig.reasons
    assert not rig.controller.moving
    assert rig.controller.state is SafetyState.HOLDING
    rig.submit(np.tile([[0.02, 0.0, 0.0]], (8, 1)))
    rig.run(0.5)
    assert rig.controller.moving
    rig.assert_limits()


def test_deltas_on_the_measured_pose_count_from_where_the_robot_was_at_the_stamp():
    rig = Rig()
    lag = np.full(rig.spec.dof, 0.01)
    off = replace(rig.measured(), positions=rig.spec.home + lag)
    rig.run(0.5, off)
    rig.submit(np.tile([[0.0, 0.0, 0.01]], (4, 1)), delay=0.1, composition=Composition.MEASURED)
    tick = rig.run(1.5, replace(off, stamp=rig.now))
    wanted = rig.controller._kinematics.forward(rig.spec.home + lag).position + [0.0, 0.0, 0.04]
    np.testing.assert_allclose(tool_of(rig, tick), wanted, atol=1e-3)


def test_unwatched_the_robot_holds_and_takes_no_chunk_until_the_watchdog_is_back():
    rig = Rig()
    rig.run(1.1)
    rig.submit([[0.02, 0, 0]] * 8)
    rig.run(0.5)
    rig.controller.supervision.unwatched = 1.2
    tick = rig.run(1.5)
    assert tick.state is SafetyState.HOLDING and not rig.controller.moving
    assert (Reason.WATCHDOG in rig.reasons) and "watchdog" in rig.controller.message
    assert "the watchdog has been silent for 1.20 s" in rig.submit([[0.02, 0, 0]] * 8)[1]
    rig.controller.supervision.unwatched = 0.0
    rig.run(rig.period)
    rig.submit([[0.01, 0, 0]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)
    rig.assert_limits()


def test_each_takes_back_a_pause_of_his_own_alone():
    rig = Rig()
    rig.run(1.1)
    assert rig.controller.pause(rig.time)[0] and rig.controller.pause(rig.time, WATCHDOG)[0]
    assert rig.run(0.5).state is SafetyState.HOLDING
    assert rig.controller.message == "paused by the person and the watchdog"
    assert rig.controller.resume(rig.time, WATCHDOG) == (True, "paused by the person")
    assert "paused by the person" in rig.submit([[0.02, 0, 0]] * 8)[1]
    assert not rig.controller.resume(rig.time, WATCHDOG)[0]
    assert rig.controller.resume(rig.time)[0]
    rig.submit([[0.01, 0, 0]] * 8)
    assert rig.run(0.4).state in (SafetyState.RUNNING, SafetyState.LIMITED)


def test_a_posture_that_is_reached_already_is_no_motion_but_for_the_gripper():
    rig = Rig()
    rig.run(0.3)
    assert rig.controller.move_to_joints(rig.spec.home + 1e-4, 0.02, rig.time) == (True, "there already")
    tick = rig.run(0.6)
    assert not rig.controller.moving and tick.setpoint.gripper_width < 0.05
    rig.submit([[0.01, 0, 0]] * 8)
    rig.run(0.3)
    assert rig.controller.moving


@pytest.mark.parametrize("robot", ["panda", "widowx"])
@pytest.mark.parametrize(
    ("delay", "least"), [(0.05, 70.0), (0.12, 30.0), (0.19, 30.0), (0.33, 20.0), (1.0, 8.0)]
)
def test_one_step_at_a_time_moves_the_robot_however_late(robot, delay, least):
    """OpenVLA's answer is one step of 0.2 s that is often older than that when it comes."""
    rig = Rig(robot)
    rig.run(1.1)
    start = rig.controller._kinematics.forward(rig.positions).position
    for _ in range(20):
        found, sentence = rig.submit([[0.004, 0, 0]], delay=delay, period=0.2)
        assert (found, sentence) == ([], "")
        tick = rig.run(0.2)
        assert tick.state in (SafetyState.RUNNING, SafetyState.LIMITED)
    slow = rig.controller.message
    moved = 1000.0 * (tool_of(rig, tick) - start)[0]
    assert least <= moved <= 80.5
    assert ("too slow for 5 Hz: one step every 0.20 s" in slow) == (delay > 0.1), slow
    assert Reason.STALE_CHUNK not in rig.reasons
    rig.run(2.0)
    assert rig.controller.state is SafetyState.HOLDING
    rig.assert_limits()


def test_a_step_older_than_three_seconds_is_refused():
    rig = Rig()
    rig.run(3.5)
    found, sentence = rig.submit([[0.004, 0, 0]], delay=3.2)
    assert [i.reason for i in found] == [Reason.STALE_CHUNK]
    assert sentence == "chunk 1 comes from an observation 3.200 s ago, allowed are 3 s"
