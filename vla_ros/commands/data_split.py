"""`vla-ros data split` and `merge`: data sets in their own format, in parts or put together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla_ros.commands.data_sources import convert_with_bar, open_sources, plural, sources_and_target
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown
from vla_ros.data.conversion import ANY_OUTCOME, Options
from vla_ros.data.conversion_work import refuse_existing
from vla_ros.data.dataset import Dataset
from vla_ros.data.selection import Selected
from vla_ros.errors import ConfigurationError, DataError


def split(
    source: Path, target: Path, parts: Sequence[str], by_task: bool, seed: int, workers: int | None,
    rate: float | None,
) -> None:  # fmt: skip
    """Write every part as a data set `target/NAME`.  Raises `VlaRosError`."""
    if bool(parts) == by_task:
        raise ConfigurationError("give the parts (--part NAME=SHARE or NAME=EPISODES), or --by-task.")
    dataset, console = open_sources([source]), Console()
    chosen = parts_by_task(dataset) if by_task else parse_parts(parts, len(dataset), seed)
    for name in chosen:
        refuse_existing(target / name)
    for name, indices in chosen.items():
        options = Options(
            name=f"{dataset.info.name}_{name}", workers=workers, outcomes=ANY_OUTCOME, accept_failed=True,
            rate=rate,
        )  # fmt: skip
        convert_with_bar(Selected(dataset, indices), target / name, dataset.info.kind, options, console)
    counts = ", ".join(f"{name} {plural(len(indices), 'episode')}" for name, indices in chosen.items())
    console.print(f"{shown(target)}: {counts}.", highlight=False, soft_wrap=True)


def merge(paths: Sequence[Path], name: str, workers: int | None, rate: float | None) -> None:
    """Write one data set of all sources, in the first one's format.  Raises `VlaRosError`."""
    sources, target = sources_and_target(paths, 2)
    refuse_existing(target)
    dataset = open_sources(sources)
    options = Options(
        name=name, workers=workers, outcomes=ANY_OUTCOME, accept_failed=True, rate=rate
    )  # fmt: skip
    convert_with_bar(dataset, target, dataset.info.kind, options, Console())


def parse_parts(texts: Sequence[str], episodes: int, seed: int) -> dict[str, list[int]]:
    """Episodes of every part; shares are drawn from a seeded shuffle.  Disjoint and complete.

    Raises `ConfigurationError` when they are not, or are no parts.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("."):
            raise ConfigurationError(f"'{text}' is not a part; NAME=0.9 or NAME=0,3,5-8 is.")
        if name in named:
            raise ConfigurationError(f"the part '{name}' was given twice.")
        named[name] = value
    if all(re.fullmatch(r"0?\.\d+|1\.0*", value) for value in named.values()):
        return _by_share({name: float(value) for name, value in named.items()}, episodes, seed)
    found = {name: _episodes(name, value, episodes) for name, value in named.items()}
    owner: dict[int, str] = {}
    for name, indices in found.items():
        for index in indices:
            if index in owner:
                raise ConfigurationError(f"episode {index} is in the parts '{owner[index]}' and '{name}'.")
            owner[index] = name
    missing = [index for index in range(episodes) if index not in owner]
    if missing:
        raise ConfigurationError(
            f"{plural(len(missing), 'episode')} would be in no part, first {missing[0]}; name all."
        )
    return found


def parts_by_task(dataset: Dataset) -> dict[str, list[int]]:
    """Episodes by the instruction they begin with; the part's name is made of its words."""
    found: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    for index in range(len(dataset)):
        task = dataset.episode(index).instruction
        name = names.get(task)
        if name is None:
            plain = re.sub(r"[^A-Za-z0-9]+", "_", task).strip("_").lower()[:60] or "no_instruction"
            name = plain
            while name in found:  # two tasks whose words are the same
                name = f"{plain}_{len(found)}"
            names[task] = name
        found.setdefault(name, []).append(index)
    if not found:
        raise DataError(f"{dataset.info.path} has no episodes.")
    return found


def _by_share(shares: dict[str, float], episodes: int, seed: int) -> dict[str, list[int]]:
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise ConfigurationError(f"the shares add up to {sum(shares.values()):g}; they must add up to 1.")
    order = np.random.default_rng(seed).permutation(episodes)
    ends = [round(end * episodes) for end in np.cumsum(list(shares.values()))]
    found: dict[str, list[int]] = {}
    start = 0
    for name, end in zip(shares, ends, strict=True):
        if end == start:
            raise ConfigurationError(f"the part '{name}' would have none of the {episodes} episodes.")
        found[name] = sorted(int(index) for index in order[start:end])
        start = end
    return found


def _episodes(name: str, text: str, episodes: int) -> list[int]:
    found: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word.strip())
        if match is None:
            raise ConfigurationError(f"the part '{name}={text}' is neither a share nor a list of episodes.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= episodes or first > last:
            raise ConfigurationError(
                f"the part '{name}' asks for '{word.strip()}'; there are the episodes 0 to {episodes - 1}, "
                "and a share is written 0.9."
            )
        found += range(first, last + 1)
    return found
