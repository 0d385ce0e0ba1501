"""Stamps of a simulation's time from this machine's: even between two readings, never back."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from vla_ros.data.ros_time import KEPT, RosTime


def test_between_two_readings_time_is_even() -> None:
    time = RosTime()
    assert time.at(5) == 0
    time.read(1_000, 500)
    assert time.at(900) == time.at(1_100) == 500
    time.read(2_000, 10_500)  # ten times as fast
    assert [time.at(machine) for machine in (900, 1_000, 1_250, 2_000, 2_500)] == [
        500, 500, 3_000, 10_500, 10_500,
    ]  # fmt: skip


def test_a_simulation_that_begins_anew_is_followed() -> None:
    time = RosTime()
    time.read(1_000, 90_000)
    time.read(2_000, 10)
    assert time.at(1_500) == 10
    time.read(3_000, 1_010)
    assert time.at(2_500) == 510
    # one that was told late says nothing new
    time.read(2_900, 1_010)
    assert time.at(3_000) == time.at(4_000) == 1_010


def test_old_readings_are_forgotten_and_new_ones_hold() -> None:
    time = RosTime()
    for k in range(3 * KEPT):
        time.read(k * 1_000, k * 500)
    assert len(time._machine) <= KEPT
    assert time.at(3 * KEPT * 1_000 - 1_500) == 3 * KEPT * 500 - 750


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(0, 10**10), st.lists(st.floats(0.0, 1.0), max_size=5)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_stamps_never_go_back(readings: list[tuple[int, int, list[float]]]) -> None:
    time, machine, ros, last = RosTime(), 10**15, 0, 0
    for passed, ros_passed, shares in readings:
        before = machine
        machine, ros = machine + passed, ros + ros_passed
        time.read(machine, ros)
        for share in sorted(shares):
            stamp = time.at(before + round(share * passed))
            assert last <= stamp <= ros
            last = stamp
