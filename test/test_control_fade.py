"""Velocity limits that fall off towards the ends of the joints, as the FR3 has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shields import shield_with

from vla_ros.control.motion import JointMotion, Stop
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.violations import count_violations
from vla_ros.kernels import tool
from vla_ros.robots import load_robot
from vla_ros.types import Reason

FR3 = load_robot("fr3")
LIMITS = FR3.applied


def allowed(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greatest velocity up and down at q, written out from libfranka's rate_limiting.h, halved."""
    offset = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    gain = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    upper = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    lower = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])
    most = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
    up = np.clip(np.sqrt(gain * np.maximum(upper - q, 0.0)) - offset, 0.0, most)
    down = np.clip(np.sqrt(gain * np.maximum(q - lower, 0.0)) - offset, 0.0, most)
    return 0.5 * up, 0.5 * down


def test_the_maker_s_limits_in_the_middle_are_the_full_ones_and_less_at_the_ends():
    up, down = allowed(FR3.home)
    assert (np.minimum(up, down)[[0, 2, 4, 6]] == 0.5 * np.array([2.62, 2.62, 5.26, 5.26])).all()
    up, _ = allowed(LIMITS.position_max)
    assert (up < LIMITS.velocity).all() and (up[:4] < 0.45).all()


@given(st.integers(0, 2**32 - 1))
def test_what_the_shield_accepts_keeps_the_faded_limits_all_along_its_stop(seed):
    random = np.random.default_rng(seed)
    shield = shield_with(FR3, [], 0.001, fast=True)
    q = random.uniform(LIMITS.position_min, LIMITS.position_max)
    beside = random.random(7) < 0.5
    q = np.where(beside, LIMITS.position_max - random.uniform(0.0, 0.3, 7), q)
    motion = JointMotion(
        q,
        random.uniform(-1.0, 1.0, 7) * LIMITS.velocity * random.choice([0.1, 0.5, 1.0]),
        random.uniform(-1.0, 1.0, 7) * LIMITS.acceleration,
    )
    shield.anchor(JointMotion.at_rest(q), 0.08)
    verdict = shield.judge(motion, 0.08)
    stop = Stop(motion, LIMITS)
    worst = -np.inf
    for time in np.linspace(0.0, stop.duration, 400):
        now = stop.at(time)
        up, down = allowed(now.positions)
        worst = max(worst, float((now.velocities - up).max()), float((-now.velocities - down).max()))
    if verdict.refused is None:
        assert worst < 1e-6
    elif verdict.refused.reason is Reason.JOINT_VELOCITY:
        return
    else:
        assert verdict.refused.reason is Reason.JOINT_POSITION


@given(st.integers(0, 2**32 - 1))
def test_the_box_of_the_inverse_kinematics_leads_nowhere_the_shield_would_refuse(seed):
    random = np.random.default_rng(seed)
    q = LIMITS.position_max - random.uniform(0.0, 1.0, 7)
    box = tool.velocity_box(
        q, 2.0 * LIMITS.velocity, LIMITS.position_min, LIMITS.position_max, LIMITS.velocity, LIMITS.fades,
        LIMITS.acceleration, LIMITS.jerk, 0.92, 1.0, 10.0, 1e9,
    )  # fmt: skip
    speed = np.maximum(box[1], 0.0)
    stop = Stop(JointMotion(q, speed, np.zeros(7)), LIMITS)
    up, _ = allowed(stop.at(stop.duration).positions)
    assert (speed <= up + 1e-9).all()


def test_the_judge_knows_the_faded_limits_and_so_the_maker_s_full_speed_there_is_a_violation():
    period, joint = 0.001, 1
    at_end = FR3.home.copy()
    at_end[joint] = LIMITS.position_max[joint] - 0.02
    speed = 0.9 * LIMITS.velocity[joint]
    q = np.tile(at_end, (50, 1))
    q[:, joint] += speed * period * (np.arange(50) - 50)
    ticks = np.arange(50)
    found = count_violations(ticks, q, LIMITS, period, FR3.joint_names, from_rest=False)
    assert {v.kind for v in found} == {"velocity"} and {v.subject for v in found} == {"fr3_joint2"}
    q[:, joint] = FR3.home[joint] + speed * period * (np.arange(50) - 50)
    assert not count_violations(ticks, q, LIMITS, period, FR3.joint_names, from_rest=False)


def test_a_fade_that_makes_no_sense_is_refused_with_file_and_key(tmp_path):
    text = FR3.yaml_path.read_text().replace("gain: [12.0", "gain: [-12.0")
    (tmp_path / "fr3.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="velocity_fade.gain"):
        load_robot(str(tmp_path / "fr3.yaml"))
