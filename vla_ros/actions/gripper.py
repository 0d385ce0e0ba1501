"""The gripper dimension: from an action space's own convention to opening widths in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.robots.spec import GripperSpec
from vla_ros.types import NANOSECONDS, ActionChunk, Array

DECIDED = 0.25
"""A relative command counts when it is nearer than this share to one of its ends (rel2abs of RT-1's data)."""


@dataclass(frozen=True)
class GripperConvention:
    """How the last dimension speaks of the gripper."""

    open_value: float
    closed_value: float
    relative: bool = False
    """Relative: `open_value` and `closed_value` are commands to change, anything between keeps the state."""
    binarize: bool = False
    """Absolute values above the midpoint count as fully open, below as fully closed."""
    sticky: int = 0
    """Relative: after a change, commands of so many steps are not listened to (SimplerEnv: 15)."""


@dataclass(frozen=True)
class GripperState:
    """Where the gripper was told to be when an observation was made."""

    width: float
    """[m]"""
    held: float = 0.0
    """For so long [s] it stays there, whatever comes: it changed just before and its convention is sticky."""


class GripperMemory:
    """What the chunk before told the gripper: a relative command says nothing without it."""

    def __init__(self, convention: GripperConvention, gripper: GripperSpec) -> None:
        """`convention` of the action space; the gripper is taken to be open before the first chunk."""
        self._convention = convention
        self._chunk: ActionChunk | None = None
        self._before = gripper.max_width
        self._changed = -(10**18)

    def at(self, stamp: int) -> GripperState | None:
        """The state at a stamp [ns] later than those of all chunks remembered; None before the first."""
        if self._chunk is None:
            return None
        width, changed = self._settled(self._chunk, stamp)
        held = (changed - stamp) / NANOSECONDS + self._convention.sticky * self._chunk.period
        return GripperState(width, max(held, 0.0) if self._convention.sticky else 0.0)

    def remember(self, chunk: ActionChunk) -> None:
        """A chunk that was sent on; what the one before said of later times is void."""
        if self._chunk is not None:
            self._before, self._changed = self._settled(self._chunk, chunk.stamp)
        self._chunk = chunk

    @staticmethod
    def _steps_due(chunk: ActionChunk, stamp: int) -> int:
        # a width is in force from the beginning of its step, the new chunk's own from its stamp on
        elapsed = (stamp - chunk.stamp) / NANOSECONDS
        return int(np.clip(np.ceil(elapsed / chunk.period - 1e-6), 0, chunk.horizon))

    def _settled(self, chunk: ActionChunk, stamp: int) -> tuple[float, int]:
        """The width in force at `stamp` [m], and since when [ns]."""
        width, changed = self._before, self._changed
        for step in range(self._steps_due(chunk, stamp)):
            following = float(chunk.gripper_width[step])
            if following != width:
                changed = chunk.stamp + round(step * chunk.period * NANOSECONDS)
            width = following
        return width, changed


def gripper_widths(
    values: Array,
    convention: GripperConvention,
    gripper: GripperSpec,
    start: GripperState | None = None,
    period: float = 1.0,
) -> Array:
    """Gripper dimension (steps,) to absolute widths [m] (steps,), by the action space's convention.

    Args:
        values: as the policy speaks, un-normalised.
        convention: of the action space.
        gripper: opening range.
        start: the state the chunk starts from; default open and free to change.
        period: between steps [s].
    """
    span = convention.open_value - convention.closed_value
    opening = (values - convention.closed_value) / span
    if convention.relative:
        opening = _followed(opening, convention.sticky, gripper, start, period)
    elif convention.binarize:
        opening = (opening > 0.5).astype(float)
    opening = np.clip(opening, 0.0, 1.0)
    widths: Array = gripper.min_width + opening * (gripper.max_width - gripper.min_width)
    return widths


def _followed(
    wishes: Array, sticky: int, gripper: GripperSpec, start: GripperState | None, period: float
) -> Array:
    """Openings (steps,), 0 or 1, that relative wishes (steps,) lead to."""
    middle = 0.5 * (gripper.min_width + gripper.max_width)
    state = 1.0 if start is None or start.width > middle else 0.0
    held = 0 if start is None else int(np.ceil(start.held / period - 1e-6))
    opening = np.empty(len(wishes))
    for step, wish in enumerate(wishes):
        wanted = 1.0 if wish > 1.0 - DECIDED else 0.0 if wish < DECIDED else state
        if held > 0:
            held -= 1
        elif wanted != state:
            state, held = wanted, max(sticky - 1, 0)
        opening[step] = state
    return opening
