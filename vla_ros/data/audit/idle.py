"""Stretches in which nothing is asked of the robot and it does not move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import ActionSpace
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.audit.timing import Stamps
from vla_ros.types import NANOSECONDS, ActionKind, Array

NULL_SHARE = 0.02
"""A delta below this share of its clip asks for nothing."""
NULL_DELTA = 1e-4
"""The same for action spaces without a clip [m or rad]."""
SAME_TARGET = 5e-4
"""Absolute targets closer than this to the one before are the same [m or rad]."""
SAME_GRIPPER = 0.05
"""The same for the gripper, in shares of its range."""


@dataclass(frozen=True)
class Idle:
    """Idle stretches of an episode, [s]."""

    stretches: tuple[tuple[float, float], ...]
    """(from, to), seconds since the start of the episode."""
    seconds: float
    """Length of the episode."""

    @property
    def leading(self) -> float:
        """Before the first motion."""
        first = self.stretches[0] if self.stretches else (1.0, 0.0)
        return first[1] - first[0] if first[0] <= 1e-6 else 0.0

    @property
    def trailing(self) -> float:
        """After the last motion; 0 when all of it is idle."""
        last = self.stretches[-1] if self.stretches else (0.0, 0.0)
        return last[1] - last[0] if last[0] > 1e-6 and last[1] >= self.seconds - 1e-6 else 0.0

    @property
    def longest(self) -> float:
        """Longest stretch between motions."""
        inner = [b - a for a, b in self.stretches if a > 1e-6 and b < self.seconds - 1e-6]
        return max(inner, default=0.0)

    @property
    def share(self) -> float:
        """Of the time."""
        return sum(b - a for a, b in self.stretches) / self.seconds if self.seconds > 0 else 0.0


def asks_nothing(values: Array, space: ActionSpace | None) -> NDArray[np.bool_]:
    """(T,) whether an action (T, dimension) asks for no motion of arm or gripper; absolute: none further."""
    if not len(values):
        return np.zeros(0, np.bool_)
    before = np.vstack([values[:1], values[:-1]])
    changed = np.abs(values - before)
    kept = np.ones(len(values), np.bool_)
    if space is None or values.shape[1] != space.dimension:
        return np.asarray((changed <= SAME_TARGET).all(axis=1))
    gripper = space.gripper
    travel = abs(gripper.open_value - gripper.closed_value)
    if gripper.relative:
        middle = 0.5 * (gripper.open_value + gripper.closed_value)
        kept = np.abs(values[:, -1] - middle) < 0.25 * travel
    else:
        kept = changed[:, -1] <= SAME_GRIPPER * travel
    if space.kind is ActionKind.CARTESIAN_DELTA:
        least = np.full(space.dimension - 1, NULL_DELTA)
        for part, clip, scale in (
            (slice(0, 3), space.step_translation, space.translation_scale),
            (slice(3, 6), space.step_rotation, space.rotation_scale),
        ):
            least[part] = (NULL_SHARE * clip if clip is not None else NULL_DELTA) / scale
        return np.asarray((np.abs(values[:, :-1]) <= least).all(axis=1) & kept)
    return np.asarray((changed[:, :-1] <= SAME_TARGET).all(axis=1) & kept)


def idle_stretches(
    edges: tuple[int, int],
    period: float,
    stamps: Stamps,
    nothing: NDArray[np.bool_],
    joint_stamps: Stamps,
    joints: Array,
    rules: AuditRules,
    width_stamps: Stamps | None = None,
    widths: Array | None = None,
) -> Idle:
    """Find them on the grid of the actions.

    Args:
        edges: first and last stamp of the episode [ns].
        period: of the actions [s].
        stamps: (T,) of the actions.
        nothing: (T,) whether an action asks for nothing.
        joint_stamps: (N,)
        joints: (N, n) positions [rad].
        rules: speeds below which a joint stands.
        width_stamps: (M,) of the gripper.
        widths: (M,) its opening [m].
    """
    width = round(period * NANOSECONDS)
    begin, end = edges
    phase = (int(stamps[0]) - begin) % width if len(stamps) else 0
    cuts = np.unique(np.concatenate([[begin], np.arange(begin + phase, end, width), [end]])).astype(np.int64)
    if len(cuts) < 2:
        return Idle((), 0.0)
    still = np.ones(len(cuts) - 1, np.bool_)
    cell = np.searchsorted(cuts, stamps, side="right") - 1
    busy = cell[(cell >= 0) & (cell < len(still))]
    still[busy[~nothing[(cell >= 0) & (cell < len(still))]]] = False
    least = max(rules.idle_motion, rules.idle_speed * period)
    still &= ~_moves(cuts, joint_stamps, joints, least)
    if width_stamps is not None and widths is not None:
        still &= ~_moves(cuts, width_stamps, widths[:, None], rules.idle_gripper)
    flips = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    seconds = (cuts - begin) / NANOSECONDS
    stretches = tuple(
        (float(seconds[a]), float(seconds[b])) for a, b in zip(flips[::2], flips[1::2], strict=True)
    )
    return Idle(stretches, float(seconds[-1]))


def _moves(cuts: Stamps, stamps: Stamps, values: Array, least: float) -> NDArray[np.bool_]:
    """(C,) whether values (N, n) change by more than `least` between two cuts (C + 1,)."""
    order = np.argsort(stamps, kind="stable")
    stamps, values = stamps[order], values[order]
    first = np.searchsorted(stamps, cuts[:-1], side="left")
    last = np.searchsorted(stamps, cuts[1:], side="right")
    found = np.zeros(len(cuts) - 1, np.bool_)
    for k in range(len(found)):
        part = values[max(first[k] - 1, 0) : last[k]]
        found[k] = len(part) > 1 and float(np.ptp(part, axis=0).max()) > least
    return found
