"""Policies that answer one step at a time, late: `visual_servo` with a horizon of 1 in virtual time.

`python -m benchmarks.one_step --jobs 2 --json benchmarks/results/one_step.json`; `--resume` goes on with a
file that was cut short.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.one_step_run import Cell, Episode, episode, summary
from benchmarks.tables import Rows
from vla_ros.commands.shared import plain_errors

ROBOTS, RATES, AGES = ("panda", "widowx", "ur5"), (3.0, 5.0, 10.0), (0.05, 0.2, 0.35, 0.5)
_SUMS = ("succeeded", "episodes", "answers", "refused", "rests", "limits_broken")


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The tables of a result, one a robot."""
    cells: dict[tuple[str, float, float], Mapping[str, Any]] = {
        (cell["robot"], cell["rate"], cell["age"]): cell for cell in document["cells"]
    }
    tables = []
    for robot in dict.fromkeys(key[0] for key in cells):
        ages = sorted({key[2] for key in cells if key[0] == robot})
        lines = []
        for rate in sorted({key[1] for key in cells if key[0] == robot}):
            found = [cells.get((robot, rate, age)) for age in ages]
            lines.append([f"{rate:g} Hz", *("-" if cell is None else _cell(cell) for cell in found)])
        heads = ["action rate", *(f"{age:g} s old" for age in ages)]
        title = f"{robot}, {document['task']}: succeeded, median seconds, share of the policy's pace"
        tables.append(Rows(title, heads, lines))
    heads = [key.replace("_", " ") for key in _SUMS]
    return [*tables, Rows("All", heads, [[str(document[key]) for key in _SUMS]])]


def _cell(cell: Mapping[str, Any]) -> str:
    return f"{cell['succeeded']} of {cell['episodes']}, {cell['seconds']:.1f} s, {cell['pace']:.2f}"


def _one(cell: Cell, task: str, seed: int) -> tuple[Cell, int, Episode]:
    return cell, seed, episode(cell, task, seed)


@plain_errors
def main(
    robots: Annotated[str, typer.Option(help="With commas between.")] = ",".join(ROBOTS),
    task: Annotated[str, typer.Option(help="Simulated task.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes a cell.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    resume: Annotated[bool, typer.Option(help="Go on with the file of --json.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Every robot at 3, 5 and 10 steps a second, with answers 0.05 to 0.5 s old."""
    head = machine.describe()
    done: dict[tuple[Cell, int], Episode] = {}
    if resume and json_path is not None and json_path.exists():
        for entry in json.loads(json_path.read_text(encoding="utf-8"))["every_episode"]:
            done[Cell(**entry["cell"]), entry["seed"]] = Episode(**entry["episode"])
    cells = [Cell(*key) for key in itertools.product(robots.split(","), RATES, AGES)]
    wanted = [(cell, seed) for seed in range(episodes) for cell in cells if (cell, seed) not in done]
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(_one, cell, task, seed) for cell, seed in wanted]):
            cell, seed, result = future.result()
            done[cell, seed] = result
            print(f"{cell.robot} {cell.rate:g} Hz {cell.age:g} s seed {seed}: {result.reason}", flush=True)
            if json_path is not None:
                machine.write_json(json_path, document(head, task, done))
    Console().print(*(table.rich() for table in rows(document(head, task, done))), sep="\n")


def document(head: Mapping[str, Any], task: str, done: Mapping[tuple[Cell, int], Episode]) -> dict[str, Any]:
    """All figures: of every cell, of all together, and every episode."""
    cells = []
    for cell in dict.fromkeys(cell for cell, _ in done):
        own = [done[key] for key in sorted(done, key=lambda key: key[1]) if key[0] == cell]
        cells.append({**asdict(cell), **summary(own)})
    return {
        "benchmark": "one_step",
        **head,
        "task": task,
        **{key: sum(cell[key] for cell in cells) for key in _SUMS},
        "cells": cells,
        "every_episode": [
            {"cell": asdict(cell), "seed": seed, "episode": asdict(result)}
            for (cell, seed), result in done.items()
        ],
    }


if __name__ == "__main__":
    typer.run(main)
