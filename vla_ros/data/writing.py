"""What writes a data set: groups of episodes, each by one worker, then the files that describe the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode


@dataclass(frozen=True)
class Group:
    """Consecutive episodes that share one file (a tfrecord shard; a parquet file and a video a camera)."""

    index: int
    count: int
    """How many groups there are."""
    first_episode: int
    first_step: int
    """Steps of all episodes before this group's."""
    lengths: tuple[int, ...]
    """Steps of each of its episodes."""


@dataclass(frozen=True)
class Plan:
    """Everything a writer must know before the first episode."""

    target: Path
    info: DatasetInfo
    """Of the source."""
    name: str
    tasks: tuple[str, ...]
    """Every instruction, in the order of first use."""
    groups: tuple[Group, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


class Writer(Protocol):
    """One format.  `write_group` runs in any process and order; its files appear whole or not at all."""

    def write_group(self, plan: Plan, group: Group, episodes: Iterable[Episode]) -> Mapping[str, Any]:
        """Write one group; what `finish` must know of it, as plain JSON.  Raises `DataError`."""

    def finish(self, plan: Plan, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write the files that describe the whole, from the reports in the order of the groups."""
