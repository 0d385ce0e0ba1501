"""FCI's checks: what is within the maker's limits passes, what is beyond trips, and which limit is said."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.evaluation.violations import count_violations
from vla_ros.robots import load_robot
from vla_ros.sim.drivers.fci import ERRORS, FciCheck, first_reflex

SPEC = load_robot("panda")
LIMITS = SPEC.published
KINDS = dict(zip(("position", "velocity", "acceleration", "jerk"), ERRORS.values(), strict=True))


def quintic(distance, seconds, period):
    """Rest to rest along the minimum-jerk curve, (N, n), all joints alike."""
    t = np.minimum(np.arange(round(seconds / period) + 50) * period / seconds, 1.0)
    return SPEC.home + distance * (t**3 * (10 - 15 * t + 6 * t * t))[:, None]


def one_by_one(positions, period):
    check = FciCheck(LIMITS, period)
    check.start(positions[0])
    for k, row in enumerate(positions):
        error = check.check(row)
        if error:
            return k, error, check.joint
    return None


@pytest.mark.parametrize("period", [0.001, 0.004])
def test_a_smooth_motion_passes_and_may_end(period):
    positions = quintic(0.3, 1.0, period)
    assert first_reflex(positions, LIMITS, period) is None
    assert one_by_one(positions, period) is None


@pytest.mark.parametrize("period", [0.001, 0.004])
@pytest.mark.parametrize("jump", ["lost", "repeated"])
def test_a_hole_and_a_pause_in_a_motion_trip(period, jump):
    positions = quintic(0.6, 1.0, period)
    middle = len(positions) // 3
    broken = (
        np.delete(positions, middle, axis=0)
        if jump == "lost"
        else np.insert(positions, middle, positions[middle - 1], axis=0)
    )
    found = first_reflex(broken, LIMITS, period)
    assert found is not None and found.index == middle
    # a step of that size breaks the acceleration, which libfranka calls a discontinuity of the velocity
    assert found.error == "joint_motion_generator_velocity_discontinuity"


@pytest.mark.parametrize("order, kind", [(1, "velocity"), (2, "acceleration"), (3, "jerk")])
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_each_limit_is_found_at_its_limit(order, kind, share):
    """Joint 2 reaches a share of the one limit, everything else far below its own."""
    period, joint = 0.001, 2
    limit = (LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk)[order - 1][joint]
    derivative = np.zeros(4000)
    if order == 1:  # slowly up to the velocity
        derivative[:1500] = share * limit * (1 - np.cos(np.linspace(0, np.pi, 1500))) / 2
        derivative[1500:] = derivative[1499]
    elif order == 2:
        derivative[:40] = share * limit * (1 - np.cos(np.linspace(0, 2 * np.pi, 40))) / 2
        derivative[19] = share * limit
    else:
        derivative[5], derivative[6:8] = share * limit, -0.5 * share * limit
    for _ in range(order):
        derivative = np.cumsum(derivative) * period
    positions = np.tile(SPEC.home, (len(derivative), 1))
    positions[:, joint] += derivative
    # the position limits are not what is looked at
    limits = dataclasses.replace(LIMITS, position_min=np.full(7, -1e3), position_max=np.full(7, 1e3))
    found = first_reflex(positions, limits, period)
    if share < 1.0:
        assert found is None
    else:
        assert found is not None and (found.error, found.joint) == (KINDS[kind], joint)


def test_outside_the_position_limits_and_not_a_number():
    positions = np.tile(SPEC.home, (3, 1))
    positions[2, 3] = np.nan
    found = first_reflex(positions, LIMITS, 0.001)
    assert found is not None and (found.index, found.error) == (2, KINDS["position"])
    beyond = FciCheck(LIMITS, 0.001)
    beyond.start(SPEC.home)
    assert beyond.check(SPEC.home + 9.0) == KINDS["position"] and beyond.joint == 0


def test_a_row_of_rest_begins_anew():
    first, second = quintic(0.2, 1.0, 0.004), quintic(0.2, 1.0, 0.004) + 0.05
    both = np.concatenate([first, second])
    found = first_reflex(both, LIMITS, 0.004)
    assert found is not None and found.index == len(first)
    assert first_reflex(both, LIMITS, 0.004, [len(first)]) is None


def test_nothing_commanded_is_no_reflex():
    assert first_reflex(np.empty((0, 7)), LIMITS, 0.001) is None


def test_a_refused_command_is_not_remembered():
    check = FciCheck(LIMITS, 0.004)
    check.start(SPEC.home)
    assert check.check(SPEC.home + 0.1) is not None
    assert check.check(SPEC.home) is None and check.halts


def test_a_robot_in_motion_may_not_just_stand():
    check = FciCheck(LIMITS, 0.001)
    check.start(SPEC.home)
    for row in quintic(0.6, 1.0, 0.001)[:400]:
        assert check.check(row) is None
    assert not check.halts
    assert check.check(check._state[0].copy()) == KINDS["acceleration"]


def test_the_fr3_is_slower_towards_its_ends():
    spec = load_robot("fr3")
    limits, period, speed = spec.published, 0.001, 1.5
    ramp = np.minimum(np.arange(2000) / 400, 1.0)
    steps = np.zeros((2000, 7))
    steps[:, 0] = speed * ramp * ramp * (3 - 2 * ramp) * period
    positions = spec.home + np.cumsum(steps, axis=0)
    inside = positions[positions[:, 0] < limits.position_max[0]]
    found = first_reflex(inside, limits, period)
    assert found is not None and (found.error, found.joint) == (KINDS["velocity"], 0)
    # where the published limit, -0.30 + sqrt(12 (2.7501 - q)), falls below the speed
    assert inside[found.index - 1, 0] == pytest.approx(2.7501 - (speed + 0.30) ** 2 / 12, abs=0.003)
    assert first_reflex(inside, dataclasses.replace(limits, fade=None), period) is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 0.004]),
    st.floats(-7.0, -1.0),
    st.integers(4, 60),
)
def test_it_agrees_with_the_judge_of_recordings(seed, period, size, rows):
    """Another implementation, written for another purpose, finds its first violation at the same command."""
    random = np.random.default_rng(seed)
    steps = np.cumsum(random.normal(size=(rows, 7)) * 10.0**size, axis=0)
    steps[0] = 0.0
    positions = SPEC.home + np.cumsum(steps, axis=0)
    found = first_reflex(positions, LIMITS, period)
    judged = count_violations(np.arange(rows), positions, LIMITS, period)
    first = min((violation.tick for violation in judged), default=None)
    assert (None if found is None else found.index) == first
    assert one_by_one(positions, period) == (
        None if found is None else (found.index, found.error, found.joint)
    )
    if found is not None:
        kinds = {KINDS[violation.kind] for violation in judged if violation.tick == first}
        assert found.error in kinds


def test_a_command_costs_less_than_a_cycle_can_spare():
    """Not a benchmark: that the check is compiled, not interpreted, shows by a factor of hundreds."""
    positions = np.tile(quintic(0.3, 1.0, 0.004), (400, 1))
    assert first_reflex(positions[:300], LIMITS, 0.004) is None
    begun = time.process_time()
    first_reflex(positions, LIMITS, 0.004, range(0, len(positions), 300))
    assert time.process_time() - begun < 5e-6 * len(positions)
