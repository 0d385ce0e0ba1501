"""Check of what the safety controller did with the actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look
from vla_ros.types import InterventionAction, SafetyState

_NOT_FOLLOWING = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)


def state_shares(look: Look) -> dict[SafetyState, float]:
    """Share of the time in each state, from the first action to the end; empty without a controller."""
    stamps, states = look.record.controller()
    if not len(stamps) or not len(look.steps):
        return {}
    inside = states[stamps >= int(look.steps.stamps.min())]
    if not len(inside):
        return {}
    return {state: float((inside == state).mean()) for state in SafetyState}


def reasons(look: Look) -> Counter[str]:
    """Reports of interventions by what was done and why."""
    names = {int(action): action.name.lower() for action in InterventionAction}
    return Counter(
        f"{names.get(noted.action, 'intervention')}: {noted.reason.replace('_', ' ')}"
        for noted in look.record.interventions
    )


def check_controller(look: Look) -> Iterator[Finding]:
    """How long the controller limited, held or stopped the robot, and why."""
    shares = state_shares(look)
    if not shares:
        return
    rules = look.rules
    why = ", ".join(f"{name} ({count})" for name, count in reasons(look).most_common(3))
    for name, share, bounds, remedy in (
        ("limited", shares[SafetyState.LIMITED], rules.limited, "move more slowly or away from the limits"),
        ("holding", shares[SafetyState.HOLDING], rules.holding, "actions come late or not at all"),
        ("stopped", sum(shares[s] for s in _NOT_FOLLOWING), rules.stopped, "leave the episode out"),
    ):
        level = bounds.above(share)
        text = f"controller: {name} for {100 * share:.1f} % of the time"
        told = f" (most reported: {why})" if why else ""
        if level is not Level.PASS:
            most = 100 * ((bounds.fail if level is Level.FAIL else bounds.warn) or 0.0)
            text += f", allowed are {most:g} %{told}: {remedy}"
        elif name == "limited":
            text += told
        yield Finding("controller", level, f"{text}.", name, share)


def check_driver(look: Look) -> Iterator[Finding]:
    """Joint states name the contract's joints."""
    wrong = look.record.wrong_joints
    if wrong:
        text, count = wrong.most_common(1)[0]
        topic = look.record.streams["joint states"].topic
        wanted = (
            ", ".join(look.record.contract.robot.driver.joint_names)
            if look.record.contract is not None
            else "the same"
        )
        yield Finding(
            "joint names", Level.FAIL, value=float(np.sum(list(wrong.values()))),
            sentence=f"joint states: a message on {topic} {text} ({count} times), but the contract's robot "
            f"needs {wanted}.",
        )  # fmt: skip
