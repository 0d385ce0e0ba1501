"""The rule that makes steps of messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vla_ros.data.demonstration import Given, Step, newest, steps_of

P = 200


def test_single_actions_are_the_steps() -> None:
    outputs = [Given(1000 + k * P, 1000 + k * P, 1) for k in range(4)]
    steps, gap = steps_of(outputs, P, 10_000)
    assert steps == tuple(Step(1000 + k * P, k, 0) for k in range(4))
    assert gap is None


def test_chunks_give_the_row_that_is_due() -> None:
    outputs = [Given(0, 50, 4), Given(390, 610, 4)]
    steps, gap = steps_of(outputs, P, 1000)
    # At 0 nothing was out; at 400 and 600 the second existed, but had not left yet.
    assert steps == (Step(200, 0, 1), Step(400, 0, 2), Step(600, 0, 3), Step(800, 1, 2))
    assert gap is None


def test_rows_that_run_out_end_the_episode() -> None:
    steps, gap = steps_of([Given(0, 0, 3), Given(2000, 2000, 3)], P, 3000)
    assert [step.row for step in steps] == [0, 1, 2]
    assert gap == 600


def test_nothing_given() -> None:
    assert steps_of([], P, 1000) == ((), None)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 900), st.integers(2, 6)), min_size=1, max_size=8),
    st.integers(100, 5000),
)
def test_no_step_takes_an_action_from_the_future(raw: list[tuple[int, int, int]], end: int) -> None:
    outputs = [Given(s, s + late, horizon) for s, late, horizon in sorted(raw)]
    steps, gap = steps_of(outputs, P, end)
    for before, after in zip(steps, steps[1:], strict=False):
        assert after.stamp - before.stamp == P
    for step in steps:
        output = outputs[step.output]
        assert output.stamp <= step.stamp < end
        assert output.published <= step.stamp
        assert 0 <= step.row < output.horizon
        assert 0 <= step.stamp - output.stamp - step.row * P < P
        out = [o for o in outputs if o.stamp <= step.stamp and o.published <= step.stamp]
        assert max(o.stamp for o in out) == output.stamp
    if gap is not None and steps:
        assert gap == steps[-1].stamp + P


@given(st.lists(st.integers(0, 100)), st.integers(-10, 110))
def test_newest_is_never_younger(stamps: list[int], stamp: int) -> None:
    stamps.sort()
    at = newest(stamps, stamp)
    assert at == sum(s <= stamp for s in stamps) - 1
