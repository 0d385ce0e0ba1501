"""The timeline of a run: safety states, episodes, policy errors and interventions over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Patch

from vla_ros.evaluation.figures import clear, colour, figure, style, to_svg
from vla_ros.evaluation.run_data import RunData, Stamps
from vla_ros.types import InterventionAction, SafetyState

JOIN = 150_000_000
"""Reports of one intervention closer than this are one span [ns]; the controller reports at 20 Hz."""
ACTION_COLOURS = {
    InterventionAction.LIMIT: "limited",
    InterventionAction.SLOWDOWN: "two",
    InterventionAction.HOLD: "holding",
    InterventionAction.STOP: "stopped",
    InterventionAction.REJECT: "fault",
}


@dataclass(frozen=True)
class Span:
    """One intervention from its first to its last report [ns]; `amount` is the largest."""

    action: InterventionAction
    reason: str
    subject: str
    start: int
    stop: int
    amount: float


def intervention_spans(run: RunData) -> list[Span]:
    """Interventions with reports that follow on each other joined, by their start."""
    spans: list[Span] = []
    last: dict[tuple[int, str, str], int] = {}
    for event in run.interventions:
        key = (int(event.action), event.reason, event.subject)
        index = last.get(key)
        if index is not None and event.stamp - spans[index].stop <= JOIN:
            old = spans[index]
            amount = max(old.amount, event.amount, key=abs)
            spans[index] = Span(old.action, old.reason, old.subject, old.start, event.stamp, amount)
        else:
            last[key] = len(spans)
            spans.append(
                Span(event.action, event.reason, event.subject, event.stamp, event.stamp, event.amount)
            )
    return spans


def state_spans(run: RunData) -> list[tuple[SafetyState, int, int]]:
    """(state, from, to [ns]) of the controller, from its setpoints, or from its status without them."""
    source = run.setpoints if len(run.setpoints) else run.statuses
    stamps: Stamps = source.stamps
    if len(stamps) == 0:
        return []
    cuts = [0, *(np.flatnonzero(np.diff(source.states)) + 1).tolist(), len(stamps)]
    known = {int(state) for state in SafetyState}
    return [
        (SafetyState(int(source.states[a])), int(stamps[a]), int(stamps[min(b, len(stamps) - 1)]))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
        if int(source.states[a]) in known
    ]


def timeline_figure(run: RunData) -> str:
    """States and episodes above, one row per reason of intervention below."""
    spans, states = intervention_spans(run), state_spans(run)
    reasons = sorted(
        {span.reason for span in spans}, key=lambda r: min(s.start for s in spans if s.reason == r)
    )
    rows = ["episode", "state", *(["no answer"] if run.policy_errors else []), *reasons]
    place = {name: -index for index, name in enumerate(rows)}
    shortest = 0.003 * max((run.stop - run.start) * 1e-9, 1e-3)
    with style():
        made = figure(10.0, 0.75 + 0.27 * len(rows))
        axes = clear(made.add_subplot())

        def bar(row: str, start: int, stop: int, shade: str, alpha: float = 1.0) -> None:
            left, right = (float(v) for v in run.seconds(np.array([start, stop])))
            axes.barh(place[row], max(right - left, shortest), 0.7, left, color=colour(shade), alpha=alpha)

        for start, stop, instruction in episode_spans(run):
            bar("episode", start, stop, "faint", 0.35)
            middle = float(run.seconds(np.array([(start + stop) // 2]))[0])
            # About 150 letters fit into the whole width.
            room = int(150 * (stop - start) / max(run.stop - run.start, 1))
            cut = instruction[: max(room - 1, 0)] + "…" if room > 3 else ""
            text = instruction if len(instruction) <= room else cut
            axes.text(middle, place["episode"], text, ha="center", va="center", fontsize=8)
        for state, start, stop in states:
            bar("state", start, stop, state.name.lower())
        for stamp, _ in run.policy_errors:
            bar("no answer", stamp, stamp, "fault")
        for span in spans:
            bar(span.reason, span.start, span.stop, ACTION_COLOURS[span.action])
        axes.set_yticks([place[name] for name in rows], [name.replace("_", " ") for name in rows])
        axes.set(xlabel="time [s]", ylim=(-len(rows) + 0.4, 0.6))
        axes.set_xlim(0.0, max((run.stop - run.start) * 1e-9, 1e-3))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        seen = {state.name.lower(): state.name.lower() for state, _, _ in states}
        seen |= {span.action.name.lower() + " (intervention)": ACTION_COLOURS[span.action] for span in spans}
        handles = [Patch(color=colour(shade), label=name) for name, shade in seen.items()]
        if handles:
            made.legend(handles=handles, loc="outside upper center", ncols=8, fontsize=8)
        return to_svg(made, "Timeline of states and interventions")


def episode_spans(run: RunData) -> list[tuple[int, int, str]]:
    """(from, to [ns], instruction) of each episode of the supervisor."""
    spans: dict[str, tuple[int, int, str]] = {}
    for event in run.episodes:
        if event.topic == "/vla/episode_status" and event.episode_id:
            start = spans.get(event.episode_id, (event.stamp, 0, ""))[0]
            spans[event.episode_id] = (start, event.stamp, event.instruction)
    return list(spans.values())
