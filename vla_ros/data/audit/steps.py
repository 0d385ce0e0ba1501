"""The steps of an episode as conversion sees them: one action each, on the grid of the action space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import ActionSpace
from vla_ros.data.audit.record import EpisodeRecord
from vla_ros.data.audit.timing import Stamps
from vla_ros.data.demonstration import turns_of
from vla_ros.types import NANOSECONDS, Array, Source


@dataclass(frozen=True)
class Steps:
    """T actions; `values` (T, dimension) in the units of the action space, empty where they are not plain."""

    stamps: Stamps
    values: Array
    person: NDArray[np.bool_]
    """(T,) whether a person moved the robot."""
    physical: bool
    """Whether the values are in the units of the action space, so that clips can be judged."""
    begins: NDArray[np.bool_]
    """(T,) with which the turn of another one begins, a person's or a policy's: its grid is its own."""
    missing: int = 0
    """Grid times for which no policy output had a row left (chunks of several steps)."""

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.stamps)

    @property
    def interventions(self) -> NDArray[np.bool_]:
        """(T,) steps in which a person had taken over from a policy; none where only one of them acts."""
        mixed = bool(self.person.any()) and not bool(self.person.all())
        return self.person if mixed else np.zeros(len(self), np.bool_)


def steps_of(record: EpisodeRecord, period: float) -> Steps:
    """The steps that conversion makes of the outputs, and those behind a gap, where it would end."""
    outputs = [output for output in record.outputs if not output.error]
    if not outputs:
        nothing = np.zeros(0, np.bool_)
        return Steps(np.zeros(0, np.int64), np.zeros((0, 0)), nothing, False, nothing)
    plain = all(output.tokens == 0 and not output.key for output in outputs)
    width = max(output.dimension for output in outputs)
    last = max(output.stamp + round(output.horizon * period * NANOSECONDS) for output in outputs)
    turns = turns_of(
        [output.given for output in outputs], round(period * NANOSECONDS),
        min(last, record.stop + record.offset), record.changes, record.executed or None,
    )  # fmt: skip
    chosen = [step for turn in turns for step in turn.steps]
    values = np.full((len(chosen), width), np.nan)
    for k, step in enumerate(chosen):
        given = outputs[step.output].values
        if given.ndim == 2 and given.shape[1] <= width and step.row < len(given):
            values[k, : given.shape[1]] = given[step.row]
    begins = np.zeros(len(chosen), np.bool_)
    begins[np.cumsum([0, *(len(turn.steps) for turn in turns)])[:-1]] = True
    return Steps(
        np.array([step.stamp for step in chosen], np.int64),
        values,
        np.array([outputs[step.output].source == Source.PERSON for step in chosen], np.bool_),
        plain,
        begins,
        sum(turn.missing for turn in turns),
    )


def clip_range(space: ActionSpace, record: EpisodeRecord) -> tuple[Array, Array]:
    """(low, high), each (dimension,), beyond which an action is not carried out as given; infinite: no end.

    Deltas: the clips of `ActionSpace`, as `decode` applies them.  Absolute targets: the robot's applied joint
    limits, or its workspace, if the contract is known.
    """
    from vla_ros.types import ActionKind

    low, high = np.full(space.dimension, -np.inf), np.full(space.dimension, np.inf)
    robot = record.contract.robot if record.contract is not None else None
    if space.kind is ActionKind.CARTESIAN_DELTA:
        step = np.full(space.dimension, np.inf)
        if space.unit_clip is not None:
            step[:-1] = space.unit_clip
        for clip, scale, part in (
            (space.step_translation, space.translation_scale, slice(0, 3)),
            (space.step_rotation, space.rotation_scale, slice(3, 6)),
        ):
            if clip is not None:
                step[part] = np.minimum(step[part], clip / scale)
        low, high = -step, step
    elif robot is not None and space.kind is ActionKind.JOINT_POSITION:
        low[:-1], high[:-1] = robot.applied.position_min, robot.applied.position_max
    elif robot is not None:
        low[:3], high[:3] = robot.workspace.minimum, robot.workspace.maximum
    return low, high
