"""How `vla-ros demo` starts: time to the graph and to the first command, and whether the task is carried out.

    python -m benchmarks.starts --robots panda,fr3,widowx,ur5,ur5e --times 10 --json FILE

One start after the other, each in processes of its own, as a person types it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.tables import Rows
from vla_ros.data.bag_index import BagIndex
from vla_ros.errors import DataError
from vla_ros.types import InterventionAction, Reason

ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")
LIMIT = 180.0
"""Longest time for one start, its task and its report [s]."""
STATUS = "/vla/safety_status"
UP, FIRST = re.compile(r"The graph is up after ([\d.]+) s"), re.compile(r"First command after ([\d.]+) s")


def start(robot: str, folder: Path) -> dict[str, Any]:
    """One demo: seconds until the graph is up and until the first command (None: never), exit status, whether
    the task was carried out, stops of the safety controller by reason, warnings, and the last words.
    """
    command = [sys.executable, "-m", "vla_ros.cli", "demo", "--robot", robot, "--runs", str(folder)]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        status, output = done.returncode, " ".join((done.stdout + done.stderr).split())
    except subprocess.TimeoutExpired:
        status, output = -1, f"not over after {LIMIT:g} s"
    up, first = UP.search(output), FIRST.search(output)
    return {
        "robot": robot,
        "up": float(up[1]) if up else None,
        "first_command": float(first[1]) if first else None,
        "done": status == 0,
        "status": status,
        "stops": stops(folder),
        "old_images": output.count("old, allowed are"),
        "seconds": round(time.monotonic() - begun, 2),
        "last_words": output[-200:],
    }


def stops(folder: Path) -> dict[str, int]:
    """Statuses that told of a stop, by reason, in the bags below `folder`; the end of a run is none."""
    found: Counter[str] = Counter()
    for bag in folder.glob("*/bag"):
        try:
            index = BagIndex(bag, {STATUS}.__contains__)
        except DataError as error:
            found[str(error)] += 1
            continue
        for _, _, message in index.small:
            for item in message.interventions:
                if item.action == InterventionAction.STOP and item.reason != Reason.EMERGENCY_STOP.value:
                    found[str(item.reason)] += 1
    return dict(found)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the starts of one robot, or of all."""
    firsts = [row["first_command"] for row in rows if row["first_command"] is not None]
    return {
        "starts": len(rows),
        "done": sum(row["done"] for row in rows),
        "stopped": sum(bool(row["stops"]) for row in rows),
        "old_images": sum(row["old_images"] for row in rows),
        "first_command_median": round(median(firsts), 2) if firsts else None,
        "first_command_most": max(firsts, default=None),
    }


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The table of a result."""
    heads = list(document["all"])
    lines = [
        [name, *("-" if found[head] is None else str(found[head]) for head in heads)]
        for name, found in {**document["robots"], "all": document["all"]}.items()
    ]
    return [Rows("Starts", ["", *(head.replace("_", " ") for head in heads)], lines)]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robots", default=",".join(ROBOTS))
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    document: dict[str, Any] = machine.describe()
    rows: list[dict[str, Any]] = []
    for number in range(given.times):
        for robot in given.robots.split(","):
            with tempfile.TemporaryDirectory() as folder:
                row = start(robot, Path(folder))
            rows.append(row)
            print(
                f"{number + 1:3d} {robot:7s} up {row['up']}, first command {row['first_command']}, "
                f"{'done' if row['done'] else 'NOT DONE: ' + row['last_words']}, stops {row['stops']}, "
                f"old images {row['old_images']}",
                flush=True,
            )
    names = list(dict.fromkeys(row["robot"] for row in rows))
    document["robots"] = {name: summary([row for row in rows if row["robot"] == name]) for name in names}
    document["all"], document["starts"] = summary(rows), rows
    for name in names:
        print(f"{name}: {document['robots'][name]}")
    print(f"all: {document['all']}")
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
