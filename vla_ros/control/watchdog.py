"""Who is watched, when he counts as lost, and what is ordered then.  No ROS, no clock of its own.

A source gives signs of life; silence beyond its timeout is a loss.  Time in which the watchdog itself did not
run is not held against anybody: nobody could have been heard in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

_LATE = 0.5
"""Share of the timeout after which a source is called late."""
_LEAVING = 4.0
"""Seconds in which a source that was sent off duty may still be heard: a controller brakes first."""


class Life(IntEnum):
    """What is known of a source."""

    AWAITED = 0
    """No sign of life yet, or none expected any more."""
    ALIVE = 1
    LATE = 2
    LOST = 3


class Order(IntEnum):
    """What a loss asks for; the greater one wins."""

    NONE = 0
    HOLD = 1
    """Rest until the source is back."""
    STOP = 2
    """Emergency stop, latched until a person resets."""
    DRIVER_STOP = 3
    """The controller is gone: what the robot's driver does or can be told is all there is."""


@dataclass(frozen=True)
class Rule:
    """One source and what its silence means."""

    source: str
    title: str
    """As a sentence calls it, "the policy"."""
    timeout: float
    """Silence allowed [s]."""
    on_loss: Order
    awaited: Order = Order.NONE
    """Order until the first sign of life."""


@dataclass(frozen=True)
class Verdict:
    """Everybody's state, and the order that follows, with one plain sentence for each who is missing."""

    lives: Mapping[str, Life]
    order: Order
    sentences: tuple[str, ...]
    stall: float
    """How long the watchdog itself did not run before this check [s]."""


@dataclass
class _Pulse:
    """What was heard of one source."""

    rule: Rule
    needed: bool = True
    last: float | None = None
    count: int | None = None
    off_duty_until: float = float("-inf")
    """Until then signs of life are the last ones of somebody who leaves [s]."""
    forgiven: float = 0.0
    """Part of the present silence in which the watchdog did not run [s]."""


class Watchdog:
    """Hears signs of life and judges them, at every check, against the rules."""

    def __init__(self, rules: Sequence[Rule], interval: float, allowance: float) -> None:
        """Nothing was heard yet.

        Args:
            rules: one for each source.
            interval: time between two checks [s]; twice as long is a stall of the watchdog.
            allowance: largest part of one silence that a stall of the watchdog excuses [s].
        """
        self._pulses = {rule.source: _Pulse(rule) for rule in rules}
        self._interval, self._allowance = interval, allowance
        self._checked: float | None = None

    def beat(self, source: str, count: int, now: float) -> None:
        """A sign of life came at `now` [s]; one whose count did not change proves nothing."""
        pulse = self._pulses.get(source)
        if pulse is None or count == pulse.count or now < pulse.off_duty_until:
            return
        pulse.last, pulse.count, pulse.forgiven = now, count, 0.0

    def dismiss(self, source: str, now: float) -> None:
        """The source was sent off duty in the ordinary way at `now` [s]: its silence is no loss."""
        pulse = self._pulses[source]
        pulse.last, pulse.count, pulse.off_duty_until = None, None, now + _LEAVING

    def engage(self, source: str) -> None:
        """The source is on duty: from its next sign of life on its silence is a loss."""
        self._pulses[source].off_duty_until = float("-inf")

    def need(self, source: str, needed: bool) -> None:
        """Whether anything depends on the source now; when nothing does, its loss orders nothing."""
        self._pulses[source].needed = needed

    def check(self, now: float) -> Verdict:
        """Judge everybody at `now` [s]."""
        since = now if self._checked is None else self._checked
        self._checked = now
        stall = max(0.0, now - since - self._interval)
        if stall <= self._interval:
            stall = 0.0
        lives: dict[str, Life] = {}
        order, sentences = Order.NONE, []
        for source, pulse in self._pulses.items():
            rule = pulse.rule
            if pulse.last is None:
                lives[source] = Life.AWAITED
                wanted, sentence = rule.awaited, f"{rule.title} has not given a sign of life yet"
            else:
                if stall > 0.0:
                    unheard = now - max(since, pulse.last) - self._interval
                    pulse.forgiven = min(pulse.forgiven + max(0.0, unheard), self._allowance)
                silence = now - pulse.last
                lives[source] = self._life(silence - pulse.forgiven, rule.timeout)
                wanted = rule.on_loss if lives[source] is Life.LOST else Order.NONE
                sentence = f"{rule.title} has been silent for {silence:.2f} s, allowed are {rule.timeout:g} s"
            if pulse.needed and wanted is not Order.NONE:
                sentences.append(sentence)
                order = max(order, wanted)
        return Verdict(lives, order, tuple(sentences), stall)

    @staticmethod
    def _life(silence: float, timeout: float) -> Life:
        if silence > timeout:
            return Life.LOST
        return Life.LATE if silence > _LATE * timeout else Life.ALIVE
