"""Who is watched, when he counts as lost, and what is ordered then.  No ROS, no clock of its own.

A source gives signs of life; silence beyond its timeout is a loss.  Time in which the watchdog itself did not
run is not held against anybody: nobody could have been heard in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from vla_ros.types import SafetyState

_LATE = 0.5
"""Share of the timeout after which a source is called late."""
_LEAVING = 4.0
"""Seconds in which a source that was sent off duty may still be heard: a controller brakes first."""
_SETTLE = 1.0
"""Seconds within which a request shows in the controller's report."""
_LATCHED = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)


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


class Request(IntEnum):
    """What the watchdog asks for, of the safety controller or of the driver."""

    PAUSE = 0
    RESUME = 1
    EMERGENCY_STOP = 2
    DRIVER_STOP = 3


@dataclass(frozen=True)
class Report:
    """What the safety controller last said of itself, and when that was heard [s]."""

    at: float
    state: SafetyState
    paused: bool


@dataclass
class Enforcer:
    """Turns verdicts into requests, each repeated until the controller's report shows that it was met.

    It takes back only a pause of its own, and never a stop: that is for a person to reset.
    """

    resume_after: float
    """A lost source must be back for so long before a pause is taken back [s]; 0: a person takes it back."""
    owed_since: float | None = field(default=None, init=False)
    """Since when the controller owes an emergency stop."""
    _paused_at: float | None = field(default=None, init=False)
    """When a pause was last asked for; None: a pause now is somebody else's."""
    _fine_since: float | None = field(default=None, init=False)
    _driver_told: bool = field(default=False, init=False)

    def requests(self, verdict: Verdict, report: Report | None, now: float) -> list[Request]:
        """What to ask for at `now` [s]."""
        asked: list[Request] = []
        if verdict.order is not Order.DRIVER_STOP:
            self._driver_told = False
        elif not self._driver_told:
            asked.append(Request.DRIVER_STOP)
        if verdict.order >= Order.STOP and self.owed_since is None and not _stopped(verdict, report):
            self.owed_since = now
        if self.owed_since is not None:
            if report is not None and report.at > self.owed_since and report.state in _LATCHED:
                self.owed_since = None
            else:
                asked.append(Request.EMERGENCY_STOP)
        if verdict.order is not Order.NONE:
            self._fine_since = None
        elif self._fine_since is None:
            self._fine_since = now
        return asked + self._pausing(verdict, report, now)

    def driver_told(self) -> None:
        """The driver has taken the request, or there is nobody to ask; once for each loss is enough."""
        self._driver_told = True

    def _pausing(self, verdict: Verdict, report: Report | None, now: float) -> list[Request]:
        if report is None or report.state in _LATCHED:
            self._paused_at = None
            return []
        if verdict.order is Order.HOLD:
            if report.paused:
                return []
            self._paused_at = now
            return [Request.PAUSE]
        if self._paused_at is None:
            return []
        if not report.paused:
            if report.at > self._paused_at + _SETTLE:
                # taken back, by this watchdog or by a person
                self._paused_at = None
            return []
        if self._fine_since is None or self.resume_after <= 0.0 or now - self._fine_since < self.resume_after:
            return []
        return [Request.RESUME]


def _stopped(verdict: Verdict, report: Report | None) -> bool:
    """Whether the robot is known to be stopped already; of a lost controller nothing is known."""
    return verdict.order is Order.STOP and report is not None and report.state in _LATCHED
