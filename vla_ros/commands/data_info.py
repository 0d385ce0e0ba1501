"""`vla-ros data info`: what is in a data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from vla_ros.commands.data_sources import open_sources
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown
from vla_ros.data.dataset import Dataset
from vla_ros.data.selection import source_paths


def info(paths: Sequence[Path], as_json: bool) -> None:
    """Print what is known of a data set.  Raises `VlaRosError`."""
    document = describe(open_sources(paths))
    if as_json:
        print(json.dumps(document, indent=2))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in document.items():
        table.add_row(key.replace("_", " "), _text(value))
    Console().print(table, highlight=False, markup=False)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Everything as plain JSON; reads the numbers of every episode, no images."""
    from vla_ros.data.data_hash import data_hash

    known = dataset.info
    steps, tasks, outcomes, rate = 0, Counter[str](), Counter[str](), known.rate
    for episode in dataset:
        steps += len(episode)
        tasks[episode.instruction] += 1
        outcomes[str(episode.metadata.get("outcome", "") or "not stated")] += 1
        rate = rate or episode.rate
    return {
        "path": [shown(path) for path in source_paths(dataset)],
        "kind": known.kind,
        "name": known.name,
        "episodes": len(dataset),
        "steps": steps,
        "seconds": round(steps / rate, 3) if rate else None,
        "rate": rate or None,
        "robot": known.robot or None,
        "action_space": known.action_space or None,
        "actions": list(known.action_names),
        "states": list(known.state_names),
        "cameras": {name: f"{width}x{height}" for name, (height, width) in known.cameras.items()},
        "tasks": dict(tasks.most_common()),
        "outcomes": dict(outcomes),
        "contract": bool(known.contract),
        "hash": data_hash(dataset),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key or '(no instruction)'}: {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not named"
    if isinstance(value, bool):
        return "yes" if value else "none"
    return "not known" if value is None else str(value)
