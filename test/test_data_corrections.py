"""A person who takes over from a policy: the recording is usable, and every step says who drove."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstration_bag import Demonstration, Sent, at, write_bag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taking_turns import PERSON, POLICY, in_charge, ns, turns

from vla_ros.data.audit import Level, audit_bag
from vla_ros.data.audit.look import Look
from vla_ros.data.conversion import Options, convert
from vla_ros.data.demonstration import Change, Given, carried_out, steps_of
from vla_ros.data.open import open_dataset
from vla_ros.errors import DataError

SECONDS, PERIOD = 9.0, 0.2
ONCE = [(-5.0, POLICY), (3.03, PERSON), (6.11, POLICY)]
"""Take over, hand back."""


def correction(switches: Any = ONCE, **changes: Any) -> Demonstration:
    ours = ("delay", "horizon", "heard_after", "restarts")
    known = {name: changes.pop(name) for name in ours if name in changes}
    sent = turns(switches, SECONDS, **known)
    return Demonstration(seconds=SECONDS, changes=switches, sent=sent, **changes)


def given_of(sent: list[Sent]) -> list[Given]:
    return [
        Given(
            ns(s.stamp), ns(s.published), len(np.atleast_2d(s.rows)), s.sequence, s.source
        )
        for s in sent
    ]  # fmt: skip


def times(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(stamps [s], whether a person drove) of the steps, by the audit."""
    looks: list[Look] = []
    audit_bag(path, visit=lambda look, episode: looks.append(look))
    return (looks[0].steps.stamps - at(0.0)) * 1e-9, looks[0].steps.person


@pytest.mark.parametrize("horizon", [1, 8])
@pytest.mark.parametrize("switches", [
    ONCE,
    [(-5.0, POLICY), (2.0, PERSON), (3.1, POLICY), (4.9, PERSON), (6.3, POLICY), (8.2, PERSON)],
    [(-5.0, PERSON), (4.0, POLICY)],
    # Taken back before the policy's first answer was there.
    [(-5.0, POLICY), (3.0, PERSON), (5.0, POLICY), (5.2, PERSON)],
])  # fmt: skip
def test_a_correction_is_usable_and_marked(tmp_path: Path, horizon: int, switches: Any) -> None:
    delay = 0.3 if horizon > 1 else 0.1
    bag = write_bag(tmp_path / "bag", correction(switches, horizon=horizon, delay=delay))
    audit = audit_bag(bag)
    (episode,) = audit.episodes.values()
    remarks = [f.sentence for f in episode.findings if f.level is not Level.PASS]
    assert audit.verdict == "usable", remarks
    stamps, person = times(bag)
    assert person.tolist() == [in_charge(switches, t) == PERSON for t in stamps]
    source = open_dataset(bag)
    assert source.steps(0) == len(stamps) == episode.steps
    # No step is lost but those of the policy's first answer and of a turn's last moment.
    assert len(stamps) > SECONDS / PERIOD - 4 * len(switches)
    taken = source.episode(0).extra["is_intervention"]
    assert taken.tolist() == person.tolist()
    for kind in ("lerobot", "rlds"):
        convert(source, tmp_path / kind, kind, Options(workers=1))
        made = open_dataset(tmp_path / kind).episode(0)
        assert made.extra["is_intervention"].reshape(-1).tolist() == person.tolist(), kind
        assert made.is_terminal.tolist() == [False] * (len(person) - 1) + [True]


def test_the_actions_are_those_of_who_drove(tmp_path: Path) -> None:
    one = correction()
    bag = write_bag(tmp_path / "bag", one)
    stamps, person = times(bag)
    actions = open_dataset(bag).episode(0).actions
    assert one.sent is not None
    for t, mine, action in zip(stamps, person, actions, strict=True):
        if mine:
            (sent,) = [s for s in one.sent if s.source == PERSON and abs(s.stamp - t) < 1e-6]
            row = sent.rows
        else:
            due = [s for s in one.sent if s.source == POLICY and s.chunk and s.published <= t + 1e-6]
            sent = max(due, key=lambda s: s.stamp)
            row = sent.rows[int((t - sent.stamp) / PERIOD + 1e-6)]
        np.testing.assert_allclose(action, np.float32(row), atol=1e-7)


def test_an_answer_that_was_under_way_counts_as_it_was_judged(tmp_path: Path) -> None:
    """The chunker may hear of the change behind an output that left behind it, and the other way round."""
    late = correction(heard_after=0.45)
    assert late.sent is not None
    refused = [s for s in late.sent if s.source == PERSON and not s.chunk]
    through = [s for s in late.sent if s.source == POLICY and s.chunk and 3.03 < s.published < 6.0]
    assert refused and through
    bag = write_bag(tmp_path / "bag", late)
    stamps, person = times(bag)
    assert person.tolist() == [in_charge(ONCE, t) == PERSON for t in stamps]
    assert (np.diff(stamps) > 0.5 * PERIOD).all()
    assert open_dataset(bag).steps(0) == len(stamps)


def test_a_policy_that_was_started_anew(tmp_path: Path) -> None:
    one = correction(restarts=[2.0, 4.0, 7.0])
    assert one.sent is not None and sum(s.sequence == 0 for s in one.sent) >= 3
    audit = audit_bag(write_bag(tmp_path / "bag", one))
    assert audit.verdict == "usable", audit.sentence()


def test_what_was_refused_is_not_judged(tmp_path: Path) -> None:
    """A policy whose refused answers are worthless does not make the person's steps so."""
    one = correction()
    assert one.sent is not None
    one.sent = [s if s.chunk else replace(s, rows=s.rows * np.nan) for s in one.sent]
    bag = write_bag(tmp_path / "bag", one)
    assert audit_bag(bag).verdict == "usable"
    assert np.isfinite(open_dataset(bag).episode(0).actions).all()


def test_three_who_send(tmp_path: Path) -> None:
    """A replayer sends as a policy does: its stamps are its own."""
    one = correction(horizon=1, delay=0.1)
    assert one.sent is not None
    other = [Sent(s.stamp - 0.6, s.published, POLICY, "replay", s.rows, s.sequence) for s in one.sent
             if s.source == POLICY and 3.1 < s.published < 6.1]  # fmt: skip
    one.sent = sorted([*one.sent, *other], key=lambda s: s.published)
    bag = write_bag(tmp_path / "bag", one)
    assert audit_bag(bag).verdict == "usable"
    assert open_dataset(bag).steps(0) == len(times(bag)[0])


@pytest.mark.parametrize("sender", ["of slow", "of keyboard"])
def test_a_clock_that_was_set_is_found_in_each(tmp_path: Path, sender: str) -> None:
    one = correction(shift=lambda name, t: t - 0.9 * (name == sender and t > 4.0))
    bag = write_bag(tmp_path / "bag", one)
    audit = audit_bag(bag)
    findings = audit.episodes["e0"].findings
    wrong = [f.sentence for f in findings if f.check == "order" and f.level is Level.FAIL]
    name = sender.removeprefix("of ")
    assert len(wrong) == 1 and f"actions of {name}: the clock goes backwards 1 time" in wrong[0]
    with pytest.raises(DataError, match=f"policy_output of {name} go back"):
        open_dataset(bag)


def test_a_clock_that_was_set_between_turns_is_found(tmp_path: Path) -> None:
    """Each sender's stamps grow, but what the person sends left long before what was recorded before it."""
    switches = [(-5.0, POLICY), (4.0, PERSON)]
    one = correction(switches, shift=lambda name, t: t - 3.0 * (name == "of keyboard"))
    assert one.sent is not None
    one.sent = [s for s in one.sent if s.source == PERSON or s.published < 4.0]
    bag = write_bag(tmp_path / "bag", one)
    found = {f.subject for f in audit_bag(bag).episodes["e0"].findings if f.check == "order"}
    assert found == {"actions"}
    with pytest.raises(DataError, match="the clock was set"):
        open_dataset(bag)


SWITCHES = st.lists(st.floats(0.05, 2.5), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    SWITCHES, st.booleans(), st.sampled_from([0.02, 0.1, 0.3, 0.7]), st.sampled_from([1, 2, 8]),
    st.sampled_from([0.0, 0.05, 0.3]), st.booleans(),
)  # fmt: skip
def test_turns_of_any_length(
    lengths: list[float], person_first: bool, delay: float, horizon: int, heard_after: float, chunks: bool
) -> None:
    """Steps ascend, no two of them share most of a period, none was refused, none is out of its turn."""
    switches = [(-1.0, PERSON if person_first else POLICY)]
    for length in lengths:
        switches.append((max(switches[-1][0], 0.0) + length, 1 - switches[-1][1]))
    seconds = switches[-1][0] + 1.5
    sent = turns(switches, seconds, delay, horizon, PERIOD, heard_after if chunks else 0.0)
    outputs = given_of(sent)
    changes = [Change(ns(t), who) for t, who in switches]
    executed = {o.key for o, s in zip(outputs, sent, strict=True) if s.chunk} if chunks else None
    assert carried_out(outputs, changes, executed) == [s.chunk for s in sent]
    period = round(1e9 * PERIOD)
    steps, gap = steps_of(outputs, period, ns(seconds), changes, executed)
    stamps = [step.stamp for step in steps]
    assert all(b - a >= period // 2 for a, b in zip(stamps, stamps[1:], strict=False))
    for step in steps:
        one = outputs[step.output]
        assert sent[step.output].chunk and 0 <= step.row < one.horizon and one.stamp <= step.stamp
        # a chunker that hears late lets the one before go on for as long
        assert one.source == in_charge(switches, (step.stamp - ns(0.0)) * 1e-9) or heard_after > 0.0
    for number, (since, who) in enumerate(switches):
        until = switches[number + 1][0] if number + 1 < len(switches) else seconds
        mine = [s for s in sent if s.source == who == PERSON and s.chunk and since <= s.stamp < until]
        if horizon == 1 or delay < 0.3:
            # every action of a person but, perhaps, the last of a turn is there
            there = {step.stamp for step in steps}
            assert all(ns(s.stamp) in there for s in mine[:-1])
