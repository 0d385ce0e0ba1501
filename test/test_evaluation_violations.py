"""The judge finds what was injected, and nothing in clean motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.evaluation.violations import Run, count_violations, further_out, rounding, split_runs
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.spec import JointLimits

# the motions made here know nothing of limits that fade towards the ends: test_control_fade has those
ROBOTS = st.sampled_from([replace(load_robot(name).applied, fade=None) for name in robot_names()])
PERIODS = st.sampled_from([0.001, 0.002, 0.004, 0.01])


def smooth(limits: JointLimits, period: float, seed: int, share: float = 0.999) -> np.ndarray:
    """Minimum-jerk motions from rest to rest at `share` of the tightest limit of each joint, (N, n)."""
    rng = np.random.default_rng(seed)
    n = len(limits.velocity)
    start = rng.uniform(limits.position_min, limits.position_max)
    parts = []
    for _ in range(2):
        goal = rng.uniform(limits.position_min, limits.position_max)
        way = np.abs(goal - start)
        # peaks of the minimum-jerk polynomial over (distance, duration): 15/8, 10/sqrt(3), 60
        seconds = (
            np.max(
                [
                    15 / 8 * way / limits.velocity,
                    np.sqrt(10 / np.sqrt(3) * way / limits.acceleration),
                    np.cbrt(60 * way / limits.jerk),
                ]
            )
            / share
            + 3 * period
        )
        s = np.clip(np.arange(0, int(seconds / period) + 4) * period / seconds, 0, 1)[:, None]
        parts.append(start + (goal - start) * (10 * s**3 - 15 * s**4 + 6 * s**5))
        start = goal
    assert parts[0].shape[1] == n
    return np.concatenate(parts)[:4000]


def kinds(limits: JointLimits, q: np.ndarray, period: float, **options: object) -> set[str]:
    return {v.kind for v in count_violations(np.arange(len(q)), q, limits, period, **options)}


@given(ROBOTS, PERIODS, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_clean_motion_passes(limits: JointLimits, period: float, seed: int) -> None:
    q = smooth(limits, period, seed)
    assert count_violations(np.arange(len(q)), q, limits, period) == []


@given(ROBOTS, st.sampled_from([0.004, 0.01]), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_clean_motion_passes_in_single_precision(limits: JointLimits, period: float, seed: int) -> None:
    q = smooth(limits, period, seed).astype(np.float32)
    assert not kinds(limits, q, period, epsilon=float(np.finfo(np.float32).eps))


def ramp(order: int, count: int, at: int, period: float) -> np.ndarray:
    """A motion whose derivative of the given order is one from tick `at` on."""
    t = np.maximum(np.arange(count) - at, 0) * period
    return t**order / (1.0, 1.0, 2.0, 6.0)[order] * (np.arange(count) >= at)


@given(ROBOTS, PERIODS, st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 3]), st.data())
@settings(max_examples=80, deadline=None)
def test_injected_jumps_are_found(
    limits: JointLimits, period: float, seed: int, order: int, data: st.DataObject
) -> None:
    q = smooth(limits, period, seed, share=0.7)
    joint = data.draw(st.integers(0, q.shape[1] - 1))
    at = data.draw(st.integers(3, len(q) - 3))
    jerk = limits.jerk[joint]
    # each of these alone needs a jerk of 2.5 times the limit; the clean motion has at most 0.7 of it
    size = 2.5 * jerk * period ** (3 - order)
    q[:, joint] += size * ramp(order, len(q), at, period)
    found = count_violations(np.arange(len(q)), q, limits, period)
    hits = [v for v in found if v.kind == "jerk" and v.subject == str(joint)]
    assert hits
    assert abs(hits[0].tick - at) <= 3 and abs(hits[0].value) > hits[0].limit


@pytest.mark.parametrize(("factor", "broken"), [(0.9999, False), (1.0001, True)])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_derivative_is_held_against_its_own_limit(order: int, factor: float, broken: bool) -> None:
    kind, period = ("velocity", "acceleration", "jerk")[order - 1], 0.001
    wide = {name: np.full(2, 1e9) for name in ("velocity", "acceleration", "jerk", "torque")}
    limits = JointLimits(
        **{**wide, kind: np.array([2.0, 1e9])}, position_min=-wide["jerk"], position_max=wide["jerk"]
    )
    q = np.stack([factor * 2.0 * ramp(order, 60, 0, period), np.zeros(60)], axis=1)
    found = kinds(limits, q, period, from_rest=False)
    assert found == ({kind} if broken else set())


def test_positions_and_names() -> None:
    limits = load_robot("panda").applied
    q = np.repeat(load_robot("panda").home[None], 20, axis=0)
    q[10:, 3] = limits.position_max[3] + 0.01
    found = count_violations(np.arange(20) + 100, q, limits, 0.001, load_robot("panda").joint_names)
    first = next(v for v in found if v.kind == "position")
    assert (first.subject, first.tick) == ("panda_joint4", 110)
    assert first.value == q[10, 3] and first.limit == limits.position_max[3]


def test_a_start_outside_may_come_in_but_not_go_out() -> None:
    excess = np.array([3.0, 2.0, 2.0, 2.5, 1.0, -1.0, 0.5])[:, None]
    assert further_out(excess, 1e-9)[:, 0].tolist() == [False, False, False, True, False, False, True]


def test_not_finite_is_a_violation() -> None:
    limits = load_robot("ur5").applied
    q = np.zeros((5, 6))
    q[2, 1] = np.nan
    (found,) = count_violations(np.arange(5), q, limits, 0.004)
    assert (found.kind, found.subject, found.tick) == ("not_finite", "1", 2)


def test_runs_are_cut_where_the_story_breaks() -> None:
    ticks = np.array([0, 1, 2, 5, 6, 0, 1, 2])
    assert split_runs(ticks) == [Run(0, 3, True), Run(3, 5, False), Run(5, 8, True)]
    restarts = np.zeros(8, bool)
    restarts[[1, 3]] = True
    assert split_runs(ticks, restarts)[:3] == [Run(0, 1, True), Run(1, 3, True), Run(3, 5, True)]
    assert split_runs(np.array([], np.int64)) == []


def test_a_hole_in_the_recording_is_no_violation_but_a_jump_after_reset_is_judged() -> None:
    limits, period = load_robot("panda").applied, 0.004
    q = smooth(limits, period, 1)[:200]
    keep = np.r_[0:80, 120:200]
    assert count_violations(keep, q[keep], limits, period) == []
    restarts = np.zeros(160, bool)
    restarts[80] = True
    # said to start from rest there, the motion in course is a jump
    assert {v.kind for v in count_violations(keep, q[keep], limits, period, restarts=restarts)} >= {"jerk"}


def test_a_start_in_motion_is_found() -> None:
    limits = load_robot("panda").applied
    q = np.outer(np.arange(50) * 0.004 * 0.5, np.ones(7)) * limits.velocity + load_robot("panda").home
    assert "jerk" in kinds(limits, q, 0.004)
    assert not kinds(limits, q, 0.004, from_rest=False)


def test_rounding_grows_with_the_order() -> None:
    eps = float(np.finfo(np.float32).eps)
    r = [float(rounding(np.array([3.0]), eps, 0.01, order)[0]) for order in (1, 2, 3)]
    np.testing.assert_allclose(r, [eps * 3 / 0.01, 2 * eps * 3 / 1e-4, 4 * eps * 3 / 1e-6])
