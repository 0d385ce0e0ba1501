"""Episodes in bags, recorded by a person or an expert or imported from a data set, as a `Dataset`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla_ros.contract import Contract, load_contract
from vla_ros.data.bag import METADATA_TOPIC
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.contract_meaning import contract_difference
from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.demonstration_bag import WANTED, Demonstration, demonstrations, read_demonstration
from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import ACTION_TOPIC, Imported, imported_episodes, read_imported
from vla_ros.documents import parse_json
from vla_ros.errors import DataError, VlaRosError


class OpenBag:
    """One bag, indexed: its episodes of either kind."""

    def __init__(self, path: Path) -> None:
        """Raises `DataError`."""
        self.path = path
        self.index = BagIndex(
            path, lambda topic: topic in WANTED or topic == METADATA_TOPIC or topic.startswith("/episode/")
        )
        self.metadata = self._metadata()
        self.contract_text = self.metadata.get("contract", "")
        self.imported = ACTION_TOPIC in self.index.topics
        self.contract: Contract | None = None
        self.parts: Sequence[Imported | Demonstration]
        if self.imported:
            self.parts = imported_episodes(self.index, self.metadata.get("source", str(path)))
        else:
            if not self.contract_text:
                raise DataError(
                    f"{path} carries no contract and has no topic {ACTION_TOPIC}; it holds no demonstrations."
                )
            self.contract = contract_from_text(self.contract_text, path)
            self.parts = demonstrations(self.index, self.contract)
        if not self.parts:
            raise DataError(f"{path} holds no episode.")

    def episode(self, number: int) -> Episode:
        """Read one episode.  Raises `DataError`."""
        part = self.parts[number]
        if isinstance(part, Imported):
            return read_imported(self.index, part, self.metadata)
        if self.contract is None:
            raise DataError(f"{self.path} carries no contract.")
        return read_demonstration(self.index, part, self.contract, self.contract_text)

    def _metadata(self) -> dict[str, str]:
        for topic, _, message in self.index.small:
            if topic == METADATA_TOPIC:
                try:
                    texts = parse_json(message.data)
                except ValueError as error:
                    raise DataError(f"{self.path}: the text on {topic} is not JSON: {error}.") from error
                return {str(k): str(v) for k, v in texts.items()} if isinstance(texts, dict) else {}
        return {}


class BagDataset(Dataset):
    """The episodes of one or several bags, in the order of the bags."""

    def __init__(self, path: Path, bags: Sequence[Path], lenient: bool = False) -> None:
        """`path`: what the user named; `bags`: every bag in it; `lenient`: whether one that cannot be read
        is only noted in `unreadable`, as long as another can be.  Raises `DataError`.
        """
        self._places: list[tuple[Path, int, int]] = []
        self._outcomes: list[str | None] = []
        self._counts: dict[Path, int] = {}
        self.unreadable: dict[Path, str] = {}
        """Why bags could not be read."""
        self._bag: OpenBag | None = None
        first: tuple[Path, str] | None = None
        for name in bags:
            try:
                bag = self._open(name)
            except DataError as error:
                self.unreadable[name] = str(error)
                if lenient and len(self.unreadable) < len(bags):
                    continue
                raise
            self._counts[name] = len(bag.parts)
            self._outcomes += [
                part.outcome if isinstance(part, Demonstration) else None for part in bag.parts
            ]
            self._places += [(name, number, part.steps) for number, part in enumerate(bag.parts)]
            if first is None:
                first = name, bag.contract_text
            elif difference := contract_difference(first[1], bag.contract_text):
                raise DataError(f"{first[0]} and {name} were made with different contracts: {difference}.")
        if not self._places:
            raise DataError(f"{path} holds no bag.")
        episode = self.episode(0)
        robot = str(episode.metadata.get("robot", ""))
        self.info = DatasetInfo(
            path=Path(path),
            kind="bags",
            name=Path(path).stem,
            episodes=len(self._places),
            rate=episode.rate,
            robot=robot,
            action_space=episode.action_space,
            action_names=episode.action_names,
            state_names=episode.state_names,
            cameras={camera: frames.size for camera, frames in episode.images.items()},
            contract=episode.contract,
        )

    def steps(self, index: int) -> int:
        """Number of steps of one episode."""
        return self._place(index)[2]

    def outcome(self, index: int) -> str:
        """How an episode ended; empty: not stated.  Raises `DataError`."""
        known = self._outcomes[index]
        return str(self.episode(index).metadata.get("outcome", "")) if known is None else known

    def place(self, index: int) -> tuple[Path, int, int]:
        """The bag that an episode lies in, its number there, and how many that bag has."""
        path, number, _ = self._place(index)
        return path, number, self._counts[path]

    def episode(self, index: int) -> Episode:
        """Read one episode; its images when they are asked for."""
        path, number, _ = self._place(index)
        return self._open(path).episode(number)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open bag."""
        return {**self.__dict__, "_bag": None}

    def _place(self, index: int) -> tuple[Path, int, int]:
        if not 0 <= index < len(self._places):
            raise DataError(f"the bags have {len(self._places)} episodes; {index} is not among them.")
        return self._places[index]

    def _open(self, path: Path) -> OpenBag:
        if self._bag is None or self._bag.path != path:
            self._bag = OpenBag(path)
        return self._bag


def contract_from_text(text: str, path: Path) -> Contract:
    """The contract that a bag carries.  Raises `DataError` when it is broken or names an unknown robot."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "contract.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            return load_contract(file)
        except VlaRosError as error:
            sentence = str(error).replace(str(file), "its contract")
            raise DataError(f"{path} cannot be read as demonstrations: {sentence}") from error
