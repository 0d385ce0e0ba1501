"""Contact fails closed: without fresh forces or efforts nothing begins to move, what moves comes to rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.control.load import ContactMonitor
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.judge import judge_setpoints
from vla_ros.evaluation.run_data import Setpoints
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.load import ContactSpec, Payload
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    InterventionAction,
    JointState,
    Reason,
    SafetyState,
)

START = 10**9 * NANOSECONDS
QUIET = np.array([2.0, -6.0, 1.0])


class Rig:
    """A controller that watches for contact, its robot, and sensors that can be broken."""

    def __init__(self, name, **changes):
        contract = load_contract(name, simulated=True, contact=True)
        self.contract = replace(contract, robot=replace(contract.robot, **changes))
        self.spec = self.contract.robot
        self.period = 1.0 / contract.control_rate
        self.controller = SafetyController(self.contract, self.period)
        self.kinematics = Kinematics(self.spec)
        self.tick = self.sequence = 0
        self.force = lambda: QUIET
        self.efforts = lambda real: real
        self.rows = []
        self.interventions = []
        self.measure(self.spec.home, np.zeros(self.spec.dof), np.zeros(self.spec.dof))

    @property
    def time(self):
        return self.tick * self.period

    @property
    def now(self):
        return START + round(self.time * NANOSECONDS)

    def measure(self, q, v, a):
        real = self.kinematics.torques(q, v, a)
        scale = self.spec.contact.torque_per_effort
        self.measured = JointState(self.now, q, v, self.efforts(real if scale is None else real / scale))

    def sense(self):
        """What comes between two ticks."""
        self.controller.observe([self.measured])
        force = self.force()
        if force is not None:
            self.controller.feel(force, self.time)

    def objection(self):
        return self.controller.supervision.objection_to_start(self.measured, 0.001, self.time)

    def activate(self):
        self.sense()
        assert not self.objection()
        self.controller.activate(self.measured, self.spec.gripper.max_width, self.time)

    def run(self, seconds, chunks=True):
        """Ticks with a chunk every 0.2 s; the sentences of those that were refused."""
        refused = []
        for _ in range(round(seconds / self.period)):
            self.tick += 1
            self.sense()
            if chunks and self.tick % round(0.2 / self.period) == round(0.1 / self.period):
                self.sequence += 1
                sign = 1.0 if self.sequence % 20 < 10 else -1.0
                chunk = ActionChunk(
                    self.now, self.sequence, ActionKind.CARTESIAN_DELTA, 0.2, np.full(4, 0.05),
                    translation=np.tile([0.0, 0.02 * sign, 0.0], (4, 1)),
                    quaternion=np.tile([0.0, 0.0, 0.0, 1.0], (4, 1)),
                )  # fmt: skip
                _, sentence = self.controller.submit(chunk, self.time, self.now)
                if sentence:
                    refused.append(sentence)
            done = self.controller.update(self.time, self.now, self.measured, 0.001)
            point = done.setpoint
            self.interventions += done.interventions
            self.rows.append((point.positions, int(done.state)))
            self.measure(point.positions, point.velocities, point.accelerations)
        return refused

    @property
    def speed(self):
        return float(np.abs(self.controller._shield.motion.velocities).max())

    def verdict(self):
        count, numbers = len(self.rows), np.arange(1, len(self.rows) + 1)
        stamps = START + np.round(numbers * self.period * NANOSECONDS).astype(np.int64)
        nothing, q = np.zeros((count, self.spec.dof)), np.array([row[0] for row in self.rows])
        states = np.array([row[1] for row in self.rows])
        widths = np.full(count, self.spec.gripper.max_width)
        points = Setpoints(
            stamps, stamps, numbers, q, nothing, nothing, widths, states, np.zeros(count, np.int64)
        )
        return judge_setpoints(points, self.spec)


def deaf(rig):
    """Break what the robot feels by."""
    if rig.spec.contact.force is not None:
        rig.force = lambda: None
    else:
        rig.efforts = lambda real: real[:0]


def hears(rig):
    rig.force, rig.efforts = lambda: QUIET, lambda real: real


ROBOTS = ("panda", "ur5e", "widowx")


@pytest.mark.parametrize("name", ROBOTS)
def test_nothing_begins_before_what_is_watched_has_come(name):
    rig = Rig(name)
    deaf(rig)
    rig.measure(rig.spec.home, np.zeros(rig.spec.dof), np.zeros(rig.spec.dof))
    for _ in range(20):
        rig.tick += 1
        rig.sense()
        assert "contact is watched by" in rig.objection()
    # who activates all the same gets a robot that stands and takes no chunk
    rig.controller.activate(rig.measured, 0.05, rig.time)
    refused = rig.run(1.0)
    assert len(refused) >= 4 and all("contact is watched" in sentence for sentence in refused)
    assert (np.array([row[0] for row in rig.rows]) == rig.spec.home).all()
    assert not rig.controller.move_to_joints(rig.spec.home + 0.1, None, rig.time)[0]
    assert "contact is watched" in rig.controller.message
    hears(rig)
    rig.run(0.1)
    assert not rig.objection() and not rig.run(1.0) and rig.speed > 0.01


@pytest.mark.parametrize("name", ROBOTS)
def test_in_motion_it_comes_to_rest_and_goes_on_when_it_is_felt_again(name):
    rig = Rig(name)
    rig.activate()
    assert not rig.run(1.3) and rig.speed > 0.02
    deaf(rig)
    rig.run(rig.spec.contact.age + 2 * rig.period, chunks=False)
    assert rig.interventions[-1].reason is Reason.CONTACT_UNWATCHED
    assert rig.interventions[-1].action is InterventionAction.HOLD
    refused = rig.run(1.0)
    assert refused and "contact is watched, but" in refused[0]
    assert rig.speed < 1e-9 and rig.controller.state is SafetyState.HOLDING
    assert "contact is watched, but" in rig.controller.message
    hears(rig)
    rig.run(1.0)
    assert rig.speed > 0.01, "it goes on by itself"
    verdict = rig.verdict()
    assert not verdict.violations, verdict.sentence()


@pytest.mark.parametrize("name", ROBOTS)
def test_a_motion_to_a_posture_ends_too(name):
    rig = Rig(name)
    rig.activate()
    rig.run(1.1, chunks=False)
    # the tool stays inside the workspace, so that nothing else keeps it from its goal
    goal = rig.spec.home.copy()
    goal[[0, -1]] += 0.4
    assert rig.controller.move_to_joints(goal, None, rig.time)[0]
    rig.run(0.6, chunks=False)
    assert rig.speed > 0.05
    deaf(rig)
    rig.run(5.0, chunks=False)
    assert rig.speed < 1e-5 and np.abs(rig.rows[-1][0] - goal).max() > 0.02
    assert "contact is watched" in rig.controller.move_to_joints(goal, None, rig.time)[1]
    hears(rig)
    rig.run(0.1, chunks=False)
    assert rig.controller.move_to_joints(goal, None, rig.time)[0]
    rig.run(8.0, chunks=False)
    np.testing.assert_allclose(rig.rows[-1][0], goal, atol=1e-3)
    assert not rig.verdict().violations


def test_short_gaps_do_not_hold():
    rig = Rig("ur5")
    count = [0]

    def every_tenth():
        count[0] += 1
        return QUIET if count[0] % 10 == 0 else None

    rig.activate()
    rig.force = every_tenth
    assert not rig.run(2.0)
    assert all(item.reason is not Reason.CONTACT_UNWATCHED for item in rig.interventions)


def test_a_first_force_that_is_large_already_is_not_tared_away():
    rig = Rig("ur5e")
    pressed = np.array([0.0, 0.0, -60.0])
    rig.force = lambda: pressed
    rig.tick = 1
    rig.sense()
    assert "60 N before any motion" in rig.objection()
    rig.controller.activate(rig.measured, 0.05, rig.time)
    rig.run(0.2)
    assert rig.controller.state is SafetyState.STOPPED and "60 N" in rig.controller.message
    rig.run(0.3)
    done, sentence = rig.controller.reset(rig.measured, 0.05, rig.time)
    assert not done and "60 N" in sentence
    hears(rig)
    rig.run(0.3)
    assert rig.controller.reset(rig.measured, 0.05, rig.time)[0]
    assert not rig.run(1.0)
    rig.force = lambda: QUIET + [0.0, 0.0, -30.0]
    rig.run(0.5)
    assert rig.controller.state is SafetyState.STOPPED and "the wrist feels" in rig.controller.message


def test_a_payload_that_the_contract_names_may_weigh_on_the_wrist():
    heavy = np.array([0.0, 0.0, -50.0])
    for payload, fine in ((Payload(), False), (Payload(2.0), False), (Payload(3.0), True)):
        rig = Rig("ur5e", payload=payload)
        rig.force = lambda: heavy
        rig.sense()
        assert (rig.objection() == "") is fine


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_measured(bad):
    ur, panda = Rig("ur5"), Rig("panda")
    ur.force = lambda: np.array([0.0, bad, 0.0])
    ur.sense()
    assert "not finite" in ur.objection()
    panda.efforts = lambda real: np.full(7, bad)
    panda.measure(panda.spec.home, np.zeros(7), np.zeros(7))
    panda.sense()
    assert "finite efforts" in panda.objection()


@pytest.mark.parametrize("name", ("panda", "ur5"))
def test_a_sensor_that_fails_in_motion_stops_it_for_good(name):
    rig = Rig(name)
    rig.activate()
    rig.run(1.2)
    if name == "ur5":
        rig.force = lambda: np.array([np.nan, 0.0, 0.0])
    else:
        rig.efforts = lambda real: real * np.nan
    rig.run(0.6)
    assert rig.controller.state is SafetyState.STOPPED and "not finite" in rig.controller.message
    assert not rig.controller.reset(rig.measured, 0.05, rig.time)[0]
    hears(rig)
    rig.run(0.4)
    assert rig.controller.reset(rig.measured, 0.05, rig.time)[0]
    assert not rig.run(0.5)


@given(
    st.lists(st.floats(0.0, 0.4), min_size=1, max_size=30),
    st.sampled_from([0.02, 0.1, 1.0]),
    st.sampled_from(["panda", "ur5"]),
)
@settings(max_examples=50, deadline=None)
def test_contact_is_watched_exactly_while_what_it_takes_is_fresh(gaps, age, name):
    spec = load_robot(name)
    spec = replace(spec, contact=replace(spec.contact, age=age))
    monitor = ContactMonitor(spec, Kinematics(spec))
    efforts = np.zeros(spec.dof)
    time = 0.0
    for gap in gaps:
        stamp = START + round(time * NANOSECONDS)
        monitor.feel(QUIET, time)
        monitor.observe(JointState(stamp, spec.home, efforts, efforts))
        for share in (0.0, 0.5, 1.0):
            later = START + round((time + share * gap) * NANOSECONDS)
            newest = JointState(later, spec.home, efforts, efforts[:0])
            monitor.observe(newest)
            if abs(share * gap - age) > 1e-6:
                blind = monitor.unwatched(newest, 0.0, time + share * gap)
                assert (blind != "") is (share * gap > age)
        monitor.clear()
        time += gap


def test_a_robot_without_a_watch_asks_for_nothing():
    rig = Rig("ur5", contact=ContactSpec())
    deaf(rig)
    rig.force = lambda: None
    rig.activate()
    assert not rig.run(1.0)


def test_a_watch_that_can_never_be_kept_is_no_contract(monkeypatch):
    import vla_ros.contract as module

    bare = load_robot("ur5")
    monkeypatch.setattr(module, "load_robot", lambda name, folder: replace(bare, contact=ContactSpec()))
    with pytest.raises(ConfigurationError, match="no section 'contact'"):
        load_contract("ur5", contact=True)
    without = {key: value for key, value in bare.driver.extra.items() if key != "wrench_topic"}
    driver = replace(bare.driver, extra=without)
    monkeypatch.setattr(module, "load_robot", lambda name, folder: replace(bare, driver=driver))
    with pytest.raises(ConfigurationError, match="no key 'wrench_topic'"):
        load_contract("ur5")
    assert not load_contract("ur5", contact=False).robot.contact.watched
