"""The launch lines of the README with the real `ros2 launch`: what is carried out, and when the robot moves.

    . install/setup.sh
    python3 -m benchmarks.launch_lines --times 10 --json benchmarks/results/launch_lines.json

Every line runs with `visual_servo` and with a policy that takes 20 s to load, one run after the other, each
in a ROS domain of its own.  It is judged by what the graph publishes; when the episode is over, or its time
is, the launch gets the SIGINT of a Ctrl-C.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.tables import Rows
from vla_ros.bringup.domain import claimed_domain
from vla_ros.commands.shared import plain_errors
from vla_ros.errors import ConfigurationError
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.operator import Operator

LINES = {"franka": "franka.launch.py", "widowx": "widowx.launch.py", "ur": "ur5.launch.py"}
LOAD_SECONDS = 20.0
"""How long the slow policy loads [s]."""
POLICIES = {
    "plain": [],
    "slow to load": [
        "policy:=custom",
        f"policy_options:={{factory: slow_policy:make, load_seconds: {LOAD_SECONDS}}}",
    ],
}
LIMIT = 240.0
"""Longest time from the start to the end of the episode [s]; the supervisor gives up after 180 s."""
STOPPING = 30.0
"""Longest time from Ctrl-C to the end of the launch [s]; launch itself kills what is left after 10 s."""
UP = re.compile(r"\bUp: ")
"""The lifecycle manager when all nodes are active."""
WRONG = re.compile(r"process has died|failed to terminate|Traceback|\[(ERROR|FATAL)\]")
"""Lines of the launch that no run should have."""
_OVER = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED, Outcome.DISCARDED)


class Launch:
    """One launch line in a session of its own, and when it printed what."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._begun = time.monotonic()
        self._process = subprocess.Popen(
            command, cwd=folder, text=True, errors="replace", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "ROS_LOG_DIR": str(folder / "log")},
        )  # fmt: skip
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines.append((time.monotonic() - self._begun, line.rstrip()))

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun

    @property
    def ended(self) -> bool:
        """Whether the launch itself has ended."""
        return self._process.poll() is not None

    def first(self, pattern: re.Pattern[str]) -> float | None:
        """When the first line came that holds `pattern` [s]; None: none has."""
        return next((at for at, line in list(self.lines) if pattern.search(line)), None)

    def stop(self) -> tuple[int, bool, float]:
        """Ctrl-C, for all processes at once: exit status, whether anything had to be killed from here, and
        how long it took [s].
        """
        begun = time.monotonic()
        self._signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOPPING)
        left = self._signal(signal.SIGKILL)
        status = self._process.wait()
        seconds = time.monotonic() - begun
        self._reader.join(2.0)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        return status, left, seconds

    def _signal(self, signum: int) -> bool:
        """Whether there was any process to be reached."""
        try:
            os.killpg(self._process.pid, signum)
        except ProcessLookupError:
            return False
        return True


def command_of(ros2: str, setup: Path | None, line: str, policy: str, instruction: str) -> list[str]:
    """The command of one run.

    Args:
        ros2: command line that is `ros2`, such as a path.
        setup: shell script to be sourced before, such as install/setup.bash.
        line: key of `LINES`.
        policy: key of `POLICIES`.
        instruction: what the robot is told.
    """
    words = [*shlex.split(ros2), "launch", "vla_ros", LINES[line], f"instruction:={instruction}"]
    words += POLICIES[policy]
    if setup is None:
        return words
    return ["bash", "-c", '. "$0" && exec "$@"', str(setup.resolve()), *words]


def run(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """One run: seconds until all nodes are active and until the first command (None: never), how the episode
    ended, exit status after Ctrl-C, how long that took, and every line that no run should have.
    """
    shutil.copy(Path(__file__).with_name("slow_policy.py"), folder)
    with claimed_domain():
        operator = Operator()
        try:
            begun = time.monotonic()
            launch = Launch(command, folder)
            try:
                while launch.seconds < LIMIT and not launch.ended:
                    if Outcome(operator.episode.outcome) in _OVER:
                        break
                    time.sleep(0.05)
                episode, by_itself, at = operator.episode, launch.ended, launch.seconds
            finally:
                status, left, stopping = launch.stop()
            first = operator.first_command
        finally:
            operator.close()
    outcome = Outcome(episode.outcome)
    wrong = [line for _, line in launch.lines if WRONG.search(line)]
    up = launch.first(UP)
    return {
        "up": None if up is None else round(up, 2),
        "first_command": None if first is None else round(first - begun, 2),
        "outcome": outcome.name.lower(),
        "reason": episode.reason,
        "instruction": episode.instruction,
        "seconds": round(at, 2),
        "ended_by_itself": by_itself,
        "status": status,
        "stopping": round(stopping, 2),
        "killed": left,
        "wrong": wrong[:20],
        "last_words": [line for _, line in launch.lines][-15:] if outcome is not Outcome.SUCCESS else [],
        "done": outcome is Outcome.SUCCESS and not by_itself and not left,
    }


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the runs of one line and policy, or of all; times in seconds."""
    found: dict[str, Any] = {"runs": len(runs), "done": sum(run["done"] for run in runs)}
    found["clean"] = sum(run["done"] and not run["wrong"] for run in runs)
    found["statuses"] = sorted({run["status"] for run in runs})
    for key in ("up", "first_command", "stopping"):
        values = [run[key] for run in runs if run[key] is not None]
        found[f"{key}_median"] = round(median(values), 2) if values else None
        found[f"{key}_most"] = max(values, default=None)
    return found


def document(head: Mapping[str, Any], instruction: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures: of every line and policy, of all together, and every run."""
    cells = [
        {
            "line": line,
            "policy": policy,
            **summary([run for run in runs if (run["line"], run["policy"]) == (line, policy)]),
        }
        for line, policy in dict.fromkeys((run["line"], run["policy"]) for run in runs)
    ]
    return {
        "benchmark": "launch_lines",
        **head,
        "instruction": instruction,
        "load_seconds": LOAD_SECONDS,
        "all": summary(runs),
        "cells": cells,
        "every_run": list(runs),
    }


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """The table of a result."""
    heads = [
        "launch file", "policy", "carried out",
        "all nodes active [s]", "first command [s]", "Ctrl-C to end [s]",
    ]  # fmt: skip
    cells = [
        [
            LINES[cell["line"]],
            cell["policy"],
            f"{cell['done']} of {cell['runs']}",
            *(f"{_number(cell[f'{key}_median'])}, {_number(cell[f'{key}_most'])}"
              for key in ("up", "first_command", "stopping")),
        ]
        for cell in document["cells"]
    ]  # fmt: skip
    title = f"Told '{document['instruction']}': medians and greatest times"
    return [Rows(title, heads, cells)]


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


def _chosen(given: str, known: Mapping[str, Any], what: str) -> list[str]:
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{what} '{name}' is unknown, known are {', '.join(known)}.")
    return names


@plain_errors
def main(
    times: Annotated[int, typer.Option(min=1, help="Runs of each line with each policy.")] = 10,
    lines: Annotated[str, typer.Option(help="Which lines, with commas between.")] = ",".join(LINES),
    policies: Annotated[str, typer.Option(help="With which policies.")] = ",".join(POLICIES),
    instruction: Annotated[str, typer.Option(help="What the robot is told.")] = "pick up the red block",
    ros2: Annotated[str, typer.Option(help="The command `ros2`, or a command line that is it.")] = "ros2",
    setup: Annotated[Path | None, typer.Option(help="Shell script to source before each launch.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Run the launch lines and count what was carried out."""
    if setup is None and shutil.which(shlex.split(ros2)[0]) is None:
        raise ConfigurationError(
            f"'{ros2}' is not on PATH; source the setup script of ROS 2, or give --ros2."
        )
    head = machine.describe()
    wanted = [
        (line, policy)
        for _ in range(times)
        for line in _chosen(lines, LINES, "Line")
        for policy in _chosen(policies, POLICIES, "Policy")
    ]
    runs: list[dict[str, Any]] = []
    for number, (line, policy) in enumerate(wanted, 1):
        with tempfile.TemporaryDirectory() as folder:
            found = run(command_of(ros2, setup, line, policy, instruction), Path(folder))
        runs.append({"line": line, "policy": policy, **found})
        print(
            f"{number:3d} of {len(wanted)} {line}, {policy}: up {found['up']}, first command "
            f"{found['first_command']}, {found['outcome']} after {found['seconds']} s ({found['reason']}), "
            f"status {found['status']}, stopped in {found['stopping']} s, {len(found['wrong'])} wrong lines",
            flush=True,
        )
        if json_path is not None:
            machine.write_json(json_path, document(head, instruction, runs))
    Console().print(*(table.rich() for table in rows(document(head, instruction, runs))), sep="\n")
    for found in runs:
        if not found["done"]:
            print(f"{found['line']}, {found['policy']}:", *found["last_words"], sep="\n  ")
    if not all(found["done"] for found in runs):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
