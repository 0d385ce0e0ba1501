"""Run every fault: `python -m benchmarks.faults --json benchmarks/results/faults.json`."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import machine
from benchmarks.faults.bench import Bench, live_bench
from benchmarks.faults.cases import FAULTS
from benchmarks.faults.fault import Fault, Outcome, complaints, run_fault
from vla_ros.commands.shared import plain_errors
from vla_ros.errors import ConfigurationError

ATTEMPTS = 3
"""On a machine busy with other work a late robot is stopped, as it must be: then the fault is tried again."""


def attempt(bench: Bench, fault: Fault) -> tuple[Outcome, list[str], int]:
    """What followed, what is wrong with it, how often it was tried; after a broken limit never again."""
    tried = 0
    while tried < ATTEMPTS:
        tried += 1
        outcome = run_fault(bench, fault)
        found = complaints(fault, outcome)
        if not found or outcome.violations or outcome.recovery == "not at all":
            break
    return outcome, found, tried


@plain_errors
def main(
    names: Annotated[list[str] | None, typer.Argument(help="Faults; all when none is named.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Break a live graph in every known way, and say what followed."""
    known = {fault.name for fault in FAULTS}
    for name in names or []:
        if name not in known:
            raise ConfigurationError(f"Fault '{name}' is unknown, known are {', '.join(sorted(known))}.")
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    document: dict[str, Any] = {"benchmark": "faults", **machine.describe(), "faults": []}
    document["command"] = " ".join(["python -m benchmarks.faults", *sys.argv[1:]])
    wrong = 0
    for kind, faults in groupby(chosen, key=lambda fault: fault.bench):
        with live_bench(kind) as bench:
            for fault in faults:
                outcome, found, tried = attempt(bench, fault)
                document["faults"].append({**outcome.document(), "attempts": tried, "complaints": found})
                wrong += bool(found)
                print(outcome.sentence(), "; ".join(found), flush=True)
    if json_path is not None:
        machine.write_json(json_path, document)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
