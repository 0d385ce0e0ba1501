"""What a task asks of whatever drives the robot, as a contract states it."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.robots.fields import Fields


@dataclass(frozen=True)
class TaskNeeds:
    """What the task cannot do without; what is None is not stated."""

    precision: float | None = None
    """How near the tool has to come to where it should be [m]."""
    reaction: float | None = None
    """Longest time from what happens in sight of a camera to the motion that follows from it [s]."""
    certified_safety: bool = False
    """Whether people's safety is to depend on what moves the robot."""
    fixed_task: bool = False
    """Whether the same known objects lie in the same known places every time."""


def read_needs(fields: Fields) -> TaskNeeds:
    """The section `needs` of a contract.

    Keys, all optional: `precision` [m], at most 0.1, so that millimetres written for metres are noticed;
    `reaction` [s], 0.001 to 60; `certified_safety` and `fixed_task`, true or false.

    Raises:
        ConfigurationError: with file, key and what is wrong.
    """
    precision = fields.positive("precision", 0.1) if "precision" in fields else None
    reaction = fields.number("reaction", 0.001, 60.0) if "reaction" in fields else None
    certified = fields.flag("certified_safety", False)
    fixed = fields.flag("fixed_task", False)
    fields.finish()
    return TaskNeeds(precision, reaction, certified, fixed)


def needs_mapping(needs: TaskNeeds) -> dict[str, object]:
    """What `read_needs` reads back; empty when nothing is stated."""
    stated = {
        "precision": needs.precision,
        "reaction": needs.reaction,
        "certified_safety": needs.certified_safety or None,
        "fixed_task": needs.fixed_task or None,
    }
    return {key: value for key, value in stated.items() if value is not None}
