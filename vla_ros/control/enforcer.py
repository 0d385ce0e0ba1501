"""The watchdog's orders as requests, repeated until they show.  No ROS, no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from vla_ros.control.watchdog import Order, Verdict
from vla_ros.types import SafetyState

_SETTLE = 1.0
"""Seconds within which a request shows in the controller's report."""
_LATCHED = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)


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
