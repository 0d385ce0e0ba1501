"""Golden files: what the strip made of a bag once, and what is different today.

One .npz: `meta` (JSON: contract, robot, versions, policy, episodes) and arrays `e<k>/<stage>...`.  Numbers
are compared bit for bit unless a tolerance is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_ros import __version__
from vla_ros.documents import parse_json
from vla_ros.errors import DataError
from vla_ros.lockstep.recorded import RecordedRun
from vla_ros.lockstep.trace import LATCHED, Trace
from vla_ros.types import Array, SafetyState

FORMAT = 2
"""Written; format 1 is read too: made of ticks on a regular grid, with the recorded joints as they are."""
STAGES = ("observations", "outputs", "chunks")
COMMANDS = ("positions", "velocities", "accelerations", "widths", "states", "sequences")
UNITS = {"positions": "rad", "velocities": "rad/s", "accelerations": "rad/s^2", "widths": "m"}


@dataclass(frozen=True)
class Golden:
    """A reference: who made it, and the arrays of every episode by name."""

    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    @property
    def episodes(self) -> list[str]:
        """Names."""
        return [str(name) for name in self.meta["episodes"]]

    @property
    def grid(self) -> bool:
        """Whether it is of format 1: ticks on a regular grid, the recorded joints as they are."""
        return bool(self.meta["format"] == 1)

    def stops(self) -> list[str]:
        """A sentence for each episode in which the controller had stopped for good."""
        sentences = []
        for number, name in enumerate(self.episodes):
            states = self.arrays[f"e{number}/states"]
            stopped = np.isin(states, LATCHED)
            if stopped.any():
                sentences.append(
                    f"{name}: the controller stops at tick {int(np.argmax(stopped))} of {len(states)} and "
                    f"has stopped in {stopped.mean():.0%} of them"
                )
        return sentences


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was."""

    stage: str
    """contract, robot, episode, observations, outputs, chunks, or an array of the commands."""
    sentence: str
    episode: int = 0
    column: int = 0
    """Joint of the worst difference, for the plot."""


@dataclass(frozen=True)
class Comparison:
    """Everything that differs, in the order in which things happen."""

    differences: tuple[Difference, ...] = field(default_factory=tuple)

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def text(self, most: int = 12) -> str:
        """A line for each difference, at most so many."""
        lines = [f"{one.stage}: {one.sentence}" for one in self.differences[:most]]
        if len(self.differences) > most:
            lines.append(f"and {len(self.differences) - most} more")
        return "\n".join(lines)


def golden_of(
    run: RecordedRun, traces: Sequence[Trace], contract_text: str, robot_text: str, policy: str
) -> Golden:
    """A reference of what was stepped through; `policy` is empty for the recorded answers."""
    joints = list(run.contract.robot.joint_names)
    contract = yaml.safe_load(contract_text)
    # a robot that is not shipped stands in the contract already
    robot = {} if isinstance(contract["robot"], Mapping) else yaml.safe_load(robot_text) or {}
    meta = {
        "format": FORMAT, "vla_ros_version": __version__, "bag": run.path.name, "policy": policy,
        "contract": contract, "robot": robot,
        "joints": joints, "dimensions": list(run.contract.action_space.dimensions),
        "episodes": [trace.episode_id for trace in traces],
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {}
    for number, trace in enumerate(traces):
        own = f"e{number}/"
        arrays[own + "ticks"] = np.array(trace.ticks, np.int64)
        for name in COMMANDS:
            arrays[own + name] = np.array(getattr(trace, name))
        for name in STAGES:
            rows: list[tuple[int, Array]] = getattr(trace, name)
            arrays[own + name + "_stamps"] = np.array([stamp for stamp, _ in rows], np.int64)
            arrays[own + name + "_rows"] = np.array([len(np.atleast_2d(row)) for _, row in rows], np.int64)
            stacked = [np.atleast_2d(row) for _, row in rows]
            width = stacked[0].shape[1] if stacked else 0
            arrays[own + name] = np.concatenate(stacked) if stacked else np.zeros((0, width))
    return Golden(meta, arrays)


def save_golden(golden: Golden, path: Path) -> None:
    """Write the file; it appears whole or not at all.  Raises `DataError`."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            everything: dict[str, Any] = {"meta": np.array(json.dumps(golden.meta)), **golden.arrays}
            np.savez_compressed(file, **everything)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def load_golden(path: Path) -> Golden:
    """Read a file.  Raises `DataError` when there is none or it is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = parse_json(str(file["meta"]))
            arrays = {name: file[name] for name in file.files if name != "meta"}
            known = meta["format"]
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; `--update` makes it from what the bag gives today."
        ) from None
    except Exception as error:  # zip, numpy and JSON each have their own ways to refuse
        raise DataError(f"{path} is no golden file: {error}.") from error
    if known not in (1, FORMAT):
        raise DataError(f"{path} is a golden file of format {known}, this version reads 1 and {FORMAT}.")
    return Golden(meta, arrays)


def compare(before: Golden, now: Golden, tolerance: float = 0.0) -> Comparison:
    """What is different now.  `tolerance`: largest difference of any number that is none."""
    found = [
        *_settings("contract", before.meta["contract"], now.meta["contract"]),
        *_settings("robot", before.meta["robot"], now.meta["robot"]),
    ]
    if before.meta["policy"] != now.meta["policy"]:
        names = [meta["policy"] or "the recorded answers" for meta in (before.meta, now.meta)]
        found.append(Difference("policy", f"{names[0]} -> {names[1]}"))
    if before.episodes != now.episodes:
        found.append(Difference("episode", f"{', '.join(before.episodes)} -> {', '.join(now.episodes)}"))
        return Comparison(tuple(found))
    for number in range(len(now.episodes)):
        found += _episode(before, now, number, tolerance)
    return Comparison(tuple(found))


def _settings(stage: str, before: Any, now: Any) -> Iterator[Difference]:
    one, other = dict(_flat(before)), dict(_flat(now))
    for key in [*one, *(key for key in other if key not in one)]:
        if one.get(key) != other.get(key):
            yield Difference(stage, f"{key}: {_short(one.get(key))} -> {_short(other.get(key))}")


def _short(value: Any) -> str:
    """A setting as a sentence can hold it."""
    if value is None:
        return "absent"
    text = str(value)
    return f"{len(text)} characters" if "\n" in text else text


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _episode(before: Golden, now: Golden, number: int, tolerance: float) -> Iterator[Difference]:
    own, name = f"e{number}/", now.episodes[number]
    for stage in STAGES:
        yield from _stage(before, now, own, stage, name, number, tolerance)
    a, b = before.arrays[own + "ticks"], now.arrays[own + "ticks"]
    if len(a) != len(b) or (a != b).any():
        yield Difference(
            "ticks", f"{name}: {len(a)} ticks over {_span(a):.3f} s -> {len(b)} over {_span(b):.3f} s", number
        )
    count = min(len(a), len(b))
    for what in COMMANDS:
        one, other = before.arrays[own + what][:count], now.arrays[own + what][:count]
        if one.shape != other.shape:
            yield Difference(what, f"{name}: shape {one.shape} -> {other.shape}", number)
            continue
        gap = np.abs(other.astype(float) - one.astype(float)).reshape(count, -1)
        # nan is a difference too
        wrong = ~(gap <= (tolerance if what in UNITS else 0.0))
        if wrong.any():
            yield _command(now, what, name, number, gap, wrong, a, one, other)


def _command(
    now: Golden, what: str, name: str, number: int, gap: Array, wrong: NDArray[np.bool_],
    ticks: NDArray[Any], one: NDArray[Any], other: NDArray[Any],
) -> Difference:  # fmt: skip
    first = int(np.argmax(wrong.any(axis=1)))
    column = int(np.argmax(wrong[first]))
    worst_tick, worst_column = np.unravel_index(int(np.argmax(np.nan_to_num(gap, nan=np.inf))), gap.shape)
    where = f"tick {first} ({ticks[first] / 1e9:.3f} s)"
    count = int(wrong.any(axis=1).sum())
    if what == "states":
        names = [SafetyState(int(value)).name for value in (one[first], other[first])]
        return Difference(what, f"{name}: from {where} on {names[0]} -> {names[1]}, in {count} ticks", number)
    if what == "sequences":
        return Difference(
            what, f"{name}: from {where} on another chunk is in force ({one[first]} -> {other[first]}), "
            f"in {count} ticks", number,
        )  # fmt: skip
    joints, unit = list(now.meta["joints"]), UNITS[what]
    label = joints[column] if what != "widths" else "gripper"
    most = joints[int(worst_column)] if what != "widths" else "gripper"
    return Difference(
        what,
        f"{name}: differ from {where} on, {label} by {gap[first, column]:.3g} {unit}; "
        f"in {count} of {len(gap)} ticks, at most {gap[worst_tick, worst_column]:.3g} {unit} in {most} at "
        f"{ticks[worst_tick] / 1e9:.3f} s",
        number,
        int(worst_column),
    )


def _stage(
    before: Golden, now: Golden, own: str, stage: str, name: str, number: int, tolerance: float
) -> Iterator[Difference]:
    a, b = before.arrays[own + stage + "_stamps"], now.arrays[own + stage + "_stamps"]
    if len(a) != len(b):
        missing = sorted(set(a.tolist()) ^ set(b.tolist()))
        at = f"; the first that both have not is at {missing[0] / 1e9:.3f} s" if missing else ""
        yield Difference(stage, f"{name}: {len(a)} -> {len(b)}{at}", number)
        return
    if (a != b).any():
        first = int(np.argmax(a != b))
        yield Difference(
            stage,
            f"{name}: number {first} is stamped {a[first] / 1e9:.3f} s -> {b[first] / 1e9:.3f} s",
            number,
        )
        return
    rows, again = before.arrays[own + stage + "_rows"], now.arrays[own + stage + "_rows"]
    one, other = before.arrays[own + stage], now.arrays[own + stage]
    if (rows != again).any() or one.shape != other.shape:
        yield Difference(stage, f"{name}: of another shape, {one.shape} -> {other.shape}", number)
        return
    gap = np.abs(other - one)
    wrong = ~(gap <= tolerance)
    if wrong.any():
        row, column = (int(value) for value in np.argwhere(wrong)[0])
        item = int(np.searchsorted(np.cumsum(rows), row, side="right"))
        step = row - int(np.cumsum(rows)[item] - rows[item])
        most = np.unravel_index(int(np.argmax(gap)), gap.shape)
        yield Difference(
            stage,
            f"{name}: number {item} at {a[item] / 1e9:.3f} s, step {step}, {_label(now, stage, column)} "
            f"{one[row, column]:.6g} -> {other[row, column]:.6g}; {int(wrong.any(axis=1).sum())} of "
            f"{len(gap)} rows differ, at most by {gap[most]:.3g}",
            number,
        )


def _label(now: Golden, stage: str, column: int) -> str:
    joints = list(now.meta["joints"])
    if stage == "outputs":
        names = list(now.meta["dimensions"])
    elif stage == "observations" or now.meta["contract"].get("action_space") == "joint_position":
        names = [*joints, "gripper"]
    else:
        names = ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]
    return f"'{names[column]}'" if column < len(names) else f"column {column}"


def _span(ticks: NDArray[Any]) -> float:
    return float(ticks[-1] - ticks[0]) / 1e9 if len(ticks) else 0.0
