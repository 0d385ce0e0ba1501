"""A taste of benchmarks/adversary.py: hostile streams, judged by code that is none of the controller's."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.adversary import attack


@pytest.mark.parametrize("robot", ["panda", "fr3", "widowx", "ur5", "ur5e"])
def test_hostile_streams_break_no_limit(robot: str) -> None:
    reasons, ticks, moved = Counter[str](), 0, []
    for found in attack(robot, 40_000, seed=7):
        assert not found.verdict.violations, f"{found.name}: {found.verdict.sentence()}"
        assert not found.reflexes, f"{found.name}: {found.reflexes}"
        reasons += found.reasons
        ticks += found.verdict.ticks
        moved.append(found.verdict.peaks[0].max() > 0.1)
    assert ticks >= 40_000 and all(moved), "a robot that stands breaks no limit"
    pushed_against = {"limit tcp_speed", "slowdown workspace", "slowdown floor", "limit joint_velocity"}
    assert pushed_against <= set(reasons), "the streams must push against something"
