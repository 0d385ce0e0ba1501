"""The states of the safety controller: whatever happens in whatever order, a latched stop stays latched."""

from __future__ import annotations

import functools
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vla_ros.actions import rotations
from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.robots.environment import Plane, Sphere
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    InterventionAction,
    JointState,
    Reason,
    SafetyState,
)

START = 1000 * NANOSECONDS
LATCHED = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)
LEAVES = {SafetyState.STOPPING: {SafetyState.STOPPED, SafetyState.FAULT}}


@functools.cache
def controller_of(robot: str) -> SafetyController:
    contract = load_contract(robot, simulated=True)
    return SafetyController(contract, 1.0 / contract.control_rate)


class Machine(RuleBasedStateMachine):
    """A robot that follows its commands perfectly, and everybody who may do something to it."""

    @initialize(robot=st.sampled_from(["widowx", "ur5", "fr3"]))
    def start(self, robot: str) -> None:
        self.controller = controller_of(robot)
        self.spec, self.period = self.controller.spec, self.controller.period
        self.controller.surround(self.controller.environment.prepare([]))
        self.controller.supervision.driver = ""
        self.time, self.sequence, self.age = 0.0, 0, 0.002
        self.q = self.spec.home.copy()
        self.commands = [self.q.copy()]
        self.seen: list[np.ndarray] = []
        self.controller.activate(self.measured(), self.spec.gripper.max_width, 0.0)
        self.states = [self.controller.state]
        self.resets = 0

    @property
    def now(self) -> int:
        return START + round(self.time * NANOSECONDS)

    def measured(self) -> JointState:
        zero = np.zeros(self.spec.dof)
        return JointState(self.now, self.q.copy(), zero, np.zeros(0))

    def tick(self, offset: float = 0.0) -> None:
        self.time += self.period
        state = self.measured()
        if offset:
            state = JointState(state.stamp, state.positions + offset, state.velocities, state.efforts)
        before = self.controller.state
        self.seen.append(state.positions)
        result = self.controller.update(self.time, self.now, state, self.age)
        if before in (SafetyState.STOPPED, SafetyState.FAULT):
            assert result.state is before, "only a person's reset leaves a latched stop"
            np.testing.assert_array_equal(result.setpoint.positions, self.q)
        elif before in LEAVES:
            assert result.state in (before, *LEAVES[before])
        self.q = result.setpoint.positions
        self.commands.append(self.q.copy())
        self.states.append(result.state)

    @rule(ticks=st.integers(1, 120))
    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    @rule(seed=st.integers(0, 2**16), size=st.sampled_from([0.005, 0.03, 0.06]), delay=st.floats(0.0, 0.4))
    def chunk(self, seed: int, size: float, delay: float) -> None:
        random = np.random.default_rng(seed)
        self.sequence += 1
        chunk = ActionChunk(
            self.now - round(delay * NANOSECONDS), self.sequence, ActionKind.CARTESIAN_DELTA, 0.1,
            random.uniform(0.0, 0.1, 8), translation=random.normal(size=(8, 3)) * size,
            quaternion=rotations.exp(random.normal(size=(8, 3)) * size),
        )  # fmt: skip
        before = self.controller.state
        _, sentence = self.controller.submit(chunk, self.time, self.now)
        if before in LATCHED:
            assert "came in state" in sentence and self.controller.state is before

    @rule()
    def not_a_number(self) -> None:
        self.sequence += 1
        values = np.full((4, 3), np.nan)
        chunk = ActionChunk(
            self.now, self.sequence, ActionKind.CARTESIAN_DELTA, 0.1, np.full(4, 0.05),
            translation=values, quaternion=np.tile(rotations.IDENTITY, (4, 1)),
        )  # fmt: skip
        self.controller.submit(chunk, self.time, self.now)
        assert self.controller.state in LATCHED

    @rule()
    def emergency_stop(self) -> None:
        before = self.controller.state
        self.controller.emergency_stop("a person")
        assert self.controller.state is (before if before in LATCHED else SafetyState.STOPPING)

    @rule()
    def pause(self) -> None:
        done, _ = self.controller.pause(self.time)
        assert done is (self.controller.state not in LATCHED)

    @rule()
    def resume(self) -> None:
        self.controller.resume(self.time)

    @rule(sentence=st.sampled_from(["", "the robot's program is not running"]))
    def driver(self, sentence: str) -> None:
        self.controller.supervision.driver = sentence

    @rule(age=st.sampled_from([0.002, 0.3, 1.0]))
    def silence(self, age: float) -> None:
        self.age = age

    @rule()
    def teleport(self) -> None:
        self.tick(offset=0.4)
        assert self.controller.state in LATCHED

    @rule(goal=st.floats(-0.3, 0.3))
    def move(self, goal: float) -> None:
        self.controller.move_to_joints(self.spec.home + goal, None, self.time)

    @rule(height=st.floats(-0.2, 0.3), around=st.booleans())
    def surround(self, height: float, around: bool) -> None:
        things = [
            Plane(name="table", normal=np.array([0.0, 0.0, 1.0]), offset=height - 0.3),
            Sphere(name="ball", radius=0.1, position=np.array([0.4, 0.3, height])),
        ]
        self.controller.surround(self.controller.environment.prepare(things if around else []))

    @rule()
    def reset(self) -> None:
        before, driver = self.controller.state, self.controller.supervision.driver
        done, sentence = self.controller.reset(self.measured(), 0.05, self.time, self.age)
        may = before in (SafetyState.STOPPED, SafetyState.FAULT) and not driver and self.age < 0.1
        assert not done or (may and self.spread(0.2) < 0.02), "what is not steady cannot be believed"
        assert done or not (may and self.spread(0.4) < 0.005), sentence
        if done:
            self.seen.clear()
            assert self.controller.state is SafetyState.IDLE
        else:
            assert self.controller.state is before

    def spread(self, seconds: float) -> float:
        """How far the measured joints were apart in the last `seconds`; infinite when there were fewer."""
        count = round(seconds / self.period)
        recent = np.array(self.seen[-count:])
        return float(np.ptp(recent, axis=0).max()) if len(recent) == count else np.inf

    @precondition(lambda self: self.controller.state in (SafetyState.STOPPED, SafetyState.FAULT))
    @rule()
    def mend_and_reset(self) -> None:
        self.age, self.controller.supervision.driver = 0.002, ""
        for _ in range(round(0.25 / self.period)):
            self.tick()
        assert self.controller.reset(self.measured(), 0.05, self.time, self.age)[0]
        self.seen.clear()

    @invariant()
    def limits_hold(self) -> None:
        if len(getattr(self, "commands", ())) < 2:
            return
        limits, q = self.spec.applied, np.array(self.commands[-400:])
        assert (q >= limits.position_min - 1e-9).all() and (q <= limits.position_max + 1e-9).all()
        for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
            found = np.abs(np.diff(q, order, axis=0)) / self.period**order
            noise = 2.0**order * np.finfo(float).eps * 8.0 / self.period**order
            assert (found <= limit * (1 + 1e-6) + noise).all(), (order, (found / limit).max())


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestStates = Machine.TestCase


def ready(robot: str = "panda") -> Machine:
    machine = Machine()
    machine.start(robot)
    for seed in range(3):
        machine.wait(40)
        machine.chunk(seed, 0.03, 0.1)
    machine.wait(20)
    assert machine.controller.moving
    return machine


@pytest.mark.parametrize(
    "part",
    ["_pipeline.ik", "_pipeline.tracker", "_pipeline.cartesian", "executor", "_gripper", "supervision"],
)
def test_whatever_breaks_inside_ends_in_the_stored_stop(part, monkeypatch):
    machine = ready()
    owner = attrgetter(part)(machine.controller)
    broken = {"ik": "follow_pose", "tracker": "step", "cartesian": "step", "executor": "sample",
              "_gripper": "update", "supervision": "look"}[part.split(".")[-1]]  # fmt: skip

    def fail(*_: object) -> None:
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr(owner, broken, fail)
    machine.tick()
    assert machine.controller.state is SafetyState.STOPPING
    machine.wait(200)
    assert machine.controller.state is SafetyState.FAULT
    assert "ZeroDivisionError: of the test" in machine.controller.message
    machine.limits_hold()
    monkeypatch.undo()
    machine.mend_and_reset()
    machine.wait(5)
    machine.chunk(9, 0.03, 0.0)
    machine.wait(30)
    assert machine.controller.moving


def test_a_driver_that_does_not_follow_is_a_fault_until_it_does():
    machine = ready()
    machine.driver("controller 'forward_position_controller' is inactive")
    machine.wait(200)
    assert machine.controller.state is SafetyState.FAULT
    done, sentence = machine.controller.reset(machine.measured(), 0.08, machine.time)
    assert not done and "is inactive" in sentence
    machine.driver("")
    machine.wait(100)
    assert machine.controller.reset(machine.measured(), 0.08, machine.time)[0]


def test_one_false_joint_state_is_not_where_motion_begins_again():
    machine = ready()
    machine.emergency_stop()
    machine.wait(200)
    machine.tick(offset=0.4)
    false = JointState(machine.now, machine.q + 0.4, np.zeros(7), np.zeros(0))
    done, sentence = machine.controller.reset(false, 0.08, machine.time)
    assert not done and "stayed the same for 0.2 s" in sentence
    machine.wait(round(0.25 / machine.period))
    assert machine.controller.reset(machine.measured(), 0.08, machine.time)[0]
    machine.limits_hold()


def test_a_reset_needs_joint_states_of_now():
    machine = ready()
    machine.emergency_stop()
    machine.wait(200)
    done, sentence = machine.controller.reset(machine.measured(), 0.08, machine.time, age=0.3)
    assert not done and "fresh joint states" in sentence
    assert not machine.controller.reset(None, 0.08, machine.time)[0]


def test_an_obstacle_put_in_the_way_stops_a_motion_and_is_named():
    machine = ready()
    machine.controller.executor.anchor(machine.controller._kinematics.forward(machine.q), machine.q, 0.08)
    tool = machine.controller._kinematics.forward(machine.q).position
    ball = Sphere(name="mug", radius=0.05, position=tool + [0.0, 0.0, -0.25])
    machine.controller.surround(machine.controller.environment.prepare([ball]))
    found = set()
    for step in range(8):
        machine.sequence += 1
        down = ActionChunk(
            machine.now, machine.sequence, ActionKind.CARTESIAN_DELTA, 0.1, np.full(8, 0.08),
            translation=np.tile([[0.0, 0.0, -0.03]], (8, 1)), quaternion=np.tile(rotations.IDENTITY, (8, 1)),
        )  # fmt: skip
        machine.controller.submit(down, machine.time, machine.now)
        for _ in range(60):
            machine.time += machine.period
            tick = machine.controller.update(machine.time, machine.now, machine.measured(), 0.002)
            machine.q = tick.setpoint.positions
            machine.commands.append(machine.q.copy())
            found |= {(i.action, i.reason) for i in tick.interventions if i.subject.endswith("- mug")}
        assert step < 7 or machine.controller.environment.margins(machine.q, 0.08).min() > -1e-9
    assert (InterventionAction.SLOWDOWN, Reason.ENVIRONMENT) in found
    machine.limits_hold()
