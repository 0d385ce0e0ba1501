"""When an episode ends, and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.episode import Episode, Outcome, Rules, sentence
from vla_ros.types import SafetyState


def episode(judged: bool = True, **rules: float) -> Episode:
    return Episode("e1", "pick", "pick up the red block", Rules(**rules), 100.0, judged, 7)


@given(st.floats(0.1, 100), st.floats(0, 200))
def test_time_is_over_exactly_after_the_limit(timeout: float, after: float) -> None:
    e = episode(timeout=timeout, first_answer=1e6)
    e.check(100.0 + after)
    assert (e.outcome is Outcome.FAILURE) == (100.0 + after - 100.0 > timeout)


def test_no_limit_when_zero() -> None:
    e = episode(timeout=0.0)
    e.on_answer(101.0, False)
    e.check(1e6)
    assert e.outcome is Outcome.RUNNING and e.steps == 1


@given(st.lists(st.tuples(st.floats(0.05, 1.0), st.booleans()), min_size=1, max_size=40))
def test_errors_end_it_only_when_nothing_good_comes_for_longer_than_patience(
    events: list[tuple[float, bool]],
) -> None:
    e = episode(patience=1.5, timeout=0.0)
    now, bad_since = 100.0, None
    for wait, good in events:
        now += wait
        e.check(now)
        over = bad_since is not None and now - bad_since > 1.5
        assert (e.outcome is Outcome.ABORTED) == over
        if over:
            assert e.reason == "Nothing in sight."
            return
        if good:
            e.on_answer(now, False)
            bad_since = None
        else:
            e.on_trouble(now, "policy", "Nothing in sight.")
            bad_since = now if bad_since is None else bad_since


def test_trouble_of_a_node_is_forgotten_when_it_is_well_again() -> None:
    e = episode(patience=1.0)
    e.on_trouble(101.0, "ingester", "Nothing arrives.")
    e.on_trouble(101.9, "ingester", "")
    e.check(103.0)
    assert e.outcome is Outcome.RUNNING


@pytest.mark.parametrize("state", list(SafetyState))
def test_a_latched_stop_ends_it_and_nothing_else(state: SafetyState) -> None:
    e = episode()
    e.on_safety(105.0, state, "", 10)
    assert e.interventions == 3
    latched = state in (SafetyState.STOPPED, SafetyState.FAULT)
    assert (e.outcome is Outcome.ABORTED) == latched
    if latched:
        assert state.name in e.reason and e.elapsed(999.0) == 5.0


def test_the_judge_decides_and_only_the_first_end_counts() -> None:
    e = episode()
    e.on_verdict(104.0, Outcome.RUNNING, "")
    assert e.outcome is Outcome.RUNNING
    e.on_verdict(104.0, Outcome.SUCCESS, "the red block was lifted")
    e.end(105.0, Outcome.FAILURE, "late")
    assert (e.outcome, e.reason, e.elapsed(200.0)) == (Outcome.SUCCESS, "The red block was lifted.", 4.0)


def test_the_policys_own_end() -> None:
    alone = episode(judged=False)
    alone.on_answer(101.0, True)
    alone.check(101.1)
    assert alone.outcome is Outcome.SUCCESS
    judged = episode(judged=True, settle=2.0)
    judged.on_answer(101.0, True)
    judged.check(102.9)
    assert judged.outcome is Outcome.RUNNING
    judged.check(103.1)
    assert judged.outcome is Outcome.FAILURE and "simulator" in judged.reason


def test_a_policy_that_never_answers() -> None:
    e = episode(first_answer=5.0)
    e.check(104.9)
    assert e.outcome is Outcome.RUNNING
    e.check(105.1)
    assert e.outcome is Outcome.ABORTED and "5 s" in e.reason


@pytest.mark.parametrize(("text", "wanted"), [("done", "Done."), ("Why?", "Why?"), ("", ""), (" a.", "A.")])
def test_sentences(text: str, wanted: str) -> None:
    assert sentence(text) == wanted
