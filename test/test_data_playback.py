"""Steps of a recording under pauses and single steps: none lost, none doubled, none early."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from vla_ros.data.playback import SPEEDS, Pace, StepClock, next_speed


def test_steps_lie_on_a_grid() -> None:
    clock = StepClock(0.2)
    clock.begin(5.0)
    dues = []
    for _ in range(4):
        dues.append(clock.due(0.0))
        assert clock.take() is False
    assert dues == pytest.approx([5.0, 5.2, 5.4, 5.6])


def test_a_pause_stops_and_the_grid_begins_anew() -> None:
    clock = StepClock(0.2)
    clock.begin(0.0)
    clock.take()
    clock.pause()
    assert clock.due(0.1) is None
    clock.step()
    assert clock.due(0.3) == 0.3 and clock.take() is True
    assert clock.due(0.4) is None
    clock.resume()
    assert clock.due(9.0) == 9.0
    clock.take()
    assert clock.due(9.1) == pytest.approx(9.2)


@given(
    st.lists(st.sampled_from(["pause", "resume", "step", "wait", "wait", "wait"]), max_size=60),
    st.booleans(),
)
def test_no_step_is_lost_doubled_or_early(asked: list[str], paused: bool) -> None:
    period, now = 0.1, 0.0
    clock = StepClock(period, paused)
    clock.begin(now)
    state, owed, given_at, last = paused, 0, 0, -1.0
    for what in asked:
        if what == "wait":
            now += period
        else:
            getattr(clock, what)()
            state = what != "resume"
            owed = owed + 1 if what == "step" else 0 if what == "resume" else owed
        while (due := clock.due(now)) is not None and due <= now:
            before = clock.steps
            single = clock.take()
            given_at += 1
            assert clock.steps == before + 1 == given_at
            assert single == (owed > 0) if state else not single
            if single:
                owed -= 1
            else:
                assert due >= last + period - 1e-9 or what == "resume" or last < 0.0
            last = due
        assert not state or (owed == 0 and clock.due(now) is None)


@given(
    st.lists(st.tuples(st.sampled_from(SPEEDS), st.floats(0.01, 5.0)), min_size=1, max_size=12),
    st.floats(0.0, 1e6),
)
def test_a_run_takes_its_time_over_the_speeds_it_had(parts: list[tuple[float, float]], start: float) -> None:
    """On a clock that only waiting moves, every stretch takes what its own speed says."""
    wall, recorded = start, 0.0
    pace = Pace(parts[0][0])
    assert pace.ahead(recorded, wall) == 0.0
    for speed, seconds in parts:
        pace.speed = speed
        pace.begin(recorded, wall)
        recorded += seconds
        wall += max(pace.ahead(recorded, wall), 0.0)
        assert pace.ahead(recorded, wall) <= 1e-6
    assert wall - start == pytest.approx(sum(seconds / speed for speed, seconds in parts), rel=1e-6)


def test_as_fast_as_can_be_never_waits() -> None:
    pace = Pace(0.0)
    assert [pace.ahead(elapsed, 5.0) for elapsed in (0.0, 10.0, 1e9)] == [0.0, 0.0, 0.0]


def test_keys_climb_the_speeds_and_stay_at_the_ends() -> None:
    up = [0.1]
    while len(up) < 9:
        up.append(next_speed(up[-1], True))
    assert up == [*SPEEDS, 10.0, 10.0]
    assert next_speed(0.1, False) == 0.1 and next_speed(10.0, False) == 5.0
    assert next_speed(3.0, True) == 5.0 and next_speed(3.0, False) == 2.0
    # as fast as can be is above all
    assert next_speed(0.0, True) == 0.0 and next_speed(0.0, False) == 10.0
