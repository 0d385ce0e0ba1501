"""The hand that plays a recording into the simulator, on a clock that only waiting moves."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest

from vla_ros.commands import replay_into
from vla_ros.commands.playback_keys import Keys

TICK = 0.01


class Pressed(Keys):
    """Keys of a list of (wall time [s], key); waiting for them is what moves the clock."""

    def __init__(self, *presses: tuple[float, str]) -> None:
        super().__init__(True)
        self.now, self.presses = 100.0, deque(presses)

    def read(self, wait: float = 0.0) -> str:
        if self.presses and self.presses[0][0] <= self.now - 100.0 + wait:
            at, key = self.presses.popleft()
            self.now = max(self.now, 100.0 + at)
            return key
        # a wait that is lost in rounding would be asked for again and again
        self.now += max(wait, 1e-9) if wait > 0.0 else 0.0
        return ""


def played(monkeypatch, speed: float, keys: Pressed, seconds: float = 4.0, paused: bool = False):
    """(simulated, wall) time of every tick [s] of a run of so many simulated seconds."""
    monkeypatch.setattr(replay_into, "time", SimpleNamespace(monotonic=lambda: keys.now))
    hand = replay_into._Hand(keys, speed, paused)
    hand.begin(0.2)
    ticks = []
    for number in range(round(seconds / TICK)):
        if not hand.tick(number * TICK):
            break
        ticks.append((number * TICK, keys.now - 100.0))
    return ticks


@pytest.mark.parametrize("speed", [0.1, 0.5, 1.0, 4.0, 10.0])
def test_a_run_takes_its_simulated_time_over_the_speed(monkeypatch, speed: float) -> None:
    for simulated, wall in played(monkeypatch, speed, Pressed()):
        assert wall == pytest.approx(simulated / speed, abs=1e-6)


def test_as_fast_as_can_be_waits_for_nothing(monkeypatch) -> None:
    assert {wall for _, wall in played(monkeypatch, 0.0, Pressed())} == {0.0}


def test_the_speed_changes_from_where_it_is(monkeypatch) -> None:
    # one second at 1, then at 2, from 2.0 s on at 1 again
    ticks = dict(played(monkeypatch, 1.0, Pressed((1.0, "+"), (2.0, "-"))))
    assert ticks[0.5] == pytest.approx(0.5, abs=2 * TICK)
    assert ticks[2.0] == pytest.approx(1.5, abs=2 * TICK)
    assert ticks[3.5] == pytest.approx(2.5, abs=3 * TICK)


def test_a_pause_is_not_made_up_for(monkeypatch) -> None:
    ticks = dict(played(monkeypatch, 1.0, Pressed((1.0, " "), (6.0, " "))))
    assert ticks[0.5] == pytest.approx(0.5, abs=2 * TICK)
    assert ticks[3.0] == pytest.approx(8.0, abs=0.1)


def test_single_steps_are_an_action_long(monkeypatch) -> None:
    keys = Pressed((5.0, "."), (9.0, "."), (20.0, "q"))
    ticks = played(monkeypatch, 1.0, keys, paused=True)
    assert [round(simulated / TICK) for simulated, _ in ticks] == list(range(40))
    assert ticks[0][1] == pytest.approx(5.0, abs=0.1) and ticks[20][1] == pytest.approx(9.0, abs=0.1)
    assert ticks[19][1] == pytest.approx(5.19, abs=0.1)
