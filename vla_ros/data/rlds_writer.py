"""Writer of RLDS data sets without tensorflow: the target is the folder that holds features.json.

`tfds.builder_from_directory(target)` reads it.  A group is one shard of the split `train`.  Beside TFDS's two
JSON files lie the contract (contract.yaml), what RLDS has no place for (vla_ros.json) and the statistics of
actions and states (dataset_statistics.json).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros import __version__
from vla_ros.actions import get_action_space
from vla_ros.data.blobs import Spool
from vla_ros.data.data_hash import episode_digest, joined_digest
from vla_ros.data.episode import Episode
from vla_ros.data.rlds_dataset import CONTRACT, OURS, RldsDataset
from vla_ros.data.rlds_layout import Leaf, episode_leaves, features_json, info_json
from vla_ros.data.statistics import STATISTICS, statistics_of
from vla_ros.data.tf_example_writer import example_pieces
from vla_ros.data.tfrecord import framed
from vla_ros.data.writing import Group, Plan
from vla_ros.errors import ActionError, ContractError, DataError


class RldsWriter:
    """See `vla_ros.data.writing.Writer`."""

    def write_group(self, plan: Plan, group: Group, episodes: Iterable[Episode]) -> Mapping[str, Any]:
        """Write one shard.  Raises `DataError`."""
        final = plan.target / shard_name(plan.name, group.index, group.count)
        part = final.with_name(f".{final.name}.{os.getpid()}.part")
        leaves: dict[str, Leaf] = {}
        digests: list[str] = []
        size = steps = 0
        try:
            with part.open("wb") as file:
                for episode in episodes:
                    with Spool(part.parent) as spool:
                        found, values = episode_leaves(episode, spool)
                        leaves = _same(leaves or found, found, episode.source)
                        length, pieces = example_pieces(values)
                        file.writelines(framed(length, pieces))
                    size, steps = size + length, steps + len(episode)
                    digests.append(episode_digest(episode))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, final)
        except OSError as error:
            raise DataError(f"{final} cannot be written: {error.strerror or error}.") from error
        finally:
            part.unlink(missing_ok=True)
        return {
            "group": group.index,
            "episodes": len(digests),
            "steps": steps,
            "bytes": size,
            "leaves": leaves,
            "digests": digests,
        }

    def finish(self, plan: Plan, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write the JSON files, the contract and the statistics.  Raises `DataError`."""
        if not reports:
            raise DataError(f"{plan.target}: a data set without an episode is not written.")
        leaves: dict[str, Leaf] = dict(reports[0]["leaves"])
        for report in reports:
            leaves = _same(leaves, report["leaves"], f"group {report['group']}")
        info, name = plan.info, dataset_name(plan.name)
        digest = joined_digest(d for report in reports for d in report["digests"])
        ours = {
            "vla_ros_version": __version__,
            "rate": info.rate,
            "robot": info.robot,
            "action_space": info.action_space,
            "action_names": list(info.action_names),
            "action_units": _units(plan),
            "state_names": list(info.state_names),
            "episodes": sum(report["episodes"] for report in reports),
            "steps": sum(report["steps"] for report in reports),
            "data_hash": digest,
        }
        lengths = [int(report["episodes"]) for report in reports]
        size = sum(int(report["bytes"]) for report in reports)
        description = f"Episodes of {info.name}, written by vla_ros {__version__}."
        _write(plan.target / "features.json", features_json(leaves, {}))
        _write(plan.target / "dataset_info.json", info_json(name, description, lengths, size))
        _write(plan.target / OURS, ours)
        if info.contract:
            _write_text(plan.target / CONTRACT, info.contract)
        statistics = statistics_of(RldsDataset(plan.target), name)
        if statistics[name]["data_hash"] != digest:
            raise DataError(
                f"{plan.target}: what was written is not what is read back; the disk or the files changed."
            )
        _write(plan.target / STATISTICS, statistics)


def dataset_name(name: str) -> str:
    """A name that TFDS takes: small letters, digits and underscores, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if plain and plain[0].isalpha() else f"dataset_{plain}".rstrip("_")


def shard_name(name: str, index: int, count: int) -> str:
    """File of one shard of the split `train`."""
    return f"{dataset_name(name)}-train.tfrecord-{index:05d}-of-{count:05d}"


def _same(first: dict[str, Leaf], found: Mapping[str, Leaf], source: str) -> dict[str, Leaf]:
    for name in [*first, *found]:
        if name not in first or name not in found:
            raise DataError(f"{source}: the feature '{name}' is not in every episode; RLDS needs it to be.")
        one, other = first[name], found[name]
        if one == other:
            continue
        if one["kind"] == "image" and one["shape"] == other["shape"]:
            first = {**first, name: {**one, "format": "jpeg"}}
            continue
        raise DataError(
            f"{source}: the feature '{name}' is {other['dtype']} {other['shape']} here and {one['dtype']} "
            f"{one['shape']} in the first episode; RLDS keeps one form."
        )
    return first


def _units(plan: Plan) -> list[str]:
    try:
        space = get_action_space(plan.info.action_space, max(len(plan.info.action_names) - 1, 1))
    except (ActionError, ContractError):
        return []
    return list(space.units) if len(space.units) == len(plan.info.action_names) else []


def _write(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, default=_number) + "\n")


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
