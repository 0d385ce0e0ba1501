"""How many times faster than real time a bag is stepped through as a regression test.

`python -m benchmarks.replay_speed --json benchmarks/results/replay_speed.json`.  One scripted pick a robot,
at the control rate of the simulated and of the real robot; reading the bag counts.  The baseline in the same
run is reading it alone; every repetition must give the same bits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console

from benchmarks import machine
from benchmarks.tables import Rows
from vla_ros.commands.shared import plain_errors
from vla_ros.evaluation.bag_replay import replay_bag
from vla_ros.evaluation.golden import compare
from vla_ros.lockstep.demonstrate import Demonstrator, Order
from vla_ros.lockstep.recorded import read_recorded_run
from vla_ros.robots import load_robot

ROBOTS = ("panda", "fr3", "widowx", "ur5", "ur5e")


def measure(robot: str, repeat: int, folder: Path) -> list[dict[str, Any]]:
    """Figures of one robot at its two control rates."""
    demonstrator = Demonstrator(Order(robot, ("pick",), 1), folder / robot)
    result = demonstrator.make(1)
    demonstrator.close()
    bag = folder / robot / f"episode_{result.seed:06d}"
    spec = load_robot(robot)
    found = []
    for rate in sorted({spec.simulated_control_rate, spec.control_rate}):
        run = read_recorded_run(bag, setpoints=False)
        contract = folder / f"{robot}_{rate:g}.yaml"
        contract.write_text(yaml.safe_dump({**yaml.safe_load(run.contract_text), "control_rate": rate}))
        first = replay_bag(bag, contract)
        whole, reading, same = [], [], True
        for _ in range(repeat):
            begun = time.perf_counter()
            read_recorded_run(bag, setpoints=False)
            reading.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            again = replay_bag(bag, contract)
            whole.append(time.perf_counter() - begun)
            same = same and compare(first.golden, again.golden).same
        found.append(
            {
                "robot": robot, "control_rate": rate, "seconds": first.seconds,
                "ticks": sum(len(trace.ticks) for trace in first.traces), "same_bits": same,
                "factor": {
                    "p50": first.seconds / float(np.median(whole)),
                    "slowest": first.seconds / max(whole),
                },
                "reading_alone": first.seconds / float(np.median(reading)),
            }
        )  # fmt: skip
    return found


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The table of a result."""
    cells = [
        [
            entry["robot"], f"{entry['control_rate']:g}", f"{entry['seconds']:.1f}", f"{entry['ticks']}",
            f"{entry['factor']['p50']:.1f}", f"{entry['factor']['slowest']:.1f}",
            f"{entry['reading_alone']:.0f}", "yes" if entry["same_bits"] else "no",
        ]
        for entry in document["replays"]
    ]  # fmt: skip
    heads = ["robot", "control rate [Hz]", "length [s]", "ticks", "times real time", "slowest",
             "reading alone", "same bits"]  # fmt: skip
    return [Rows("A bag stepped through as a regression test", heads, cells)]


@plain_errors
def main(
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions; the median counts.")] = 7,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Step through one bag a robot again and again."""
    head = machine.describe()
    with tempfile.TemporaryDirectory(prefix="replay_speed_") as folder:
        replays = [entry for robot in ROBOTS for entry in measure(robot, repeat, Path(folder))]
    document = {"benchmark": "replay_speed", **head, "replays": replays}
    Console().print(*(table.rich() for table in rows(document)), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
