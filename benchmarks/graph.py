"""The whole graph under load: two 640x480 cameras at 30 Hz without rendering, and the control loop at 250 Hz.

`python benchmarks/graph.py --json benchmarks/results/graph.json`; docs/benchmarks.md says what it measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console

from benchmarks import figures, machine
from benchmarks.circle import record_circle
from benchmarks.observer import COUNTS_FILE, GRACE, LOG_FILE, WINDOW_FILE
from benchmarks.tables import graph_tables
from vla_ros.bringup.domain import claimed_domain
from vla_ros.bringup.graph import GraphOptions, Process, environment, graph
from vla_ros.bringup.runner import Runner
from vla_ros.commands.shared import plain_errors
from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.types import NANOSECONDS

ROBOT = "panda"
CONTROL_RATE, JOINT_STATE_RATE, POLICY_RATE = 250.0, 250.0, 10.0
CAMERA = {"width": 640, "height": 480, "rate": 30.0}
PRIORITY = 50
"""SCHED_FIFO priority of the controller's thread (its default) and of the second bare loop."""
START_TIMEOUT = 60.0
RADIUS, TURN = 0.05, 6.0
"""The recorded motion: circles of this radius [m], one in so many seconds."""


class Tool(Process):
    """A process of the measurement itself, beside those of the graph."""

    @property
    def module(self) -> str:
        """Module of this package."""
        return f"benchmarks.{self.name}"


@dataclass(frozen=True)
class Plan:
    """How long to measure [s]."""

    warm_up: float
    seconds: float


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run the graph once, with its files in `folder`; the document of figures.  Raises `VlaRosError`."""
    contract = write_contract(folder, plan.warm_up + plan.seconds + START_TIMEOUT)
    options = GraphOptions(
        robot=str(contract),
        sim="none",
        instruction="follow the recording",
        timeout=0.0,
        home_first=False,
        rate=POLICY_RATE,
        parameters={"inference": {"policy_rate": POLICY_RATE}, "safety_controller": {"check_driver": False}},
    )
    source = {
        "contract": str(contract),
        "output": str(folder / "source.npz"),
        "joint_state_rate": JOINT_STATE_RATE,
    }
    observer = {"output": str(folder), "warm_up": float(plan.warm_up), "seconds": float(plan.seconds)}
    document = machine.describe()
    troubles: list[str] = []
    with claimed_domain():
        runner = Runner(
            [Tool("source", source), *graph(options), Tool("observer", observer)],
            folder / "log",
            {**environment(), "PYTHONPATH": _python_path()},
            lambda name, line: troubles.append(f"{name}: {line}"),
        )
        runner.start()
        try:
            window, bare_loops, cpu = _watch(runner, folder)
        finally:
            runner.stop()
    document["setup"] = {
        "robot": ROBOT,
        "cameras": {"primary": CAMERA, "wrist": CAMERA},
        "control_rate": CONTROL_RATE,
        "joint_state_rate": JOINT_STATE_RATE,
        "policy": "replay",
        "policy_rate": POLICY_RATE,
        "warm_up": plan.warm_up,
        "seconds": plan.seconds,
    }
    logs = read_logs(folder, window, bare_loops)
    document |= figures.evaluate(logs, 1.0 / CONTROL_RATE)
    document |= {"cpu_percent": cpu[0], "cpu_machine_percent": cpu[1], "warnings": sorted(set(troubles))}
    return document


def write_contract(folder: Path, seconds: float) -> Path:
    """The recording of a circling hand that lasts so long, and the contract that replays it."""
    recording, path = folder / "recording.npz", folder / "contract.yaml"
    record_circle(recording, seconds, POLICY_RATE, RADIUS, TURN)
    content = {
        "robot": ROBOT,
        "policy": "replay",
        "policy_options": {"path": str(recording)},
        "action_space": "delta_tcp",
        "action_rate": POLICY_RATE,
        "control_rate": CONTROL_RATE,
        "cameras": {"primary": CAMERA, "wrist": CAMERA},
        # the joints of the double are where a command says and feel nothing
        "contact": False,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def read_logs(folder: Path, window: dict[str, int], bare_loops: dict[str, Any]) -> figures.Logs:
    """What the processes of a run wrote into `folder`."""
    with np.load(folder / "source.npz") as file:
        frames = {key.removeprefix("frames_"): file[key] for key in file.files if key.startswith("frames_")}
        commands = file["commands"]
    with np.load(folder / LOG_FILE) as file:
        tables = {key: file[key] for key in file.files}
    widths = {"observations": 4 + len(frames), "outputs": 4, "chunks": 3, "setpoints": 4, "statuses": 4}
    return figures.Logs(
        begin=window["begin"],
        end=window["end"],
        cameras=tables["cameras"].tolist(),
        frames=frames,
        commands=commands,
        ingester=json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8")),
        bare_loops={name: np.array(woken, np.int64) for name, woken in bare_loops.items()},
        **{name: tables[name].reshape(-1, width) for name, width in widths.items()},
    )


def _watch(runner: Runner, folder: Path) -> tuple[dict[str, int], dict[str, list[int]], tuple[Any, Any]]:
    """From start to the observer's end: the window, the bare loops' moments, CPU shares."""
    deadline = time.monotonic() + START_TIMEOUT
    window_file = folder / WINDOW_FILE
    while not window_file.exists():
        _check(runner, folder)
        if time.monotonic() > deadline:
            raise MachineError(f"No joint command came within {START_TIMEOUT:g} s; see {folder / 'log'}.")
        time.sleep(0.05)
    window = json.loads(window_file.read_text(encoding="utf-8"))
    loops = {
        "bare sleeping loop": _bare_loop(0, window),
        f"bare sleeping loop, SCHED_FIFO {PRIORITY}": _bare_loop(PRIORITY, window),
    }
    try:
        _sleep_till(window["begin"])
        shares = machine.CpuShares({**runner.pids(), **{name: loop.pid for name, loop in loops.items()}})
        _sleep_till(window["end"])
        cpu = shares.percent(), shares.machine()
        woken = {name: json.loads(loop.communicate(timeout=10.0)[0]) for name, loop in loops.items()}
    finally:
        for loop in loops.values():
            loop.kill()
            loop.wait()
    deadline = time.monotonic() + GRACE + 30.0
    while "observer" not in runner.ended():
        _check(runner, folder)
        if time.monotonic() > deadline:
            raise MachineError(f"The observer did not end; see {folder / 'log'}.")
        time.sleep(0.05)
    return window, woken, cpu


def _bare_loop(priority: int, window: dict[str, int]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.bare_loop"]
    command += [str(1.0 / CONTROL_RATE), str(priority), str(window["begin"]), str(window["end"])]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": _python_path()}
    )


def _check(runner: Runner, folder: Path) -> None:
    for name, status in runner.ended().items():
        if name == "observer" and status == 0:
            continue
        log = folder / "log" / f"{name}.log"
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
        raise MachineError(
            f"The process '{name}' ended by itself with status {status}: {words[-1] if words else 'no word'}"
        )


def _sleep_till(moment: int) -> None:
    time.sleep(max(0.0, (moment - time.time_ns()) / NANOSECONDS))


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(machine.ROOT), os.environ.get("PYTHONPATH", "")]))


def median_run(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle by its worst target, with the targets' values of all runs beside it."""

    def worst(document: dict[str, Any]) -> float:
        return max(t["value"] / max(t["limit"], 1e-3) for t in document["targets"].values())

    middle = sorted(documents, key=worst)[(len(documents) - 1) // 2]
    values = {name: [d["targets"][name]["value"] for d in documents] for name in figures.LIMITS}
    return {
        **middle,
        "runs": {"count": len(documents), "shown": documents.index(middle) + 1, "targets": values},
    }


@plain_errors
def main(
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the measurement [s].")] = 30.0,
    warm_up: Annotated[float, typer.Option(min=0.5, help="From the first command to it [s].")] = 5.0,
    repeat: Annotated[int, typer.Option(min=1, help="Runs; the median one is shown and written.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep logs of the processes in.")] = None,
) -> None:
    """Measure frames, latencies, the control period and CPU use of the four nodes under camera load."""
    console = Console()
    documents = []
    for number in range(1, repeat + 1):
        with tempfile.TemporaryDirectory(prefix="vla_ros_benchmark_") as temporary:
            folder = Path(temporary) if keep is None else keep / str(number)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"Folder {folder} cannot be made: {error.strerror}.") from error
            documents.append(measure(Plan(warm_up, seconds), folder))
        if repeat > 1:
            targets = documents[-1]["targets"].values()
            console.print(f"run {number}: " + ", ".join(f"{t['value']:g}" for t in targets))
    document = {"benchmark": "graph", **median_run(documents)}
    console.print(*graph_tables(document), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
