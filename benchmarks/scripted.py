"""Demonstrations a minute and factor over real time, on all cores against one process in the same run.

`python -m benchmarks.scripted --json benchmarks/results/scripted.json`.  Both make the same episodes into
empty folders; the start of the processes (imports, compiled arithmetic, the first world) counts.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.tables import Rows
from vla_ros.commands.shared import plain_errors
from vla_ros.lockstep.bulk import demonstrations
from vla_ros.lockstep.demonstrate import Order, Result


def run(order: Order, episodes: int, jobs: int) -> dict[str, Any]:
    """Figures of one way to make the episodes.  Raises what `demonstrations` raises."""
    with tempfile.TemporaryDirectory(prefix="scripted_") as folder:
        begun, results, ends = time.monotonic(), [], []
        for result in demonstrations(order, Path(folder), episodes, {}, jobs):
            results.append(result)
            ends.append(time.monotonic() - begun)
        wall = time.monotonic() - begun
    return figures(results, ends, wall, jobs)


def figures(results: list[Result], ends: list[float], wall: float, jobs: int) -> dict[str, Any]:
    """`ends`: when each result came [s]."""
    simulated = sum(result.seconds for result in results)
    # the workers start once, however many episodes follow
    steady = sum(result.seconds for result in results[jobs:]) / max(ends[-1] - ends[jobs - 1], 1e-9)
    every = np.diff([0.0, *ends]) if jobs == 1 else np.array([])
    return {
        "processes": jobs,
        "episodes": sum(result.success for result in results),
        "tried": len(results),
        "retries": sum(result.retries for result in results),
        "seconds_of_data": simulated,
        "bytes": sum(result.size for result in results),
        "wall_seconds": wall,
        "episodes_a_minute": 60.0 * len(results) / wall,
        "factor_over_real_time": simulated / wall,
        "factor_without_start": steady if len(results) > jobs else None,
        "seconds_an_episode": {
            "p50": float(np.median(every)),
            "p95": float(np.quantile(every, 0.95)),
            "max": float(every.max()),
        }
        if len(every)
        else None,
    }


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The table of a result."""
    cells = [
        [
            name,
            f"{entry['processes']}",
            f"{entry['episodes']} of {entry['tried']}",
            f"{entry['episodes_a_minute']:.1f}",
            f"{entry['factor_over_real_time']:.1f}",
            "-" if entry["factor_without_start"] is None else f"{entry['factor_without_start']:.1f}",
            f"{entry['bytes'] / 1e6:.0f}",
        ]
        for name, entry in (("one process", document["one"]), ("all cores", document["all"]))
    ]
    heads = ["", "processes", "good", "a minute", "times real time", "without the start", "MB"]
    title = f"Scripted demonstrations, {document['robot']}, {', '.join(document['tasks'])}"
    return [Rows(title, heads, cells)]


@plain_errors
def main(
    robot: Annotated[str, typer.Option(help="Robot, or the path of a contract.")] = "panda",
    tasks: Annotated[str, typer.Option(help="With commas between.")] = "pick,place,push,stack",
    episodes: Annotated[int, typer.Option(min=2, help="Episodes each way.")] = 24,
    images: Annotated[str, typer.Option(help="jpeg or raw.")] = "jpeg",
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Make the same demonstrations with one process and with one a core."""
    order = Order(robot, tuple(name.strip() for name in tasks.split(",")), images=images)
    order.contract()
    head = machine.describe()
    cores = len(os.sched_getaffinity(0))
    one, everything = run(order, episodes, 1), run(order, episodes, cores)
    document = {
        "benchmark": "scripted",
        **head,
        "robot": robot,
        "tasks": list(order.tasks),
        "one": one,
        "all": everything,
        "speedup": everything["factor_over_real_time"] / one["factor_over_real_time"],
    }
    Console().print(*(table.rich() for table in rows(document)), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
