"""From a person's keys and an expert to data sets and back: what is lost on the way, what succeeds again.

`python -m benchmarks.demonstrations --json benchmarks/results/demonstrations.json`.  For each robot: scripted
demonstrations in bulk, others by keys through a pseudo-terminal in the live graph, one bag an episode; then
the user's own commands: audit, conversion to LeRobot v3 and RLDS, every number read back and compared, and
all actions played again in the simulator.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.tables import Rows
from vla_ros.bringup.graph import GraphOptions, TeleopOptions, contract_for
from vla_ros.commands.shared import plain_errors
from vla_ros.data.dataset import Dataset
from vla_ros.data.open import open_dataset
from vla_ros.data.selection import Joined
from vla_ros.errors import ConfigurationError
from vla_ros.lockstep.simulated import Scene

TAKEN = ("success", "failure")
"""Outcomes that a conversion takes."""
LOOKED_AT = 4
"""Frames of an episode and camera that are compared."""


def command(*arguments: str | Path, allowed: Sequence[int] = (0,)) -> str:
    """Run `vla-ros` as a user does; what it printed.  Raises `ConfigurationError` when it fails."""
    words = [str(argument) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", *words], capture_output=True, text=True, check=False
    )
    if done.returncode not in allowed:
        raise ConfigurationError(
            f"vla-ros {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}"
        )
    return done.stdout


def keyboard(robot: str, folder: Path, episodes: int, seed: int = 4) -> list[dict[str, Any]]:
    """Pick so many blocks by keys in the live graph; how each went."""
    sys.path.insert(0, str(machine.ROOT / "test"))
    from keyboard_driver import driven
    from keyboard_pilot import Pilot
    from late_machine import StoppedError

    options = GraphOptions(robot=robot, seed=seed, record=str(folder))
    teleop = TeleopOptions(task="pick")
    contract = contract_for(replace(options, teleop=teleop))
    told = []
    with tempfile.TemporaryDirectory(prefix="keyboard_") as run, driven(Path(run), options, teleop) as drive:
        pilot = Pilot(drive, contract)
        for _ in range(episodes):
            begun, success = time.monotonic(), False
            try:
                drive.start_episode()
                begun = time.monotonic()
                success = pilot.pick(Scene.from_json(drive.heard.scenes[-1].data))
            except StoppedError:
                pass  # said below
            told.append({"success": success, "stopped": drive.stopped, "seconds": time.monotonic() - begun})
            if drive.stopped:
                # a machine without time, and a person who goes on
                drive.running.operator.reset_safety()
        drive.until(lambda: len(list(folder.glob("*/metadata.yaml"))) >= episodes, 10.0)
    return told


def read_back(source: Dataset, written: Dataset) -> dict[str, Any]:
    """What of every episode that was taken is not as it was."""
    taken = [e for e in source if e.metadata.get("outcome", "success") in TAKEN]
    unequal: list[str] = []
    exact, loss = 0, []
    if len(taken) != len(written):
        unequal.append(f"{len(taken)} episodes were taken, {len(written)} are there")
    for before, after in zip(taken, written, strict=False):
        name = str(before.metadata.get("episode_id"))
        pairs = {"actions": (before.actions, after.actions), "states": (_single(before.states), after.states)}
        for key in before.extra:
            other = after.extra.get(key)
            pairs[key] = (_single(before.extra[key]), np.zeros(0) if other is None else _single(other))
        unequal += [f"{name}: {key}" for key, (a, b) in pairs.items() if not np.array_equal(a, np.asarray(b))]
        if before.instructions != after.instructions:
            unequal.append(f"{name}: instructions")
        if any(str(after.metadata.get(key)) != str(value) for key, value in before.metadata.items()):
            unequal.append(f"{name}: metadata")
        if len(before) != len(after):
            continue  # said above: the actions differ
        for camera in before.images:
            for step in np.linspace(0, len(before) - 1, LOOKED_AT).astype(int):
                a, b = before.image(camera, int(step)), after.image(camera, int(step))
                exact += bool(np.array_equal(a, b))
                error = float(np.mean((a.astype(float) - b.astype(float)) ** 2))
                loss.append(10.0 * np.log10(255.0**2 / max(error, 1e-9)))
    return {
        "episodes": len(written), "steps": sum(len(e) for e in taken), "unequal": unequal,
        "images_compared": len(loss), "images_exact": exact, "psnr_min": min(loss, default=float("nan")),
    }  # fmt: skip


def one_robot(robot: str, scripted: int, by_keys: int, folder: Path) -> dict[str, Any]:
    """The whole way for one robot."""
    expert, person = folder / "scripted", folder / "keyboard"
    begun = time.monotonic()
    command(
        "record",
        "--scripted",
        "--robot",
        robot,
        "--task",
        "pick",
        "--episodes",
        str(scripted),
        "--out",
        expert,
    )
    took = time.monotonic() - begun
    told = keyboard(robot, person, by_keys)
    audits = {}
    for name, bags in (("scripted", expert), ("keyboard", person)):
        found = folder / f"{name}_audit.json"
        command("bag", "audit", bags, "--json", found, allowed=(0, 1))
        audits[name] = json.loads(found.read_text(encoding="utf-8"))
    source = Joined([open_dataset(expert), open_dataset(person)])
    sets = {}
    for kind in ("lerobot", "rlds"):
        target = folder / kind
        command("data", "convert", expert, person, target, "--to", kind)
        sets[kind] = read_back(source, open_dataset(target))
    replays = {}
    for name, bags in (("scripted", expert), ("keyboard", person)):
        found = folder / f"{name}_replay.json"
        command("replay", bags, "--into", "sim", "--json", found, allowed=(0, 1))
        replays[name] = _replayed(json.loads(found.read_text(encoding="utf-8")))
    return {
        "robot": robot, "scripted_seconds": took, "keyboard": told,
        "audit": {name: _verdicts(audit) for name, audit in audits.items()},
        "sets": sets, "replays": replays,
    }  # fmt: skip


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The table of a result."""
    cells = []
    for one in document["robots"]:
        replays, audit = one["replays"], one["audit"]
        for name in ("scripted", "keyboard"):
            path = replays[name]["path_max_m"]
            cells.append(
                [
                    f"{one['robot']}, {name}",
                    f"{replays[name]['recorded_successes']} of {replays[name]['episodes']}",
                    f"{audit[name]['usable']} of {audit[name]['episodes']}",
                    f"{replays[name]['succeeded']} of {replays[name]['episodes']}",
                    "-" if path is None else f"{1000 * path:.1f}",
                ]
            )
    heads = ["", "succeeded", "usable (audit)", "succeeded again", "largest distance of the paths [mm]"]
    first = Rows("Demonstrations of picking, played again in the simulator", heads, cells)
    cells = [
        [
            f"{one['robot']}, {kind}",
            str(result["episodes"]),
            str(result["steps"]),
            str(len(result["unequal"])),
            f"{result['images_exact']} of {result['images_compared']}",
            f"{result['psnr_min']:.1f}" if result["psnr_min"] < 100 else "-",
        ]
        for one in document["robots"]
        for kind, result in one["sets"].items()
    ]
    heads = ["", "episodes", "steps", "features that differ", "pictures equal", "least PSNR [dB]"]
    return [first, Rows("Both sets read back", heads, cells)]


def _single(values: Any) -> Any:
    """Both formats keep float32."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _replayed(document: Mapping[str, Any]) -> dict[str, Any]:
    ways = [row["path_max_m"] for row in document["episodes"] if row["path_max_m"] is not None]
    return {
        "episodes": len(document["episodes"]), "succeeded": document["succeeded"],
        "recorded_successes": document["recorded_successes"], "path_max_m": max(ways, default=None),
    }  # fmt: skip


def _verdicts(audit: Mapping[str, Any]) -> dict[str, Any]:
    episodes = [episode for bag in audit["bags"] for episode in bag["episodes"]]
    failed = [episode for episode in episodes if episode["level"] == "fail"]
    return {
        "episodes": len(episodes), "usable": len(episodes) - len(failed),
        "failed": [str(episode["verdict"]) for episode in failed],
    }  # fmt: skip


@plain_errors
def main(
    robots: Annotated[str, typer.Option(help="With commas between.")] = "panda,widowx,ur5e",
    scripted: Annotated[int, typer.Option(min=1, help="Scripted demonstrations a robot.")] = 20,
    by_keys: Annotated[int, typer.Option("--keyboard", min=1, help="By keys, a robot.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Keep everything in this new folder.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Demonstrate, record, audit, convert, read back, play again."""
    head = machine.describe()
    with tempfile.TemporaryDirectory(prefix="demonstrations_") as made:
        place = folder or Path(made)
        results = [one_robot(name, scripted, by_keys, place / name) for name in robots.split(",")]
    document = {"benchmark": "demonstrations", **head, "robots": results}
    Console().print(*(table.rich() for table in rows(document)), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
