"""An RLDS folder as a `Dataset`: episodes by number, from the offsets of their records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.json_object import read_json
from vla_ros.data.rlds import decode_episode, open_rlds
from vla_ros.data.tfrecord import read_record, record_offsets
from vla_ros.errors import DataError

CONTRACT, OURS = "contract.yaml", "vla_ros.json"
"""Beside features.json: the contract, and what RLDS has no place for."""


class RldsDataset(Dataset):
    """Opening walks the headers of the records; payloads are read when asked for."""

    def __init__(self, path: Path) -> None:
        """Raises `DataError` when it is no RLDS folder or a shard is cut off."""
        self.folder = open_rlds(Path(path))
        self._records: list[tuple[Path, int, int]] = []
        self._steps: dict[int, int] = {}
        for shard in self.folder.shards:
            offsets = record_offsets(shard.path)
            if len(offsets) != shard.records:
                raise DataError(
                    f"{shard.path} holds {len(offsets)} records, "
                    f"{self.folder.path / 'dataset_info.json'} says {shard.records}."
                )
            self._records += [(shard.path, number, offset) for number, offset in enumerate(offsets)]
        if not self._records:
            raise DataError(f"{self.folder.path} holds no episode.")
        self._ours = _ours(self.folder.path)
        contract = self.folder.path / CONTRACT
        self.info = DatasetInfo(
            path=self.folder.path,
            kind="rlds",
            name=self.folder.name,
            episodes=len(self._records),
            rate=float(self._ours.get("rate", 0.0)),
            robot=str(self._ours.get("robot", "")),
            action_space=str(self._ours.get("action_space", "")),
            action_names=tuple(self._ours.get("action_names", ())),
            state_names=tuple(self._ours.get("state_names", ())),
            contract=contract.read_text(encoding="utf-8") if contract.is_file() else "",
        )
        first = self.episode(0)
        cameras = {camera: frames.size for camera, frames in first.images.items()}
        self.info = replace(self.info, cameras=cameras)

    def steps(self, index: int) -> int:
        """Number of steps of one episode; its record is read once."""
        if index not in self._steps:
            self.episode(index)
        return self._steps[index]

    def episode(self, index: int) -> Episode:
        """Read one episode."""
        if not 0 <= index < len(self._records):
            raise DataError(
                f"{self.folder.path} has {len(self._records)} episodes; {index} is not among them."
            )
        path, number, offset = self._records[index]
        episode = decode_episode(read_record(path, number, offset), self.folder.features)
        self._steps[index] = len(episode)
        return replace(
            episode,
            rate=self.info.rate,
            action_space=self.info.action_space,
            action_names=self.info.action_names,
            state_names=self.info.state_names,
            contract=self.info.contract,
        )


def _ours(folder: Path) -> Mapping[str, Any]:
    path = folder / OURS
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        json.dumps([float(content.get("rate", 0.0)), list(content.get("action_names", ()))])
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is malformed: {error}.") from error
    return content
