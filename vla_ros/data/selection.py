"""Data sets made of others: some of the episodes of one, the episodes of several."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from vla_ros.data.contract_meaning import contract_difference
from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.errors import DataError


class Selected(Dataset):
    """The episodes `indices` of a data set, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        """Raises `DataError` for an index that is not there."""
        for index in indices:
            if not 0 <= index < len(dataset):
                raise DataError(
                    f"{dataset.info.path} has {len(dataset)} episodes; {index} is not among them."
                )
        self.dataset, self.indices = dataset, tuple(indices)
        self.info = replace(dataset.info, episodes=len(indices))

    def steps(self, index: int) -> int:
        """Number of steps of one episode."""
        return self.dataset.steps(self.indices[index])

    def episode(self, index: int) -> Episode:
        """Read one episode."""
        return self.dataset.episode(self.indices[index])


class Joined(Dataset):
    """The episodes of several data sets, one after the other."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        """Raises `DataError` when they do not fit together; see `check_alike`."""
        first = datasets[0]
        for other in datasets[1:]:
            check_alike(first.info, other.info)
        self.datasets = tuple(datasets)
        self._ends = list(accumulate(len(dataset) for dataset in datasets))
        self.info = replace(first.info, episodes=self._ends[-1])

    def steps(self, index: int) -> int:
        """Number of steps of one episode."""
        dataset, inner = self.place(index)
        return dataset.steps(inner)

    def episode(self, index: int) -> Episode:
        """Read one episode."""
        dataset, inner = self.place(index)
        return dataset.episode(inner)

    def place(self, index: int) -> tuple[Dataset, int]:
        """The data set that an episode lies in, and its number there."""
        if not 0 <= index < len(self):
            raise DataError(f"the data sets have {len(self)} episodes; {index} is not among them.")
        at = bisect_right(self._ends, index)
        return self.datasets[at], index - (self._ends[at - 1] if at else 0)


def check_alike(a: DatasetInfo, b: DatasetInfo) -> None:
    """Raise `DataError`, naming both sides and the first difference, unless they can be one data set."""
    pairs = (
        ("action space", a.action_space, b.action_space),
        ("actions", a.action_names, b.action_names),
        ("states", a.state_names, b.state_names),
        ("cameras", dict(sorted(a.cameras.items())), dict(sorted(b.cameras.items()))),
        ("steps a second", a.rate, b.rate),
        ("robot", a.robot, b.robot),
    )
    for what, left, right in pairs:
        if left != right:
            raise DataError(
                f"{a.path} and {b.path} cannot be one data set: they differ in {what}: {_shown(left, right)}."
            )
    if difference := contract_difference(a.contract, b.contract):
        raise DataError(
            f"{a.path} and {b.path} cannot be one data set: they differ in contract: {difference}."
        )


def origin(dataset: Dataset, index: int) -> tuple[Dataset, int]:
    """The data set that an episode lies in, through all sums and selections, and its number there."""
    if isinstance(dataset, Selected):
        return origin(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, Joined):
        return origin(*dataset.place(index))
    return dataset, index


def source_paths(dataset: Dataset) -> tuple[Path, ...]:
    """Every file or folder that the episodes come from."""
    if isinstance(dataset, Selected):
        return source_paths(dataset.dataset)
    if isinstance(dataset, Joined):
        return tuple(dict.fromkeys(path for part in dataset.datasets for path in source_paths(part)))
    return (dataset.info.path,)


def _shown(left: object, right: object) -> str:
    if isinstance(left, dict) and isinstance(right, dict):
        return f"{_cameras(left)} and {_cameras(right)}"
    if isinstance(left, tuple) and isinstance(right, tuple):
        return f"{', '.join(left) or 'none named'} and {', '.join(right) or 'none named'}"
    return f"{left or 'none stated'} and {right or 'none stated'}"


def _cameras(sizes: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items()) or "none"
