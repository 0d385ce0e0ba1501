"""Who may attend to whom: Octo's block-wise attention, and the mask of what is padding.

Rules (octo-models/octo v1.5, octo_module.py and block_transformer.py): task tokens see the task; tokens of an
observation see the task and observations no later than they are; readout tokens see those, and the readout of
their own name at no later time.  Nothing else sees a readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Tokens of one kind: `task_...`, `obs_...` or `readout_...`."""

    name: str
    size: int
    """Number of tokens, of each time step unless it belongs to the task."""


def group_mask(task: Sequence[Group], step: Sequence[Group], horizon: int, correct: bool = True) -> Mask:
    """Which token (row) may attend to which (column), (n, n), before padding is left out.

    The sequence is the task's groups, then all groups of the first time step, then those of the next.
    Not `correct`: the first token of each group but the first counts to the group before it, as it did when
    the oldest checkpoints were trained.
    """
    task_kinds = _kinds(task, correct)
    step_kinds = _kinds(step, correct)
    names = [group.name for group in (*task, *step)]
    kinds = np.concatenate([task_kinds, np.tile(len(task) + step_kinds, horizon)])
    times = np.concatenate([np.full(len(task_kinds), -1), np.repeat(np.arange(horizon), len(step_kinds))])
    allowed = np.array([[_sees(a, b) for b in names] for a in names], dtype=bool)
    mask: Mask = allowed[kinds[:, None], kinds[None, :]] & (times[None, :] <= times[:, None])
    return mask


def _kinds(groups: Sequence[Group], correct: bool) -> NDArray[Any]:
    """Index of the group each token counts to."""
    ends = np.cumsum([group.size for group in groups], dtype=int)
    total = int(ends[-1]) if len(ends) else 0
    return np.searchsorted(ends, np.arange(total), side="right" if correct else "left")


def _sees(name: str, other: str) -> bool:
    if name.startswith("task_"):
        return other.startswith("task_")
    return other.startswith(("task_", "obs_")) or (name == other)
