"""`vla-ros replay BAG`: a recorded run gone through again; with `--golden`, as a regression test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown, write_json
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.bag_replay import replay_bag
from vla_ros.evaluation.golden import load_golden
from vla_ros.evaluation.golden_plot import plot_difference
from vla_ros.lockstep.parity import run_parity
from vla_ros.lockstep.recorded import read_recorded_run

SAME = 1e-9
"""Commands nearer than this are the same, in the unit of each."""


def golden(
    path: Path,
    reference: Path,
    update: bool,
    allow_stops: bool,
    contract: Path | None,
    policy: str,
    policy_options: Mapping[str, Any],
    latency: float,
    tolerance: float,
    json_path: Path | None,
) -> int:
    """Compare what a bag gives today with a golden file, or make it; 1 when they differ.

    Raises `DataError` rather than to make one in which the controller stops, unless `allow_stops`.
    """
    console = Console()
    if not update and not reference.exists():
        load_golden(reference)
    if update and reference.exists() and reference.is_dir():
        raise ConfigurationError(f"{reference} is a folder; a golden file is one file.")
    begun = time.perf_counter()
    replayed = replay_bag(path, contract, policy, policy_options, latency)
    took = time.perf_counter() - begun
    for trace, covered in zip(replayed.traces, replayed.coverage(), strict=True):
        note = f", {len(trace.refused)} inputs not used: {trace.refused[0]}" if trace.refused else ""
        console.print(
            f"{covered}, {len(trace.observations)} observations, {len(trace.chunks)} chunks{note}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"{replayed.seconds:.1f} s stepped through in {took:.1f} s, "
        f"{replayed.seconds / max(took, 1e-9):.0f} times faster than real time",
        highlight=False,
    )
    if update:
        replayed.save(reference, allow_stops)
        for objection in replayed.objections():
            console.print(f"Note: {objection}.", style="yellow", soft_wrap=True)
        console.print(f"{shown(reference)} is what the bag gives today", soft_wrap=True)
        return 0
    before = load_golden(reference)
    if before.grid:
        console.print(
            f"{shown(reference)} was made on a regular grid of ticks and is compared on one; --update makes "
            "it anew from the recorded ticks, as the robot went",
            soft_wrap=True,
        )
    for sentence in before.stops():
        console.print(f"Note: in {shown(reference)}, {sentence}.", style="yellow", soft_wrap=True)
    comparison = replayed.compare(reference, tolerance)
    document = {
        "same": comparison.same, "seconds": replayed.seconds, "took": took,
        "coverage": [
            {"episode": t.episode_id, "ticks": len(t.ticks), "moving": t.moving, "stopped": t.stopped}
            for t in replayed.traces
        ],
        "differences": [{"stage": d.stage, "sentence": d.sentence} for d in comparison.differences],
    }  # fmt: skip
    if json_path is not None:
        write_json(json_path, document)
    if comparison.same:
        console.print(f"the same as {shown(reference)}, to the last bit" if tolerance == 0.0 else
                      f"the same as {shown(reference)}, within {tolerance:g}", soft_wrap=True)  # fmt: skip
        return 0
    console.print(f"not as {shown(reference)} has it:", style="red", soft_wrap=True)
    console.print(comparison.text(), highlight=False, markup=False, soft_wrap=True)
    picture = reference.with_suffix(".diff.png")
    if plot_difference(before, replayed.golden, comparison, picture):
        console.print(f"{shown(picture)} shows the first command that differs", soft_wrap=True)
    return 1


def parity(path: Path, json_path: Path | None) -> int:
    """Go through a recorded run exactly as it went and compare the commands; 1 when they differ."""
    console = Console()
    run = read_recorded_run(path)
    found = run_parity(run)
    console.print(
        f"{found.ticks} ticks gone through again: commands differ by at most {found.worst:.3g}, states in "
        f"{found.states} ticks; {found.chunks} outputs decoded again, chunks differ by at most "
        f"{found.chunk_error:.3g}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for note in (*found.notes, found.first):
        if note:
            console.print(note, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_json(json_path, {**found.__dict__, "worst": found.worst})
    return 0 if found.worst <= SAME and found.states == 0 and found.chunk_error <= SAME else 1
