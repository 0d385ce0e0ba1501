"""A taste of benchmarks/adversary.py: hostile streams, judged by code that is none of the controller's."""

from __future__ import annotations

import pytest

from benchmarks.adversary import attack


@pytest.mark.parametrize(("robot", "ticks"), [("panda", 5000), ("widowx", 6000), ("ur5", 5000)])
def test_hostile_streams_break_no_limit(robot: str, ticks: int) -> None:
    reasons = set()
    for name, verdict, found in attack(robot, ticks, seed=7):
        assert not verdict.violations, f"{name}: {verdict.sentence()}"
        reasons |= set(found)
    assert {"limit tcp_speed", "slowdown workspace"} <= reasons, "the streams must push against something"
