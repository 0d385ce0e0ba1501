"""Checks of what the episode shows: long enough, not idle, labelled, the gripper used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look


def check_length(look: Look) -> Iterator[Finding]:
    """Steps and seconds."""
    rules, count, seconds = look.rules, len(look.steps), look.record.seconds
    level = rules.steps.below(count)
    text = f"length: {count} steps in {seconds:.1f} s"
    if level is not Level.PASS:
        text += f", at least {rules.steps.fail or rules.steps.warn or 0:g} are needed"
    elif rules.seconds.above(seconds) is not Level.PASS:
        level = rules.seconds.above(seconds)
        most = (rules.seconds.fail if level is Level.FAIL else rules.seconds.warn) or 0.0
        text += f", longer than {most:g} s: was it ended in time?"
    yield Finding("length", level, f"{text}.", value=float(count))


def check_idle(look: Look) -> Iterator[Finding]:
    """Time in which nothing is asked and nothing moves."""
    if not len(look.steps) or not look.period:
        return
    idle, rules = look.idle, look.rules
    for name, value, bounds, unit in (
        ("start", idle.leading, rules.idle_start, "s"),
        ("end", idle.trailing, rules.idle_end, "s"),
        ("longest", idle.longest, rules.idle_longest, "s"),
        ("share", idle.share, rules.idle_share, "%"),
    ):
        level = bounds.above(value)
        what = {
            "start": f"{value:.1f} s before the first motion",
            "end": f"{value:.1f} s after the last motion",
            "longest": f"longest stretch between motions {value:.1f} s",
            "share": f"{100 * value:.0f} % of the time",
        }[name]
        text = f"idle: {what}"
        if level is not Level.PASS:
            most = (bounds.fail if level is Level.FAIL else bounds.warn) or 0.0
            shown = f"{most:g} s" if unit == "s" else f"{100 * most:g} %"
            text += f", wanted are at most {shown}: trim it or record again without pauses"
        yield Finding("idle", level, f"{text}.", name, value)


def check_instruction(look: Look) -> Iterator[Finding]:
    """There is one instruction."""
    said = [text for text in look.record.instructions if text.strip()]
    if not said:
        yield Finding(
            "instruction", Level.FAIL,
            "instruction: none was given, a policy that follows language needs one; record with one.",
        )  # fmt: skip
    elif len(said) > 1:
        yield Finding(
            "instruction", Level.WARN,
            f"instruction: it changes {len(said) - 1} times within the episode (first '{said[0]}', last "
            f"'{said[-1]}'); one episode shows one task.",
        )  # fmt: skip
    else:
        yield Finding("instruction", Level.PASS, f"instruction: '{said[0]}'.")


def check_outcome(look: Look) -> Iterator[Finding]:
    """The episode was ended, and how."""
    yield outcome_finding(look.record.outcome)


def outcome_finding(outcome: str) -> Finding:
    """What is to be said of an outcome; empty: none."""
    if outcome == "success":
        return Finding("outcome", Level.PASS, "outcome: success.")
    if not outcome:
        return Finding(
            "outcome", Level.WARN,
            "outcome: the recording ends before the episode does; mark success or failure before it stops.",
        )  # fmt: skip
    if outcome == "failure":
        return Finding(
            "outcome", Level.WARN, "outcome: failure; leave it out unless failures are to be learnt from."
        )
    return Finding("outcome", Level.WARN, f"outcome: {outcome}; conversion leaves it out by default.")


def check_gripper(look: Look) -> Iterator[Finding]:
    """The gripper opens or closes at least once."""
    record, least = look.record, look.rules.gripper_motion
    widths = np.array([seen.width for seen in record.observations if np.isfinite(seen.width)])
    if record.imported:
        values = look.steps.values
        if look.space is None or not len(values) or values.shape[1] != look.space.dimension:
            return
        travel = abs(look.space.gripper.open_value - look.space.gripper.closed_value)
        moved = float(np.ptp(values[:, -1])) / travel
        used, text = moved > 0.5, f"gripper: its command changes by {100 * moved:.0f} % of its range"
        wanted = "half of it counts"
    elif len(widths):
        moved = float(np.ptp(widths))
        used, text = moved > least, f"gripper: its opening changes by {1e3 * moved:.1f} mm"
        wanted = f"{1e3 * least:g} mm count"
    else:
        return
    if used:
        yield Finding("gripper", Level.PASS, f"{text}.", value=moved)
    else:
        yield Finding(
            "gripper", Level.WARN,
            f"{text}, {wanted} as used: does the task need it?",
            value=moved,
        )  # fmt: skip
