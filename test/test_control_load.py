"""Torque limits, contact, frozen joint states, elbow speed, rate of refusals."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.control.load import ContactMonitor, FrozenJoints, TorqueLimit
from vla_ros.control.motion import JointMotion
from vla_ros.control.shield import RefusalRate
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.speeds import judge_speeds
from vla_ros.evaluation.urdf_chain import joint_values, read_urdf
from vla_ros.evaluation.violations import Run
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.load import Payload
from vla_ros.sim.world import World
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    Intervention,
    InterventionAction,
    JointState,
    Reason,
    SafetyState,
)

ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")
PERIOD = 0.002
EMPTY = np.zeros(0)


@functools.cache
def robot(name):
    spec = load_robot(name)
    return spec, Kinematics(spec)


def state(time, q, v=EMPTY, effort=EMPTY):
    return JointState(NANOSECONDS + round(time * NANOSECONDS), q, v, effort)


# -- torque ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROBOTS)
def test_no_robot_is_near_its_torque_limit_at_home(name):
    spec, kinematics = robot(name)
    home = JointMotion.at_rest(spec.home)
    assert TorqueLimit(spec, kinematics)._share(home)[1] < 0.9


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_motion_is_refused_when_its_torque_is_too_high_and_grows(seed):
    random = np.random.default_rng(seed)
    mass = float(random.uniform(0.0, 6.0))
    spec = replace(load_robot("panda"), payload=Payload(mass, np.array([0.0, 0.0, 0.05])))
    kinematics = Kinematics(spec)
    limit = TorqueLimit(spec, kinematics)
    low, high = spec.applied.position_min, spec.applied.position_max

    def motion():
        return JointMotion(
            random.uniform(low, high),
            random.uniform(-1.0, 1.0, 7) * spec.applied.velocity,
            random.uniform(-1.0, 1.0, 7) * spec.applied.acceleration,
        )

    proposal, present = motion(), motion()

    def share(m):
        torque = kinematics.torques(m.positions, m.velocities, m.accelerations)
        return (np.abs(torque) / (0.8 * spec.published.torque)).max()

    refusal = limit.refusal(proposal, present)
    assert (refusal is not None) == (share(proposal) > 1.0 and share(proposal) >= share(present))
    if refusal is not None:
        assert refusal.reason is Reason.JOINT_TORQUE
        assert refusal.subject in spec.joint_names
        assert refusal.amount > 0.0


def test_the_payload_weighs_what_it_weighs():
    spec, bare = robot("ur5")
    loaded = Kinematics(replace(spec, payload=Payload(2.0, np.zeros(3))))
    zero = np.zeros(6)
    more = loaded.torques(spec.home, zero, zero) - bare.torques(spec.home, zero, zero)
    expected = bare.jacobian(spec.home)[2] * 2.0 * 9.81  # virtual work of a weight at the tool
    np.testing.assert_allclose(more, expected, atol=1e-9)


def test_an_arm_that_cannot_lift_its_payload_does_not_try():
    contract = load_contract("panda", simulated=True, payload={"mass": 14.0})
    controller = SafetyController(contract, PERIOD)
    spec = contract.robot
    controller.activate(state(0.0, spec.home), 0.08, 0.0)
    reasons, peak = set(), 0.0
    limit = TorqueLimit(spec, Kinematics(spec))
    begun = limit._share(JointMotion.at_rest(spec.home))[1]
    assert begun > 1.0, "the weight alone must be too much for this test to mean anything"
    for tick in range(1, 1500):
        time = tick * PERIOD
        now = NANOSECONDS + round(time * NANOSECONDS)
        if tick % 100 == 50:
            steps = np.tile([0.02, 0.0, 0.0], (8, 1))
            turned = np.tile([0.0, 0.0, 0.0, 1.0], (8, 1))
            chunk = ActionChunk(
                now, tick, ActionKind.CARTESIAN_DELTA, 0.2, np.full(8, 0.08),
                translation=steps, quaternion=turned,
            )  # fmt: skip
            controller.submit(chunk, time, now)
        point = controller.update(time, now, state(time, controller._shield.motion.positions), 0.001)
        reasons |= {item.reason for item in point.interventions}
        peak = max(peak, limit._share(controller._shield.motion)[1])
    assert Reason.JOINT_TORQUE in reasons
    # what a stop takes is all that may come on top
    assert peak < begun + 0.15


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"mass": -1.0}, "mass"),
        ({"centre": [0, 0, 0]}, "mass"),
        ({"mass": 1.0, "weight": 2}, "weight"),
        (3, "mapping"),
    ],
)
def test_a_wrong_payload_is_refused_in_one_sentence(payload, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        load_contract("panda", payload=payload)


# -- contact -----------------------------------------------------------------------------------------------


def swing(spec, kinematics, time, phase, external):
    """A consistent joint state of a smooth motion, with a torque from outside (n,) [Nm]."""
    rate = np.linspace(2.0, 4.0, spec.dof)
    size = 0.1
    q = spec.home + size * np.sin(rate * time + phase)
    v = size * rate * np.cos(rate * time + phase)
    a = -size * rate**2 * np.sin(rate * time + phase)
    torque = kinematics.torques(q, v, a) + external
    return state(time, q, v, torque / spec.contact.torque_per_effort)


@pytest.mark.parametrize("name", ("panda", "fr3", "widowx"))
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_motion_is_no_contact_and_contact_is_noticed(name, seed):
    spec, kinematics = robot(name)
    random = np.random.default_rng(seed)
    phase, joint = random.uniform(-np.pi, np.pi, spec.dof), int(random.integers(spec.dof))
    monitor = ContactMonitor(spec, kinematics)
    external = np.zeros(spec.dof)
    for tick in range(150):
        monitor.observe(swing(spec, kinematics, tick * PERIOD, phase, external))
        assert monitor.finding is None
    external[joint] = random.choice([-1.0, 1.0]) * 1.6 * spec.contact.torque[joint]
    for tick in range(150, 150 + round(3.0 * spec.contact.seconds / PERIOD)):
        monitor.observe(swing(spec, kinematics, tick * PERIOD, phase, external))
    intervention, sentence = monitor.finding
    assert intervention.reason is Reason.CONTACT
    assert intervention.subject == spec.joint_names[joint]
    assert spec.joint_names[joint] in sentence
    monitor.clear()
    assert monitor.finding is None


def test_the_wrists_force_counts_from_activation_on_and_blips_do_not():
    spec, kinematics = robot("ur5")
    monitor = ContactMonitor(replace(spec, payload=Payload(4.0)), kinematics)
    weight = np.array([3.0, -40.0, 2.0])  # of a payload the driver knows nothing of, and the contract does
    for tick in range(100):
        monitor.feel(weight, tick * 0.008)
        assert monitor.finding is None
    monitor.feel(weight + [0.0, 0.0, 60.0], 0.8)  # one sample
    assert monitor.finding is None
    for tick in range(101, 140):
        monitor.feel(weight + [0.0, 0.0, 30.0], tick * 0.008)
    intervention, sentence = monitor.finding
    assert (intervention.reason, intervention.subject) == (Reason.CONTACT, "wrist")
    assert "allowed are 25 N" in sentence


def test_drivers_that_report_no_effort_are_not_judged():
    spec, kinematics = robot("panda")
    monitor = ContactMonitor(spec, kinematics)
    for tick in range(10):
        monitor.observe(state(tick * PERIOD, spec.home))
    assert monitor.finding is None


@pytest.mark.parametrize("name", ("panda", "ur5"))
def test_pressing_on_the_table_stops_the_robot(name):
    """The real chain: simulated torques and forces, filter, threshold, stop."""
    contract = load_contract(name, simulated=True, contact=True)
    spec, period = contract.robot, 0.004
    # a table where none was announced: the controller believes the floor 12 cm lower
    box = replace(spec.workspace, floor=-0.12, minimum=spec.workspace.minimum - [0.0, 0.0, 0.12])
    contract = replace(contract, robot=replace(spec, workspace=box))
    world = World(spec, "pick", 0, timestep=0.002)
    controller = SafetyController(contract, period)
    world.step(2)
    scale = 1.0 if spec.contact.torque_per_effort is None else spec.contact.torque_per_effort

    def measure(time):
        q, v, effort = world.joint_state()
        return state(time, q, v, effort / scale)

    controller.activate(measure(0.0), spec.gripper.max_width, 0.0)
    for tick in range(1, 2000):
        time = tick * period
        measured = measure(time)
        controller.observe([measured])
        controller.feel(world.wrench()[:3], time)
        if tick % 50 == 10:
            steps = np.tile([0.0, 0.0, -0.03], (8, 1))
            turned = np.tile([0.0, 0.0, 0.0, 1.0], (8, 1))
            chunk = ActionChunk(
                measured.stamp, tick, ActionKind.CARTESIAN_DELTA, 0.2, np.full(8, 0.08),
                translation=steps, quaternion=turned,
            )  # fmt: skip
            controller.submit(chunk, time, measured.stamp)
        point = controller.update(time, measured.stamp, measured, 0.001)
        world.set_joint_command(point.setpoint.positions)
        world.step(2)
        if controller.state is SafetyState.STOPPED:
            break
        assert all(item.reason is not Reason.TRACKING_ERROR for item in point.interventions)
    assert controller.state is SafetyState.STOPPED
    assert "feels" in controller.message


# -- frozen joint states, refusals, elbow ------------------------------------------------------------------


def test_joint_states_that_do_not_change_while_the_robot_is_told_to_move():
    spec, _ = robot("panda")
    frozen = FrozenJoints(spec)
    command = spec.home.copy()
    for tick in range(300):  # at rest: identical states are what a robot at rest reports
        assert frozen.look(state(tick * PERIOD, spec.home), command) is None
    found = None
    for tick in range(300, 420):
        command = command + 0.0005
        found = found or frozen.look(state(tick * PERIOD, spec.home), command)
    assert found is not None
    assert found[0].reason is Reason.FROZEN_JOINT_STATE


def test_the_same_joint_state_looked_at_twice_is_not_frozen():
    spec, _ = robot("panda")
    frozen, command = FrozenJoints(spec), spec.home.copy()
    old = state(0.0, spec.home)
    for _ in range(1000):
        command = command + 0.0005
        assert frozen.look(old, command) is None


def test_a_robot_that_moves_is_not_frozen():
    spec, _ = robot("panda")
    frozen, command = FrozenJoints(spec), spec.home.copy()
    for tick in range(1000):
        command = command + 0.0005
        assert frozen.look(state(tick * PERIOD, spec.home + 1e-4 * (tick // 50)), command) is None


@given(st.lists(st.booleans(), min_size=1, max_size=3000), st.sampled_from([0.001, 0.004, 0.01]))
@settings(max_examples=30, deadline=None)
def test_refusals_are_counted_over_two_seconds(refused, period):
    rate = RefusalRate(period)
    window = round(RefusalRate.SECONDS / period)
    for index, item in enumerate(refused):
        newest = refused[max(0, index + 1 - window) : index + 1]
        assert rate.exceeded(item) == (sum(newest) > RefusalRate.SHARE * window)


@pytest.mark.parametrize("name", ROBOTS)
def test_tool_and_elbow_keep_their_speed_in_joint_motions(name):
    contract = load_contract(name, simulated=True)
    spec = contract.robot
    period = 1.0 / contract.control_rate
    controller = SafetyController(contract, period)
    controller.activate(state(0.0, spec.home), spec.gripper.max_width, 0.0)
    random = np.random.default_rng(3)
    reasons, commands, time = set(), [spec.home], 0.0
    for number in range(1, 9):
        swings = np.clip(
            spec.home + random.choice([-0.15, 0.15], spec.dof),
            spec.applied.position_min, spec.applied.position_max,
        )  # fmt: skip
        now = NANOSECONDS + round(time * NANOSECONDS)
        chunk = ActionChunk(
            now, number, ActionKind.JOINT_POSITION, 0.15, np.full(2, 0.05), joints=np.tile(swings, (2, 1))
        )
        controller.submit(chunk, time, now)
        for _ in range(round(0.5 / period)):
            time += period
            now = NANOSECONDS + round(time * NANOSECONDS)
            q = controller._shield.motion.positions
            tick = controller.update(time, now, state(time, q), 0.001)
            reasons |= {item.reason for item in tick.interventions}
            commands.append(tick.setpoint.positions)
    q = np.array(commands)
    values = joint_values(spec.joint_names, q, spec.gripper, np.full(len(q), 0.05))
    runs = [Run(0, len(q), True)]
    chain = read_urdf(spec.urdf, spec.urdf_path)
    speeds, too_fast = judge_speeds(chain, values, np.arange(len(q)), runs, spec, period)
    assert {Reason.TCP_SPEED, Reason.ELBOW_SPEED} & reasons, (
        "the motion must be held back for this to mean much"
    )
    assert not too_fast, f"{too_fast[0]} and {len(too_fast) - 1} more"
    assert max(speeds.shares) > 0.9


def test_too_many_refusals_stop_the_robot_for_good():
    contract = load_contract("panda", simulated=True)
    controller = SafetyController(contract, PERIOD)
    spec = contract.robot
    controller.activate(state(0.0, spec.home), 0.08, 0.0)
    controller._shield._objection = lambda *_: Intervention(
        InterventionAction.STOP, Reason.SHIELD, "everything"
    )
    for tick in range(1, round(RefusalRate.SECONDS / PERIOD)):
        time = tick * PERIOD
        q = controller._shield.motion.positions
        point = controller.update(time, NANOSECONDS, state(time, q), 0.001)
    assert point.state is SafetyState.STOPPED
    assert "refused" in controller.message
    assert controller.reset(state(time, q), 0.08, time)[0]
    del controller._shield._objection
    for _ in range(100):
        time += PERIOD
        point = controller.update(time, NANOSECONDS, state(time, q), 0.001)
    assert point.state is SafetyState.IDLE
