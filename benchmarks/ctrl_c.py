"""Ctrl-C in motion: `python -m benchmarks.ctrl_c --graphs 50 --controllers 200 --json F`.

At random moments at which a joint is commanded faster than 0.2 rad/s, everything is asked to end at once:
by Ctrl-C, Ctrl-C twice, SIGTERM, or by closing the terminal.  What is judged is what the robot was told last,
and every step on the way there.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rclpy.signals import SignalHandlerOptions

from benchmarks import machine
from benchmarks.ctrl_c_observer import Heard, controller_bench, graph_observer
from benchmarks.foreground import Foreground
from vla_ros.bringup.domain import claimed_domain
from vla_ros.bringup.graph import GraphOptions, Process, environment
from vla_ros.bringup.runner import arguments_of
from vla_ros.bringup.session import prepared
from vla_ros.bringup.shm import clean_shared_memory
from vla_ros.commands.shared import plain_errors
from vla_ros.data.bag import read_bag
from vla_ros.errors import MachineError
from vla_ros.nodes.topics import JOINT_SETPOINT

FAST = 0.2
"""A joint must be commanded faster than this at the moment of the signal [rad/s]."""
UP = 60.0
"""Seconds until the robot must move."""
ATTEMPTS = 3
"""A graph whose robot never moves, as on a busy machine, is started again so often."""
GONE = 20.0
"""Seconds until every process must have ended by itself; more than launch waits before it kills."""
REST = 1e-6
"""Below this the last setpoint is at rest [rad/s], and the last command where the one before was [rad]."""


@dataclass(frozen=True)
class Run:
    """One Ctrl-C."""

    what: str
    robot: str
    how: str
    speed: float
    """Of the fastest joint at the signal [rad/s]."""
    last: float
    """Of the fastest joint in the last setpoint, of those heard and those in the bag [rad/s]."""
    last_step: float
    """Of the last command from the one before [rad]; 0 where commands were not listened to."""
    braking: float
    """Seconds from the signal to the first setpoint at rest after which all are; nan: none was heard."""
    ended: float
    """Seconds from the signal until every process had ended."""
    state: int
    """Of the safety controller in the last setpoint."""
    violations: int
    """Of the limits, from the signal on, by code that the controller does not share."""
    survivors: str = ""
    """What had to be killed."""
    unheard: int = 0
    """Setpoints at the end that the bag has, but the observer did not hear: its process was late, and what
    waits for a reader ends with the writer."""
    unrecorded: int = 0
    """The other way round."""

    @property
    def good(self) -> bool:
        """Whether the robot was left at rest, within all limits."""
        return max(self.last, self.last_step) < REST and not self.violations and not self.survivors


def ctrl_c(group: Foreground) -> None:
    """Once."""
    group.press_ctrl_c()


def twice(group: Foreground) -> None:
    """By somebody in a hurry."""
    group.press_ctrl_c()
    time.sleep(0.15)
    group.press_ctrl_c()


def terminated(group: Foreground) -> None:
    """The system shuts down."""
    group.send(signal.SIGTERM)


def closed(group: Foreground) -> None:
    """The window is closed."""
    group.close_terminal()


HOW: dict[str, Callable[[Foreground], None]] = {
    "Ctrl-C": ctrl_c, "Ctrl-C twice": twice, "SIGTERM": terminated, "closed terminal": closed,
}  # fmt: skip


def one(what: str, how: str, processes: list[Process], heard: Heard, folder: Path, rng: random.Random) -> Run:
    """Start, wait for motion, ask to end, judge.  Raises `MachineError` when the robot never moves."""
    heard.forget()
    commands = {process.name: arguments_of(process) for process in processes}
    group = Foreground(commands, environment(), folder)
    try:
        begun = time.monotonic()
        # not always the first fast moment: a while later, and then the next
        heard.wait(lambda: heard.speed > FAST, UP)
        time.sleep(rng.uniform(0.0, 1.5))
        while not heard.wait(lambda: heard.speed > FAST, 2.0):
            if time.monotonic() - begun > UP:
                last = (folder / "terminal.log").read_text(errors="replace").strip().splitlines()[-1:]
                raise MachineError(f"The robot did not move within {UP:g} s; last words: {' '.join(last)}")
        speed, asked = heard.speed, time.monotonic()
        HOW[how](group)
        survivors = group.wait(GONE)
        ended = time.monotonic() - asked
        time.sleep(0.2)
        if survivors:
            print((folder / "terminal.log").read_text(errors="replace")[-6000:], flush=True)
        tick, last = _last_recorded(folder / "bag") or (heard.tick, heard.speed)
        return Run(
            what,
            heard.robot.name,
            how,
            speed=round(speed, 3),
            last=last if tick > heard.tick else heard.speed,
            last_step=heard.last_step,
            braking=heard.braking(asked, REST),
            ended=round(ended, 2),
            state=heard.state,
            violations=heard.violations(asked),
            survivors=", ".join(survivors),
            unheard=max(tick - heard.tick, 0),
            unrecorded=max(heard.tick - tick, 0),
        )
    finally:
        group.end()
        clean_shared_memory()


def _last_recorded(bag: Path) -> tuple[int, float] | None:
    """Tick and fastest joint [rad/s] of the last setpoint in the bag; None where no bag was asked for."""
    if not bag.exists():
        return None
    last = list(read_bag(bag, (JOINT_SETPOINT,)))[-1].message
    return int(last.tick), float(np.abs(last.velocities).max())


def controllers(count: int, rng: random.Random, told: Callable[[Run], None]) -> None:
    """The safety controller alone, between doubles of a UR5, its driver and its policy."""
    if not count:
        return
    with tempfile.TemporaryDirectory(prefix="vla_ros_ctrl_c_") as name, claimed_domain():
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        heard, processes = controller_bench(Path(name))
        try:
            for number in range(count):
                how = list(HOW)[number % len(HOW)]
                told(one("controller", how, processes, heard, Path(name), rng))
        finally:
            heard.close()
            rclpy.try_shutdown()


def graphs(count: int, rng: random.Random, told: Callable[[Run], None]) -> None:
    """Whole graphs that pick up a block, all processes asked to end at the same moment."""
    for number in range(count):
        for attempt in range(ATTEMPTS):
            try:
                told(_graph(number, rng))
                break
            except MachineError as error:
                print(error, flush=True)
                if attempt == ATTEMPTS - 1:
                    raise


def _graph(number: int, rng: random.Random) -> Run:
    """One whole graph.  Raises `MachineError` when its robot never moves."""
    robots = ("panda", "ur5", "widowx")
    with tempfile.TemporaryDirectory(prefix="vla_ros_ctrl_c_") as name, claimed_domain():
        options = GraphOptions(
            robot=robots[number % len(robots)], instruction="pick up the red block", seed=number,
            record=str(Path(name) / "bag"), record_cameras=False,
        )  # fmt: skip
        processes = prepared(options, Path(name))
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        heard = graph_observer(options.robot)
        try:
            how = list(HOW)[number % len(HOW)]
            return one("graph", how, processes, heard, Path(name), rng)
        finally:
            heard.close()
            rclpy.try_shutdown()


@plain_errors
def main(
    graph_count: Annotated[int, typer.Option("--graphs", min=0, help="Whole graphs.")] = 50,
    controller_count: Annotated[int, typer.Option("--controllers", min=0, help="Controllers alone.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Ask everything to end while the robot moves, and see that it is left at rest."""
    rng = random.Random(seed)
    runs: list[Run] = []
    document: dict[str, Any] = {"benchmark": "ctrl_c", **machine.describe()}
    document["command"] = " ".join(["python -m benchmarks.ctrl_c", *sys.argv[1:]])

    def told(run: Run) -> None:
        runs.append(run)
        print(
            f"{len(runs)}: {run.what} {run.robot}, {run.how} at {run.speed:.2f} rad/s: "
            f"{'at rest' if run.good else 'NOT AT REST'}, {run.last:.2g} rad/s last, {run.braking:.2f} s to "
            f"rest, ended after {run.ended:.2f} s{', killed: ' + run.survivors if run.survivors else ''}",
            flush=True,
        )
        if json_path is not None:
            ones = [asdict(one) for one in runs]
            machine.write_json(json_path, {**document, **summary(runs), "runs": ones})

    controllers(controller_count, rng, told)
    graphs(graph_count, rng, told)
    bad = [run for run in runs if not run.good]
    print(f"{len(runs) - len(bad)} of {len(runs)} left the robot at rest.")
    sys.exit(1 if bad else 0)


def summary(runs: list[Run]) -> dict[str, Any]:
    """How many were left at rest, and the longest ways there."""
    result: dict[str, Any] = {}
    for what in dict.fromkeys(run.what for run in runs):
        ones = [run for run in runs if run.what == what]
        result[f"{what}s"] = {
            "count": len(ones),
            "at_rest": sum(run.good for run in ones),
            "by": dict(Counter(run.how for run in ones)),
            "fastest_at_signal": max(run.speed for run in ones),
            "longest_braking": max(run.braking for run in ones),
            "longest_end": max(run.ended for run in ones),
        }
    return result


if __name__ == "__main__":
    typer.run(main)
