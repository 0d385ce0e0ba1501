"""Whose actions count, and that a takeover leaves nothing of the other behind, whatever the blending."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.actions import rotations
from vla_ros.contract import BLENDINGS
from vla_ros.execution.authority import Authority
from vla_ros.execution.blending import make_blending
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.robots import load_robot
from vla_ros.robots.spec import Workspace
from vla_ros.types import ActionChunk, ActionKind, Pose, Source

SPEC = replace(load_robot("ur5"), workspace=Workspace(np.full(3, -10.0), np.full(3, 10.0), -10.0))
START = Pose(np.array([0.4, 0.0, 0.3]), rotations.IDENTITY)
TICK = 0.01


def test_as_long_as_nobody_is_announced_the_policy_is_in_charge() -> None:
    authority = Authority()
    assert authority.allows(Source.POLICY, 5) and not authority.allows(Source.PERSON, 5)
    assert dict(authority.refused) == {"person": 1}


def test_what_was_answered_before_a_change_does_not_count_after_it() -> None:
    authority = Authority()
    assert authority.announce(Source.PERSON, 100, "keyboard")
    assert authority.device == "keyboard"
    assert not authority.allows(Source.POLICY, 90) and not authority.allows(Source.POLICY, 110)
    assert not authority.allows(Source.PERSON, 99) and authority.allows(Source.PERSON, 100)
    assert authority.announce(Source.POLICY, 200)
    assert not authority.allows(Source.POLICY, 199) and authority.allows(Source.POLICY, 200)
    assert not authority.allows(Source.PERSON, 210)
    assert dict(authority.refused) == {"policy": 3, "person": 2}


def test_an_older_word_and_one_said_again_change_nothing() -> None:
    authority = Authority()
    authority.announce(Source.PERSON, 100)
    assert not authority.announce(Source.POLICY, 50) and authority.source is Source.PERSON
    assert not authority.announce(Source.PERSON, 300)
    assert authority.allows(Source.PERSON, 200)


def deltas(rows: np.ndarray, stamp: float, period: float, source: Source) -> ActionChunk:
    count = len(rows)
    return ActionChunk(
        round(stamp * 1e9), 1, ActionKind.CARTESIAN_DELTA, period, np.full(count, 0.05), translation=rows,
        quaternion=np.tile(rotations.IDENTITY, (count, 1)), source=source,
    )  # fmt: skip


class Driven:
    def __init__(self, blending: str) -> None:
        self.executor = ChunkExecutor(SPEC, START, blending=make_blending(blending))
        self.executor.anchor(START, SPEC.home, 0.05)
        self.executor.record(0.0, START)
        self.tick = 0

    @property
    def time(self) -> float:
        return self.tick * TICK

    def run(self, seconds: float) -> np.ndarray:
        seen = []
        for _ in range(round(seconds / TICK)):
            self.tick += 1
            self.executor.record(self.time, self.executor.targets.at(self.time))
            seen.append(self.executor.sample(self.time).pose.position)
        return np.array(seen)

    def policy(self, delay: float = 0.25) -> None:
        """A long chunk along +x that comes late, again and again."""
        rows = np.tile([0.02, 0.0, 0.0], (15, 1))
        self.executor.submit(
            deltas(rows, self.time - delay, 0.2, Source.POLICY), self.time, self.time - delay
        )

    def person(self, row: list[float]) -> None:
        chunk = deltas(np.array([row]), self.time, 0.2, Source.PERSON)
        self.executor.submit(chunk, self.time, self.time)


@pytest.mark.parametrize("blending", BLENDINGS)
def test_within_a_period_of_the_takeover_the_policy_s_chunk_is_over(blending: str) -> None:
    driven = Driven(blending)
    for _ in range(6):
        driven.policy()
        driven.run(0.4)
    assert driven.executor.delays.p95 > 0.2
    there = driven.executor.targets.at(driven.time).position
    speed = driven.executor.sample(driven.time).twist[0]
    assert speed > 0.05
    driven.person([0.0, 0.0, 0.0])
    # the reference comes to rest where the target was, give or take the way it needs to brake
    driven.run(1.0)
    rest = driven.executor.sample(driven.time)
    assert abs(rest.twist).max() < 1e-3
    assert abs(rest.pose.position - there).max() < 1e-6
    # and with the person's next steps it goes where the person wants, and nowhere else
    for _ in range(5):
        driven.person([0.0, 0.01, 0.0])
        driven.run(0.2)
    driven.run(1.0)
    moved = driven.executor.sample(driven.time).pose.position - there
    np.testing.assert_allclose(moved, [0.0, 0.05, 0.0], atol=2e-3)


@pytest.mark.parametrize("blending", BLENDINGS)
def test_handed_back_the_policy_s_next_chunk_goes_on(blending: str) -> None:
    driven = Driven(blending)
    driven.policy()
    driven.run(0.4)
    for _ in range(5):
        driven.person([0.0, 0.01, 0.0])
        driven.run(0.2)
    before = driven.executor.sample(driven.time).pose.position
    driven.run(0.3)
    driven.policy()
    driven.run(1.0)
    moved = driven.executor.sample(driven.time).pose.position - before
    assert moved[0] > 0.05 and abs(moved[2]) < 1e-6 and abs(moved[1]) < 0.01
