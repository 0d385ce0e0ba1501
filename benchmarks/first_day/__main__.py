"""The page docs/first_day.md as a program: `python -m benchmarks.first_day --robot ur5e --json F`.

Types the page's commands, step by step, in terminals of their own; status 1 at the first that fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.first_day.commands import LAUNCH_FILES, PAGE_ROBOT
from benchmarks.first_day.steps import STEPS, Day, StepFailedError
from benchmarks.machine import describe, write_json
from vla_ros.errors import VlaRosError


def main() -> int:
    """Do the day; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default=PAGE_ROBOT, choices=sorted(LAUNCH_FILES))
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="new folder of the day; default: under the system's")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    document: dict[str, Any] = describe()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="first_day_"))
    folder.mkdir(parents=True, exist_ok=True)
    day = Day(given.robot, folder.resolve(), given.demonstrations)
    rows: list[dict[str, Any]] = []
    for step in STEPS:
        print(f"{step.__name__}: {(step.__doc__ or '').strip()}", flush=True)
        begun, before = time.monotonic(), len(day.typed)
        try:
            good, result = True, step(day)
        except (StepFailedError, VlaRosError, OSError, LookupError, ValueError) as error:
            good, result = False, str(error) or type(error).__name__
        seconds = round(time.monotonic() - begun, 1)
        rows.append({
            "step": step.__name__, "good": good, "seconds": seconds, "result": result,
            "commands": day.typed[before:],
        })  # fmt: skip
        print(f"  {'ok' if good else 'FAILED'} after {seconds:.0f} s: {result}\n", flush=True)
        if not good:
            break
    for row in rows:
        mark = "ok" if row["good"] else "FAILED"
        print(f"{row['step']:12s} {mark:6s} {row['seconds']:6.1f} s  {row['result']}")
    for step in STEPS[len(rows) :]:
        print(f"{step.__name__:12s} not reached")
    print(f"Everything is in {folder}.")
    if given.json is not None:
        document |= {
            "robot": given.robot, "demonstrations": given.demonstrations, "niceness": os.nice(0),
            "all_good": all_good(rows), "steps": rows,
            "not_reached": [step.__name__ for step in STEPS[len(rows) :]], "figures": day.figures,
        }  # fmt: skip
        write_json(given.json, document)
    return 0 if all_good(rows) else 1


def all_good(rows: list[dict[str, Any]]) -> bool:
    """Whether every step was reached and is good."""
    return len(rows) == len(STEPS) and all(row["good"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
