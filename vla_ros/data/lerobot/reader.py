"""Reader of LeRobot data sets v3.0: this package's own and those of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.frames import EncodedFrames, Frames
from vla_ros.data.json_object import read_json
from vla_ros.data.lerobot import layout
from vla_ros.data.lerobot.tables import read_tasks
from vla_ros.data.lerobot.video import VideoFrames
from vla_ros.documents import parse_json
from vla_ros.errors import DataError


class LeRobotDataset(Dataset):
    """Episodes of a folder; opening reads info.json, tasks and rows of episodes, no statistics."""

    def __init__(self, path: Path) -> None:
        """Raises `DataError` when it is no such folder, or of another version."""
        self._path = Path(path)
        info = read_json(self._path / layout.INFO)
        version = str(info.get("codebase_version", "unknown"))
        if version != layout.VERSION:
            raise DataError(
                f"{self._path} is a LeRobot data set of version {version}; {layout.VERSION} is read "
                "(lerobot has a converter from older ones)."
            )
        try:
            self._features = {
                str(key): {**feature, "shape": [int(n) for n in feature["shape"]]}
                for key, feature in info["features"].items()
            }
            self._data_path, self._video_path = str(info["data_path"]), str(info.get("video_path") or "")
            rate = float(info["fps"])
            total = int(info["total_episodes"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{self._path / layout.INFO} does not describe a data set: {error!r}.") from error
        if layout.ACTION not in self._features or not rate > 0:
            raise DataError(f"{self._path / layout.INFO} has no feature 'action' or no frame rate.")
        ours = self._path / layout.OURS
        self._ours = read_json(ours) if ours.is_file() else {}
        contract = self._path / layout.CONTRACT
        self._rate = float(self._ours.get("rate", rate))
        self._tasks = read_tasks(self._path / layout.TASKS)
        self._rows = _episode_rows(self._path)
        if len(self._rows) != total:
            raise DataError(
                f"{self._path} has rows of {len(self._rows)} episodes, {layout.INFO} says {total}."
            )
        self._cameras = {
            key: _camera_name(key) for key, f in self._features.items() if f["dtype"] in ("video", "image")
        }
        self.info = DatasetInfo(
            path=self._path,
            kind="lerobot",
            name=str(self._ours.get("name") or self._path.name),
            episodes=total,
            rate=self._rate,
            robot=str(info.get("robot_type") or ""),
            action_space=str(self._ours.get("action_space", "")),
            action_names=self._names(layout.ACTION, "action_names"),
            state_names=self._names(layout.STATE, "state_names"),
            cameras={name: self._size(key) for key, name in self._cameras.items()},
            contract=contract.read_text(encoding="utf-8") if contract.is_file() else "",
        )

    def steps(self, index: int) -> int:
        """Length that the episode's row states."""
        return int(self._row(index)["length"])

    def tasks(self, index: int) -> tuple[str, ...]:
        """Tasks that the episode's row states."""
        return tuple(self._row(index).get("tasks") or ())

    def episode(self, index: int) -> Episode:
        """Read the numbers of one episode; its frames are read when they are asked for."""
        row = self._row(index)
        table, where = self._table(row, index), f"{self._path}, episode {index}"
        length = table.num_rows
        if length != int(row["length"]) or length == 0:
            raise DataError(
                f"{where} has {length} rows of data, its row in meta/episodes says {row['length']}."
            )
        extra, known = {}, {layout.ACTION, layout.STATE, layout.TERMINAL, *layout.STANDARD}
        images: dict[str, Frames] = {}
        for key, feature in self._features.items():
            if feature["dtype"] == "video":
                images[self._cameras[key]] = self._video(key, row, table, where)
            elif feature["dtype"] == "image":
                frames = [cell["bytes"] for cell in table[key].to_pylist()]
                images[self._cameras[key]] = EncodedFrames(frames, f"{where}, camera '{self._cameras[key]}'")
            elif key not in known and feature["dtype"] != "string" and key in table.column_names:
                name, shape = self._extra_form(key, feature)
                extra[name] = _array(table[key], str(feature["dtype"]), where, key).reshape((length, *shape))
        states = np.zeros((length, 0))
        if layout.STATE in self._features:
            states = _array(table[layout.STATE], "float64", where, layout.STATE).reshape(length, -1)
        terminal = np.zeros(length, np.bool_)
        if layout.TERMINAL in self._features:
            terminal = _array(table[layout.TERMINAL], "bool", where, layout.TERMINAL).reshape(length)
        try:
            said = tuple(str(self._tasks[number]) for number in table["task_index"].to_pylist())
        except KeyError as error:
            raise DataError(f"{where} has the task {error}, which {layout.TASKS} does not.") from error
        first, last = _flags(row, length)
        return Episode(
            source=where,
            actions=_array(table[layout.ACTION], "float64", where, layout.ACTION).reshape(length, -1),
            states=states,
            is_first=first,
            is_last=last,
            is_terminal=terminal,
            instructions=said,
            images=images,
            extra=extra,
            metadata=parse_json(row.get(layout.METADATA) or "{}"),
            rate=self._rate,
            action_space=self.info.action_space,
            action_names=self.info.action_names,
            state_names=self.info.state_names,
            contract=self.info.contract,
        )

    def _row(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self._rows):
            raise DataError(f"{self._path} has {len(self._rows)} episodes; {index} is not among them.")
        return self._rows[index]

    def _table(self, row: Mapping[str, Any], index: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = self._data_path.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        try:
            # Row groups whose statistics exclude the episode are not read.
            return pq.read_table(self._path / name, filters=[("episode_index", "=", index)])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self._path / name} cannot be read: {error}.") from error

    def _video(self, key: str, row: Mapping[str, Any], table: Any, where: str) -> VideoFrames:
        try:
            name = self._video_path.format(
                video_key=key,
                chunk_index=row[f"videos/{key}/chunk_index"],
                file_index=row[f"videos/{key}/file_index"],
            )
            start = float(row[f"videos/{key}/from_timestamp"])
        except (LookupError, TypeError) as error:
            raise DataError(f"{where}: its row in meta/episodes lacks {error} of '{key}'.") from error
        times = start + np.asarray(table["frame_index"].to_numpy(), np.float64) / self._rate
        place = f"{where}, camera '{self._cameras[key]}'"
        stats = _row_stats(self._path, row, key)
        return VideoFrames(self._path / name, times.tolist(), self._size(key), self._rate, place, stats)

    def _size(self, key: str) -> tuple[int, int]:
        feature = self._features[key]
        shape = feature["shape"]
        names = feature.get("names") or []
        if len(shape) != 3:
            raise DataError(f"{self._path / layout.INFO}: the camera '{key}' has the shape {shape}.")
        # Data sets ported from version 2 may state channels first.
        first = names[:1] in (["channels"], ["channel"]) or (shape[0] == 3 and shape[2] != 3)
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def _names(self, key: str, ours: str) -> tuple[str, ...]:
        if ours in self._ours:
            return tuple(map(str, self._ours[ours]))
        names = self._features.get(key, {}).get("names")
        while isinstance(names, Mapping):  # {"motors": [...]} in older ones
            names = next(iter(names.values()), None)
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def _extra_form(self, key: str, feature: Mapping[str, Any]) -> tuple[str, list[int]]:
        ours = self._ours.get("extra", {}).get(key)
        if ours is not None:
            return str(ours["name"]), list(ours["shape"])
        shape = [] if feature["shape"] == [1] else list(feature["shape"])
        return key.replace(".", "/"), shape


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobot data set of some version."""
    return (Path(path) / layout.INFO).is_file()


def open_lerobot(path: Path) -> LeRobotDataset:
    """Open a folder.  Raises `DataError`."""
    return LeRobotDataset(path)


def _episode_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for file in sorted((path / "meta/episodes").glob("*/*.parquet")):
        try:
            names = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
            rows += pq.read_table(file, columns=names).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} cannot be read: {error}.") from error
    rows.sort(key=lambda row: int(row["episode_index"]))
    for number, row in enumerate(rows):
        if row["episode_index"] != number:
            raise DataError(f"{path / 'meta/episodes'} has no row of episode {number}.")
    return rows


def _row_stats(path: Path, row: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Statistics of one camera in one episode, where the data set has them all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vla_ros.data.lerobot.stats import QUANTILES

    wanted = ("min", "max", "mean", "std", "count", *QUANTILES)
    if "meta/episodes/chunk_index" not in row:
        return None
    name = layout.EPISODES.format(
        chunk_index=row["meta/episodes/chunk_index"], file_index=row["meta/episodes/file_index"]
    )
    try:
        found = pq.read_table(
            path / name,
            columns=[f"stats/{key}/{stat}" for stat in wanted],
            filters=[("episode_index", "=", row["episode_index"])],
        ).to_pylist()
    except (OSError, pa.ArrowException):
        return None
    if len(found) != 1 or len(found[0]) != len(wanted):
        return None
    return {stat: found[0][f"stats/{key}/{stat}"] for stat in wanted}


def _array(column: Any, dtype: str, where: str, key: str) -> NDArray[Any]:
    import pyarrow as pa

    chunk = column.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = chunk.chunk(0)
    while pa.types.is_list(chunk.type) or pa.types.is_fixed_size_list(chunk.type):
        chunk = chunk.flatten()
    if chunk.null_count:
        raise DataError(f"{where}: the feature '{key}' has values that are missing.")
    try:
        values: NDArray[Any] = chunk.to_numpy(zero_copy_only=False).astype(dtype)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{where}: the feature '{key}' cannot be read as {dtype}: {error}.") from error
    return values


def _flags(row: Mapping[str, Any], length: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    marked = {"is_first": [0], "is_last": [length - 1], **parse_json(row.get(layout.FLAGS) or "{}")}
    steps = np.arange(length)
    return np.isin(steps, marked["is_first"]), np.isin(steps, marked["is_last"])


def _camera_name(key: str) -> str:
    return key.removeprefix(layout.CAMERA) if key.startswith(layout.CAMERA) else key.rsplit(".", 1)[-1]
