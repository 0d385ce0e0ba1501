"""Writer of LeRobot data sets v3.0: a group is one data file, a video a camera, one meta file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros import __version__
from vla_ros.actions import get_action_space
from vla_ros.data.data_hash import episode_digest, joined_digest
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.lerobot import layout
from vla_ros.data.lerobot.layout import place
from vla_ros.data.lerobot.reader import LeRobotDataset
from vla_ros.data.lerobot.stats import (
    ImageStats,
    aggregate,
    number_stats,
    sampled_steps,
    thinned,
    thinned_planes,
)
from vla_ros.data.lerobot.tables import arrow_schema, arrow_table, write_tasks
from vla_ros.data.lerobot.video import (
    CODECS,
    VideoFrames,
    VideoWriter,
    bgr,
    pixel_format,
    squared_error,
)
from vla_ros.data.statistics import STATISTICS, statistics_of
from vla_ros.data.writing import Group, Plan
from vla_ros.errors import ActionError, ConfigurationError, ContractError, DataError
from vla_ros.types import Image

MAX_SECONDS = 900.0
"""Of video in one file: LeRobot looks frames up by float32 seconds, to 1e-4: too coarse beyond 1024 s."""
_LOSS_FRAMES = 4
"""Frames of each episode that are decoded again to measure the codec's loss."""


@dataclass(frozen=True)
class LeRobotWriter:
    """See `vla_ros.data.writing.Writer`."""

    codec: str = "h264"
    copy: bool = True
    """Copy the packets of episodes that come from videos, where that is possible, instead of encoding."""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.codec not in CODECS:
            raise ConfigurationError(f"the video codec '{self.codec}' is not known; {', '.join(CODECS)} are.")

    def write_group(self, plan: Plan, group: Group, episodes: Iterable[Episode]) -> Mapping[str, Any]:
        """Write data, videos and episode rows of one group.  Raises `DataError`."""
        work = _GroupWork(self, plan, group)
        try:
            with work.files():
                for position, episode in enumerate(episodes):
                    work.add(position, episode)
            return work.finish()
        except OSError as error:
            raise DataError(f"{plan.target} cannot be written: {error.strerror or error}.") from error

    def finish(self, plan: Plan, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write info.json, stats.json, tasks.parquet, the contract and what the format has no place for."""
        first = reports[0]
        for report in reports[1:]:
            if report["features"] != first["features"]:
                raise DataError(
                    f"the episodes of group {report['group']} have other features than those of group 0."
                )
        rate = plan.info.rate
        episodes = sum(len(group.lengths) for group in plan.groups)
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": plan.info.robot or None,
            "total_episodes": episodes,
            "total_frames": sum(sum(group.lengths) for group in plan.groups),
            "total_tasks": len(plan.tasks),
            "chunks_size": layout.CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": layout.frames_per_second(rate),
            "splits": {"train": f"0:{episodes}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if first["cameras"] else None,
            "features": first["features"],
        }
        digest = joined_digest(d for report in reports for d in report["digests"])
        stats = {key: aggregate([r["stats"][key] for r in reports]) for key in first["stats"]}
        ours = {
            "vla_ros_version": __version__,
            "name": plan.name,
            "action_space": plan.info.action_space,
            "action_units": _units(plan.info),
            "data_hash": digest,
            "rate": rate,
            "action_names": list(plan.info.action_names),
            "state_names": list(plan.info.state_names),
            "extra": first["extra"],
            "video_loss": video_loss(reports),
        }
        try:
            for path, content in ((layout.INFO, info), (layout.STATS, stats), (layout.OURS, ours)):
                _write_text(plan.target / path, json.dumps(content, indent=2) + "\n")
            if plan.info.contract:
                _write_text(plan.target / layout.CONTRACT, plan.info.contract)
            write_tasks(plan.target / layout.TASKS, plan.tasks)
            statistics = statistics_of(LeRobotDataset(plan.target), plan.name)
            if statistics[plan.name]["data_hash"] != digest:
                raise DataError(
                    f"{plan.target}: what was written is not what is read back; the files changed meanwhile."
                )
            _write_text(plan.target / STATISTICS, json.dumps(statistics, indent=2) + "\n")
        except OSError as error:
            raise DataError(f"{plan.target} cannot be written: {error.strerror or error}.") from error


def video_loss(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By camera: PSNR [dB] of frames that were decoded again, mean and worst; frames copied and encoded."""
    found: dict[str, Any] = {}
    for camera in reports[0]["cameras"]:
        parts = [report["cameras"][camera] for report in reports]
        errors = [error for part in parts for error in part["squared_errors"]]
        found[camera] = {
            "frames_encoded": sum(part["encoded"] for part in parts),
            "frames_copied": sum(part["copied"] for part in parts),
            "frames_compared": len(errors),
            "psnr": _psnr(float(np.mean(errors))) if errors else None,
            "psnr_worst": _psnr(max(errors)) if errors else None,
        }
    return found


def _units(info: DatasetInfo) -> list[str]:
    """Units of the action's numbers; empty where the action space is none of the package's."""
    try:
        space = get_action_space(info.action_space, max(len(info.action_names) - 1, 1))
    except (ActionError, ContractError):
        return []
    return list(space.units) if len(space.units) == len(info.action_names) else []


def _psnr(error: float) -> float:
    """Decibels of a mean squared error; 99 where nothing was lost."""
    return round(min(99.0, 10 * float(np.log10(255.0**2 / max(error, 1e-12)))), 2)


@dataclass
class _Camera:
    video: VideoWriter
    part: Path
    size: tuple[int, int]
    kept: list[tuple[int, Image]] = field(default_factory=list)
    """Frame numbers and pixels to compare with what comes out of the video."""
    signature: tuple[Any, ...] | None = None
    encoded: int = 0
    copied: int = 0
    errors: list[float] = field(default_factory=list)


class _GroupWork:
    """The open files of one group."""

    def __init__(self, writer: LeRobotWriter, plan: Plan, group: Group) -> None:
        self._writer, self._plan, self._group = writer, plan, group
        self._tasks = {task: index for index, task in enumerate(plan.tasks)}
        self._cameras: dict[str, _Camera] = {}
        self._features: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._stats: list[dict[str, Any]] = []
        self._digests: list[str] = []
        self._data: Any = None
        self._step = group.first_step
        self._copies = False
        self._moves: list[tuple[Path, Path]] = []
        self._stack = ExitStack()

    @contextmanager
    def files(self) -> Iterator[None]:
        """Close, and on success put in place, every file; a failure leaves nothing behind."""
        try:
            with self._stack:
                yield
            for camera in self._cameras.values():
                _measure(camera, self._plan.info.rate)
        except BaseException:
            for part, _ in self._moves:
                part.unlink(missing_ok=True)
            raise

    def add(self, position: int, episode: Episode) -> None:
        if self._data is None:
            self._open(episode)
        length, number = len(episode), self._group.first_episode + position
        columns = _columns(episode, number, self._step, self._plan.info.rate, self._tasks)
        self._data.write_table(arrow_table(self._features, columns))
        stats: dict[str, Any] = {key: number_stats(column) for key, column in columns.items()}
        since = self._step - self._group.first_step
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(episode.instructions)),
            "length": length,
            "data/chunk_index": self._group.index // layout.CHUNK,
            "data/file_index": self._group.index % layout.CHUNK,
            "dataset_from_index": self._step,
            "dataset_to_index": self._step + length,
        }
        if sorted(episode.images) != sorted(self._cameras):
            raise DataError(
                f"{episode.source} has the cameras {_listed(episode.images)}, the episodes before it "
                f"{_listed(self._cameras)}."
            )
        for name, camera in self._cameras.items():
            key = layout.CAMERA + name
            stats[key] = self._add_frames(camera, episode, name)
            row |= {
                f"videos/{key}/chunk_index": self._group.index // layout.CHUNK,
                f"videos/{key}/file_index": self._group.index % layout.CHUNK,
                f"videos/{key}/from_timestamp": since / self._plan.info.rate,
                f"videos/{key}/to_timestamp": (since + length) / self._plan.info.rate,
            }
        row |= {f"stats/{key}/{name}": value for key, found in stats.items() for name, value in found.items()}
        row |= {
            "meta/episodes/chunk_index": self._group.index // layout.CHUNK,
            "meta/episodes/file_index": self._group.index % layout.CHUNK,
            layout.METADATA: json.dumps(dict(episode.metadata), default=str),
            layout.FLAGS: _flags(episode),
        }
        self._rows.append(row)
        self._digests.append(episode_digest(episode))
        self._stats.append(stats)
        self._step += length

    def finish(self) -> dict[str, Any]:
        """Write the rows of the episodes, put every file in place, and report."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        final, part = self._part(place(layout.EPISODES, self._group.index))
        try:
            pq.write_table(pa.Table.from_pylist(self._rows), part, compression="snappy")
        except BaseException:
            for unfinished, _ in self._moves:
                unfinished.unlink(missing_ok=True)
            raise
        for source, target in self._moves:
            with open(source, "rb") as written:
                os.fsync(written.fileno())
            os.replace(source, target)
        return {
            "group": self._group.index,
            "features": self._features,
            "extra": self._extra,
            "digests": self._digests,
            "stats": {key: aggregate([s[key] for s in self._stats]) for key in self._stats[0]},
            "cameras": {
                name: {
                    "encoded": camera.encoded, "copied": camera.copied, "squared_errors": camera.errors,
                }
                for name, camera in self._cameras.items()
            },
        }  # fmt: skip

    def _open(self, episode: Episode) -> None:
        import pyarrow.parquet as pq

        self._features = layout.numeric_features(episode)
        self._extra = {
            layout.feature_name(name): {"name": name, "shape": list(array.shape[1:])}
            for name, array in episode.extra.items()
        }
        _, part = self._part(place(layout.DATA, self._group.index))
        schema = arrow_schema(self._features)
        self._data = self._stack.enter_context(pq.ParquetWriter(part, schema, compression="snappy"))
        cameras: dict[str, Any] = {}
        for name in sorted(episode.images):
            size = episode.images[name].size
            key, rate = layout.CAMERA + name, self._plan.info.rate
            codec = self._writer.codec
            frames = episode.images[name]
            signature = None
            if self._writer.copy and isinstance(frames, VideoFrames) and frames.rate == rate:
                signature = frames.signature() if frames.copyable() else None
            _, part = self._part(place(layout.VIDEO, self._group.index, key))
            video = self._stack.enter_context(VideoWriter(part, size, rate, codec))
            self._cameras[name] = _Camera(video, part, size, signature=signature)
            pixels = pixel_format(codec, size)
            if signature is not None:
                codec, pixels = signature[0], signature[1]
                codec = {"libdav1d": "av1", "libaom-av1": "av1"}.get(codec, codec)
            feature = layout.camera_feature(size, rate, codec, pixels)
            cameras[key] = feature
        self._features = {**cameras, **self._features}

    def _add_frames(self, camera: _Camera, episode: Episode, name: str) -> dict[str, Any]:
        frames = episode.images[name]
        if len(frames) != len(episode):
            raise DataError(
                f"{episode.source} has {len(frames)} frames of camera '{name}' for {len(episode)} steps."
            )
        if camera.signature is not None:
            if not isinstance(frames, VideoFrames) or not (
                frames.signature() == camera.signature and frames.copyable()
            ):
                raise DataError(
                    f"{episode.source}: the packets of camera '{name}' cannot be copied beside those of the "
                    "episodes before it."
                )
            camera.video.copy(frames)
            camera.copied += len(frames)
            return frames.stats if frames.stats is not None else _image_stats(frames)
        stats, chosen = ImageStats(), set(sampled_steps(len(episode)))
        compared = {round(k) for k in np.linspace(0, len(episode) - 1, _LOSS_FRAMES)}
        for step in range(len(episode)):
            planes = camera.video.write_jpeg(frames.encoded(step), step == 0) if frames.native else None
            keep = step in compared and len(camera.kept) < 8 * _LOSS_FRAMES
            if planes is None or keep:
                image = bgr(frames, step)
            if planes is None:
                camera.video.write(image, step == 0)
            if keep:
                camera.kept.append((camera.video.frames - 1, image))
            if step in chosen:
                stats.add(thinned(image[..., ::-1]) if planes is None else thinned_planes(planes))
        camera.encoded += len(episode)
        return stats.stats()

    def _part(self, name: str) -> tuple[Path, Path]:
        final = self._plan.target / name
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f".{final.name}.{os.getpid()}.part")
        self._moves.append((part, final))
        return final, part


def _measure(camera: _Camera, rate: float) -> None:
    times = [frame / rate for frame, _ in camera.kept]
    written = VideoFrames(camera.part, times, camera.size, rate, "the video just written")
    for k, (_, image) in enumerate(camera.kept):
        camera.errors.append(squared_error(image[..., ::-1], written.image(k)))
    written.close()
    camera.kept.clear()


def _image_stats(frames: VideoFrames) -> dict[str, Any]:
    stats = ImageStats()
    for step in sampled_steps(len(frames)):
        stats.add(thinned(frames.image(step)))
    return stats.stats()


def _columns(
    episode: Episode, number: int, first: int, rate: float, tasks: Mapping[str, int]
) -> dict[str, np.ndarray[Any, Any]]:
    steps = np.arange(len(episode))
    columns: dict[str, np.ndarray[Any, Any]] = {layout.ACTION: layout.exact_float32(episode.actions)}
    if episode.states.shape[1]:
        columns[layout.STATE] = layout.exact_float32(episode.states)
    for name in sorted(episode.extra):
        columns[layout.feature_name(name)] = episode.extra[name]
    columns[layout.TERMINAL] = episode.is_terminal
    columns["timestamp"] = np.asarray(steps / rate, np.float32)
    columns["frame_index"] = steps
    columns["episode_index"] = np.full(len(episode), number)
    columns["index"] = first + steps
    columns["task_index"] = np.array([tasks[text] for text in episode.instructions])
    return columns


def _flags(episode: Episode) -> str:
    """Steps that are marked first and last, where these are not the first and the last: cut episodes."""
    steps = np.arange(len(episode))
    if np.array_equal(episode.is_first, steps == 0) and np.array_equal(episode.is_last, steps == steps[-1]):
        return ""
    first, last = np.flatnonzero(episode.is_first), np.flatnonzero(episode.is_last)
    return json.dumps({"is_first": first.tolist(), "is_last": last.tolist()})


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
