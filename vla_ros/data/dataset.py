"""One face for every data set of demonstrations: bags, RLDS folders, LeRobot v3 folders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_ros.data.episode import Episode


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without reading its episodes' images."""

    path: Path
    kind: str
    """`bags`, `rlds` or `lerobot`."""
    name: str
    episodes: int
    rate: float
    """Steps a second [Hz]; 0: not known."""
    robot: str = ""
    action_space: str = ""
    action_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    cameras: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """(height, width) by camera."""
    contract: str = ""
    """The one contract of all episodes, YAML; empty: none."""


class Dataset(ABC):
    """Episodes by number; opening one reads no images.  May be pickled: workers open it again."""

    info: DatasetInfo

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.info.episodes

    def __iter__(self) -> Iterator[Episode]:
        """Yield the episodes in order."""
        return (self.episode(index) for index in range(len(self)))

    @abstractmethod
    def steps(self, index: int) -> int:
        """Number of steps of one episode.  Raises `DataError`."""

    @abstractmethod
    def episode(self, index: int) -> Episode:
        """Read one episode.  Raises `DataError`."""
