"""Statistics of actions and states that policies are normalised with, as OpenVLA and Octo compute them.

Both take mean, standard deviation of the population, extremes, and the 1 % and 99 % quantiles with linear
interpolation over all steps of all episodes (numpy's defaults); OpenVLA names the quantiles q01 and q99, Octo
p01 and p99: both stand here.  The mask leaves the gripper out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.data.data_hash import episode_digest, joined_digest
from vla_ros.data.dataset import Dataset
from vla_ros.errors import DataError

STATISTICS = "dataset_statistics.json"
_GRIPPER = "gripper"


def column_statistics(values: ArrayLike) -> dict[str, list[float]]:
    """Statistics of (T, n) numbers over the steps.  Raises `DataError` for none or not finite ones."""
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or len(array) == 0:
        raise DataError(f"statistics need steps of numbers; the array has the shape {list(array.shape)}.")
    if not np.isfinite(array).all():
        step, column = np.argwhere(~np.isfinite(array))[0]
        raise DataError(f"number {column} of step {step} is not finite; statistics need finite numbers.")
    low, high = np.quantile(array, [0.01, 0.99], axis=0)
    return {
        "mean": array.mean(axis=0).tolist(),
        "std": array.std(axis=0).tolist(),
        "min": array.min(axis=0).tolist(),
        "max": array.max(axis=0).tolist(),
        "q01": low.tolist(),
        "q99": high.tolist(),
        "p01": low.tolist(),
        "p99": high.tolist(),
    }


def statistics_of(dataset: Dataset, key: str = "") -> dict[str, Any]:
    """Statistics of a data set, the content of dataset_statistics.json.

    Returns `{key: {action, proprio, num_transitions, num_trajectories, data_hash}}`; `key` is the data set's
    name where empty.  Numbers are kept as float32, images are not read.  Raises `DataError`.
    """
    actions, states, digests = [], [], []
    for episode in dataset:
        actions.append(episode.actions.astype(np.float32))
        states.append(episode.states.astype(np.float32))
        digests.append(episode_digest(episode))
    if not actions:
        raise DataError(f"{dataset.info.path} has no episode to take statistics of.")
    try:
        every_action, every_state = np.concatenate(actions), np.concatenate(states)
    except ValueError as error:
        raise DataError(f"{dataset.info.path}: episodes differ in their numbers a step: {error}.") from error
    mask = action_mask(dataset.info.action_names, every_action.shape[1])
    try:
        action, proprio = column_statistics(every_action), column_statistics(every_state)
    except DataError as error:
        raise DataError(f"{dataset.info.path}: {error}") from error
    return {
        key or dataset.info.name: {
            "action": {**action, "mask": mask},
            "proprio": proprio,
            "num_transitions": len(every_action),
            "num_trajectories": len(actions),
            "data_hash": joined_digest(digests),
        }
    }


def constant_columns(values: Mapping[str, Sequence[float]]) -> list[int]:
    """Which numbers of `column_statistics` do not vary between the 1 % and the 99 % quantile.

    A policy that is normalised by quantiles cannot learn them, and divides by nothing.
    """
    return [k for k, (low, high) in enumerate(zip(values["q01"], values["q99"], strict=True)) if low == high]


def action_mask(names: Sequence[str], dimension: int) -> list[bool]:
    """Which numbers of an action are normalised: all but the gripper, the last one where none has a name."""
    if len(names) == dimension:
        return [_GRIPPER not in name for name in names]
    return [True] * (dimension - 1) + [False]
