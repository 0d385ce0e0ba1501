"""`vla-ros record --scripted`: the expert at work on all cores, with progress and a summary."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vla_ros.bringup.robot_check import check_robot
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown, write_json
from vla_ros.lockstep.bulk import demonstrations
from vla_ros.lockstep.collection import Collection
from vla_ros.lockstep.demonstrate import Order, Result

_MEGA = 1e6
_SAY_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def record_scripted(order: Order, out: Path, episodes: int, jobs: int, json: Path | None) -> int:
    """Have `episodes` successful ones in `out`; answers the exit status, 1 when there are fewer.

    `jobs`: processes, 0: as many as cores.  Raises what `Collection` and `demonstrations` raise.
    """
    console = Console(stderr=True)
    check_robot(order.contract(), simulated=True)
    jobs = jobs or len(os.sched_getaffinity(0))
    begun = time.monotonic()
    made: list[Result] = []
    with Collection(out, order) as collection:
        before = collection.successes
        if before:
            console.print(
                f"{shown(out)} holds {before} of {episodes} episodes; going on.",
                highlight=False,
                soft_wrap=True,
            )
        known = {seed: result.success for seed, result in collection.results.items()}
        # closed at once whatever ends the loop, before the collection is: its processes write there
        running = closing(demonstrations(order, out, episodes, known, jobs))
        with running as results, _progress(console) as progress:
            bar = progress.add_task("", total=episodes, completed=min(before, episodes), speed="")
            said = begun
            for result in results:
                collection.add(result)
                made.append(result)
                now = time.monotonic()
                progress.update(
                    bar, completed=min(collection.successes, episodes), speed=_speed(made, now - begun)
                )
                if not console.is_terminal and now - said > _SAY_EVERY:
                    said = now
                    done = f"{collection.successes} of {episodes} episodes, {_speed(made, now - begun)}"
                    console.print(done, highlight=False)
        enough = collection.successes >= episodes
        every = [collection.results[seed] for seed in sorted(collection.results)]
    figures = summary(every, made, time.monotonic() - begun, jobs)
    for line in _lines(figures, out):
        console.print(line, highlight=False, soft_wrap=True)
    if json is not None:
        write_json(json, {"robot": order.robot, "tasks": list(order.tasks), **figures})
    return 0 if enough else 1


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.fields[speed]}"), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip


def _speed(made: Iterable[Result], wall: float) -> str:
    simulated = sum(result.seconds for result in made)
    return f"{simulated / max(wall, 1e-9):.1f} times real time"


def summary(every: list[Result], made: list[Result], wall: float, jobs: int) -> dict[str, Any]:
    """Figures of the whole folder, and of what was made just now (`speed`)."""
    good = [result for result in every if result.success]
    simulated = sum(result.seconds for result in made)
    return {
        "episodes": len(good),
        "tried": len(every),
        "success_rate": len(good) / max(len(every), 1),
        "by_task": {
            task: {"episodes": count, "tried": tried}
            for task, tried in Counter(result.task for result in every).items()
            for count in [sum(result.task == task for result in good)]
        },
        "failures": [
            {"seed": result.seed, "task": result.task, "recovery": result.recovery, "reason": result.reason}
            for result in every if not result.success
        ],
        "with_recovery": sum(bool(result.recovery) for result in good),
        "retries": sum(result.retries for result in good),
        "steps": sum(result.steps for result in good),
        "seconds_of_data": sum(result.seconds for result in good),
        "interventions": sum(result.interventions for result in good),
        "bytes": sum(result.size for result in every),
        "speed": {
            "episodes": len(made), "wall_seconds": wall, "processes": jobs,
            "episodes_a_minute": 60.0 * len(made) / max(wall, 1e-9),
            "factor_over_real_time": simulated / max(wall, 1e-9),
        },
    }  # fmt: skip


def _lines(figures: dict[str, Any], out: Path) -> list[str]:
    speed = figures["speed"]
    tasks = ", ".join(
        f"{task} {counts['episodes']} of {counts['tried']}" for task, counts in figures["by_task"].items()
    )
    lines = [
        f"{shown(out)}: {figures['episodes']} episodes of {figures['tried']} tried "
        f"({figures['success_rate']:.1%}; {tasks})",
        f"  {figures['seconds_of_data']:.0f} s of data, {figures['steps']} steps, "
        f"{figures['bytes'] / _MEGA:.1f} MB; {figures['with_recovery']} with something put right, "
        f"{figures['retries']} retries",
    ]
    if speed["episodes"]:
        lines.append(
            f"  made {speed['episodes']} in {speed['wall_seconds']:.0f} s on {speed['processes']} processes: "
            f"{speed['episodes_a_minute']:.1f} a minute, "
            f"{speed['factor_over_real_time']:.1f} times real time"
        )
    lines += [
        f"  failed: seed {failure['seed']} ({failure['task']}"
        f"{', ' + failure['recovery'] if failure['recovery'] else ''}): {failure['reason']}"
        for failure in figures["failures"][:10]
    ]
    return lines
