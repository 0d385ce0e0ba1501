"""Reader of RLDS data sets (TFDS folders of tfrecord files) without tensorflow.

A folder holds `features.json`, `dataset_info.json` and the shards of each split; one tf.train.Example is one
episode, its steps laid end to end in features named `steps/...`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.episode import Episode, SizedInt
from vla_ros.data.frames import EncodedFrames
from vla_ros.data.json_object import read_json
from vla_ros.data.protobuf_wire import WireError
from vla_ros.data.rlds_features import IMAGE, NUMBER, TEXT, Feature, load_features
from vla_ros.data.tf_example import Value, parse_example
from vla_ros.data.tfrecord import Record, read_records
from vla_ros.errors import DataError

ACTION, STATE = "steps/action", "steps/observation/state"
INSTRUCTION = "steps/language_instruction"
_FLAGS = ("steps/is_first", "steps/is_last", "steps/is_terminal")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True)
class Shard:
    """One file of a split and the number of records it must hold."""

    split: str
    path: Path
    records: int


@dataclass(frozen=True)
class RldsFolder:
    """An opened data set: nothing but the two JSON files has been read."""

    path: Path
    name: str
    version: str
    features: tuple[Feature, ...]
    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        """Return the number of episodes that dataset_info.json states."""
        return sum(shard.records for shard in self.shards)

    def episodes(self, split: str = "") -> Iterator[Episode]:
        """Yield the episodes of a split, or of all of them.  Raises `DataError`."""
        splits = sorted({shard.split for shard in self.shards})
        if split and split not in splits:
            raise DataError(f"{self.path} has no split '{split}'; it has {', '.join(splits)}.")
        for shard in self.shards:
            if split in ("", shard.split):
                yield from self._shard_episodes(shard)

    def _shard_episodes(self, shard: Shard) -> Iterator[Episode]:
        count = 0
        for record in read_records(shard.path):
            yield decode_episode(record, self.features)
            count += 1
        if count != shard.records:
            raise DataError(
                f"{shard.path} holds {count} records, {self.path / 'dataset_info.json'} says {shard.records}."
            )


def open_rlds(folder: Path) -> RldsFolder:
    """Open a TFDS folder, or its parent when that holds one version only.

    Raises `DataError` when it is not such a folder or a shard is missing.
    """
    folder = _version_folder(Path(folder))
    info_path = folder / "dataset_info.json"
    info = read_json(info_path)
    features = load_features(folder / "features.json")
    try:
        name, version = str(info["name"]), str(info.get("version", ""))
        shards = tuple(shard for split in info["splits"] for shard in _shards(folder, info, split))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise DataError(f"{info_path} does not describe the splits of a data set: {error!r}.") from error
    for shard in shards:
        if not shard.path.is_file():
            raise DataError(f"{info_path} names the file {shard.path.name}, which is not in {folder}.")
    if not shards:
        raise DataError(f"{info_path} lists no shard; the data set is empty.")
    return RldsFolder(folder, name, version, features, shards)


def read_rlds(folder: Path, split: str = "") -> Iterator[Episode]:
    """Yield the episodes of an RLDS folder; see `open_rlds` and `RldsFolder.episodes`."""
    return open_rlds(folder).episodes(split)


def decode_episode(record: Record, features: tuple[Feature, ...]) -> Episode:
    """Decode one record.  Raises `DataError` when it does not hold what the features promise."""
    try:
        example = parse_example(record.data)
    except WireError as error:
        raise DataError(f"{record.where(error.offset)}: {error}.") from error
    source = f"{record.path}, record {record.number}"
    steps = _step_count(example, features, record)
    arrays: dict[str, NDArray[Any]] = {}
    lists: dict[str, Sequence[bytes]] = {}
    metadata: dict[str, Any] = {}
    for feature in features:
        value = _take(example, feature, steps if feature.in_steps else 1, record)
        if not feature.in_steps:
            first = value[0]
            metadata[feature.name.rsplit("/", 1)[-1]] = (
                _text(cast(bytes, first), feature, record)
                if feature.kind == TEXT
                else _plain(first, feature.dtype)
            )
        elif feature.kind == NUMBER:
            arrays[feature.name] = cast("NDArray[Any]", value)
        else:
            lists[feature.name] = cast("Sequence[bytes]", value)
    known = {ACTION, STATE, *_FLAGS}
    first_flag, last_flag, terminal_flag = (_flag(arrays, name, steps) for name in _FLAGS)
    return Episode(
        source=source,
        actions=_matrix(arrays, ACTION, steps, record),
        states=_matrix(arrays, STATE, steps, record),
        is_first=first_flag,
        is_last=last_flag,
        is_terminal=terminal_flag,
        instructions=_instructions(lists, features, steps, record),
        images={
            feature.name.rsplit("/", 1)[-1]: EncodedFrames(
                lists[feature.name], f"{source}, camera '{feature.name.rsplit('/', 1)[-1]}'"
            )
            for feature in features
            if feature.in_steps and feature.kind == IMAGE
        },
        extra={name.removeprefix("steps/"): array for name, array in arrays.items() if name not in known},
        metadata=metadata,
    )


def _version_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; an RLDS data set is a folder with features.json.")
    if (folder / "features.json").is_file():
        return folder
    versions = [child for child in sorted(folder.iterdir()) if (child / "features.json").is_file()]
    if len(versions) == 1:
        return versions[0]
    if versions:
        names = ", ".join(child.name for child in versions)
        raise DataError(f"{folder} holds several versions ({names}); name one of them.")
    raise DataError(f"{folder} has no features.json; it is not an RLDS data set.")


def _shards(folder: Path, info: Mapping[str, Any], split: Mapping[str, Any]) -> Iterator[Shard]:
    lengths = [int(n) for n in split.get("shardLengths", ())]
    template = str(split.get("filepathTemplate", _TEMPLATE))
    for index, records in enumerate(lengths):
        shard = f"{index:05d}-of-{len(lengths):05d}"
        words = {
            "DATASET": info["name"],
            "SPLIT": split["name"],
            "FILEFORMAT": info.get("fileFormat", "tfrecord"),
            "SHARD_X_OF_Y": shard,
            "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
        }
        name = template
        for word, text in words.items():
            name = name.replace(f"{{{word}}}", str(text))
        # The template comes from the file: it may name a file of this folder, nothing else.
        yield Shard(str(split["name"]), folder / Path(name).name, records)


def _step_count(example: Mapping[str, Value], features: tuple[Feature, ...], record: Record) -> int:
    for feature in features:
        size = math.prod(feature.shape) if feature.kind == NUMBER else 1
        if feature.in_steps and size > 0 and feature.name in example:
            steps = len(example[feature.name]) // size
            if steps:
                return steps
    raise DataError(f"{record.where()}: the record holds none of the steps that features.json promises.")


def _take(
    example: Mapping[str, Value], feature: Feature, count: int, record: Record
) -> Sequence[bytes] | NDArray[Any]:
    """`count` values of a feature: a list of byte strings, or an array (count, *shape)."""
    value = example.get(feature.name)
    if value is None:
        raise DataError(f"{record.where()}: the feature '{feature.name}' is missing.")
    wanted = count * (math.prod(feature.shape) if feature.kind == NUMBER else 1)
    if len(value) != wanted:
        raise DataError(
            f"{record.where()}: the feature '{feature.name}' has {len(value)} values where {wanted} are "
            f"expected ({count} x {list(feature.shape)})."
        )
    if feature.kind != NUMBER:
        if isinstance(value, np.ndarray):
            raise DataError(f"{record.where()}: '{feature.name}' holds numbers, not {feature.kind}s.")
        return value
    if not isinstance(value, np.ndarray):
        if len(value):
            raise DataError(f"{record.where()}: the feature '{feature.name}' holds bytes, not numbers.")
        numbers: NDArray[Any] = np.zeros(0, np.int64 if feature.is_integer else np.float32)
    else:
        numbers = value
    if (numbers.dtype == np.int64) != feature.is_integer:
        raise DataError(
            f"{record.where()}: the feature '{feature.name}' holds {numbers.dtype}, not {feature.dtype}."
        )
    if feature.dtype == "bool":
        numbers = numbers.astype(np.bool_)
    return numbers.reshape((count, *feature.shape))


def _flag(arrays: Mapping[str, NDArray[Any]], name: str, steps: int) -> NDArray[np.bool_]:
    if name in arrays:
        return arrays[name].reshape(steps).astype(np.bool_)
    # RLDS says what the absent flags mean: the first and the last step of the record are what they are.
    flag = np.zeros(steps, np.bool_)
    if name != "steps/is_terminal":
        flag[0 if name == "steps/is_first" else -1] = True
    return flag


def _matrix(arrays: Mapping[str, NDArray[Any]], name: str, steps: int, record: Record) -> NDArray[np.float64]:
    if name not in arrays:
        raise DataError(f"{record.where()}: the data set has no feature '{name}'.")
    return arrays[name].reshape(steps, -1).astype(np.float64)


def _instructions(
    lists: Mapping[str, Sequence[bytes]], features: tuple[Feature, ...], steps: int, record: Record
) -> tuple[str, ...]:
    for feature in features:
        if feature.name == INSTRUCTION and feature.kind == TEXT:
            return tuple(_text(item, feature, record) for item in lists[INSTRUCTION])
    return ("",) * steps


def _plain(value: Any, dtype: str) -> Any:
    """A Python number for a numpy scalar, which keeps its declared type; arrays and bytes as they are."""
    if isinstance(value, np.integer) and dtype != "int64":
        return SizedInt(int(value), dtype)
    return value.item() if isinstance(value, np.generic) else value


def _text(data: bytes, feature: Feature, record: Record) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{record.where()}: the feature '{feature.name}' is not UTF-8 text.") from error
