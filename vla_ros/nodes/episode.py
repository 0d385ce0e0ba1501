"""When an episode is over, and why; the rules alone, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from vla_ros.types import SafetyState


class Outcome(IntEnum):
    """Outcomes of an episode (same numbers as msg/EpisodeStatus)."""

    NONE = 0
    RUNNING = 1
    SUCCESS = 2
    FAILURE = 3
    ABORTED = 4
    DISCARDED = 5


@dataclass(frozen=True)
class Rules:
    """Times in seconds."""

    timeout: float = 60.0
    """0: no limit."""
    patience: float = 1.5
    """Errors that last longer without a good answer between them end the episode."""
    first_answer: float = 10.0
    """Time the policy has for its first answer."""
    settle: float = 2.0
    """Time the simulator's judge has after the policy says it is done."""


@dataclass
class Episode:
    """One episode; times are seconds on any one clock."""

    episode_id: str
    task: str
    instruction: str
    rules: Rules
    started: float
    judged: bool = False
    """Whether a simulator judges it."""
    interventions_before: int = 0
    steps: int = 0
    interventions: int = 0
    outcome: Outcome = Outcome.RUNNING
    reason: str = ""
    ended: float | None = None
    _trouble: dict[str, tuple[float, str]] = field(default_factory=dict)
    _done_since: float | None = None
    _last_step: float | None = None
    _waited_since: float | None = None
    """When whoever is in charge now took over without an answer yet."""

    def elapsed(self, now: float) -> float:
        """Seconds from the start to now, or to the end."""
        return (now if self.ended is None else self.ended) - self.started

    def on_answer(self, now: float, terminate: bool) -> None:
        """The policy answered without an error."""
        self.steps += 1
        self._last_step = now
        self._trouble.pop("policy", None)
        if terminate and self._done_since is None:
            self._done_since = now

    def on_trouble(self, now: float, source: str, sentence: str) -> None:
        """Something upstream of the robot is wrong; an empty sentence says it is well again."""
        if not sentence:
            self._trouble.pop(source, None)
        elif source in self._trouble:
            self._trouble[source] = (self._trouble[source][0], sentence)
        else:
            self._trouble[source] = (now, sentence)

    def on_authority(self, now: float) -> None:
        """Somebody else is in charge: what was wrong with the policy is of the past, and so is its end."""
        for source in ("policy", "inference"):
            self._trouble.pop(source, None)
        self._done_since = None
        if self._last_step is None:
            self._waited_since = now

    def on_safety(self, now: float, state: SafetyState, message: str, interventions: int) -> None:
        """The safety controller reported; a latched stop ends the episode."""
        self.interventions = interventions - self.interventions_before
        if state in (SafetyState.STOPPED, SafetyState.FAULT):
            self.end(now, Outcome.ABORTED, message or f"The safety controller is in {state.name}.")

    def on_verdict(self, now: float, outcome: Outcome, reason: str) -> None:
        """The simulator's judge decided."""
        if outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED):
            self.end(now, outcome, sentence(reason))

    def check(self, now: float) -> None:
        """End the episode when a rule says so."""
        rules = self.rules
        for since, trouble in self._trouble.values():
            if now - since > rules.patience:
                self.end(now, Outcome.ABORTED, trouble)
        waited_since = self.started if self._waited_since is None else self._waited_since
        if self._last_step is None and now - waited_since > rules.first_answer:
            self.end(now, Outcome.ABORTED, f"The policy has not answered within {rules.first_answer:g} s.")
        if self._done_since is not None:
            if not self.judged:
                self.end(now, Outcome.SUCCESS, "The policy says the task is done.")
            elif now - self._done_since > rules.settle:
                self.end(now, Outcome.FAILURE, "The policy says the task is done, the simulator does not.")
        if rules.timeout > 0.0 and self.elapsed(now) > rules.timeout:
            self.end(now, Outcome.FAILURE, f"Not done within {rules.timeout:g} s.")

    def end(self, now: float, outcome: Outcome, reason: str) -> None:
        """End it; only the first end counts."""
        if self.outcome is Outcome.RUNNING:
            self.outcome, self.reason, self.ended = outcome, reason, now


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
