"""How fast late steps are executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.execution.pace import (
    FOLLOWING,
    AnswerIntervals,
    in_time,
    lasting,
    share_of_pace,
    slow_sentence,
)

horizons = st.integers(1, 50)
periods = st.floats(0.02, 1.0)
seconds = st.floats(0.0, 3.0)


@given(horizons, periods, seconds, st.floats(0.01, 3.0))
def test_a_late_chunk_ends_after_it_came_and_never_faster_than_meant(horizon, period, age, interval):
    pace = share_of_pace(horizon, period, age, interval)
    assert 0.0 < pace <= 1.0
    if in_time(horizon, period, age):
        assert pace == 1.0
    else:
        assert lasting(horizon, period, age, interval) >= max(age + 0.5 * period, horizon * period) - 1e-9


@given(periods, st.floats(0.0, 2.0), st.floats(0.01, 2.0))
def test_who_is_late_by_a_period_leaves_room_for_the_next_answer(period, beyond, interval):
    age = period + beyond
    assert lasting(1, period, age, interval) >= age + interval


@given(horizons, periods, st.floats(0.01, 3.0))
def test_the_time_is_continuous_where_an_answer_begins_to_be_late(horizon, period, interval):
    edge = (horizon - 0.5) * period
    assert lasting(horizon, period, edge, interval) == pytest.approx(horizon * period)
    ages = [edge + k * 1e-4 for k in range(3)]
    found = [lasting(horizon, period, age, interval) for age in ages]
    steepest = 1.0 + (1.2 * interval + horizon * period) / (0.5 * period)
    assert all(abs(b - a) <= steepest * 1e-4 + 1e-9 for a, b in zip(found, found[1:], strict=False))


def test_the_usual_interval_is_the_median_of_answers_that_follow_each_other():
    intervals = AnswerIntervals()
    assert intervals.usual is None
    intervals.add(1.0)
    assert intervals.usual is None
    for time in (1.2, 1.4, 1.9, 2.1, 2.1 + FOLLOWING + 5.0):
        intervals.add(time)
    assert intervals.usual == pytest.approx(0.2)
    intervals.clear()
    intervals.add(0.0)
    assert intervals.usual is None


def test_the_sentence_says_the_rate_the_answers_and_the_cost():
    assert slow_sentence(1, 0.2, 0.35, 0.36, 0.256) == (
        "the policy is too slow for 5 Hz: one step every 0.36 s, 0.35 s old; "
        "the robot moves at 26 % of its pace".replace(" %", "%")
    )
    assert "8 steps every" in slow_sentence(8, 0.2, 2.0, 2.0, 0.5)
