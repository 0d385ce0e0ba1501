"""What the limits of tool, turning and elbow speed cost: `python -m benchmarks.speed_limits --json F`.

Two controllers of one robot, one of them without these limits, take turns tick by tick, so that whatever else
the machine does meets both alike.  What is timed is processor time of the thread, not time on the wall: the
work is the same on a busy machine.  The tool goes in circles, once far from its limit and once told to go
faster than it may.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import machine
from benchmarks.figures import MILLI, summary
from benchmarks.safety_subject import RADIUS, TURN, Subject
from benchmarks.tables import Document, Rows
from vla_ros.commands.shared import plain_errors
from vla_ros.control.motion import JointMotion, Stop
from vla_ros.robots import load_robot, robot_names
from vla_ros.types import Intervention, SafetyState

WARM_UP = 200
"""Cycles that are not counted."""
WIDE, ASKED = 0.08, 1.3
"""Radius of the fast circle [m], and its speed as a share of the limit."""
WITH, WITHOUT = "with the limits", "without"


class _Unlimited:
    """In the place of `SpeedLimits`: everything is slow enough."""

    def paced(self, proposal: JointMotion, present: JointMotion, found: list[Intervention]) -> JointMotion:
        """The proposal."""
        return proposal

    def objection(self, proposal: JointMotion, stop: Stop, present: JointMotion) -> Intervention | None:
        """None."""
        return None


def _without(subject: Subject) -> Subject:
    pipeline = subject.controller._pipeline
    pipeline.speeds = pipeline.shield._speeds = _Unlimited()  # type: ignore[assignment]
    return subject


def measure(robot: str, count: int, radius: float, turn: float) -> dict[str, Any]:
    """Processor time of `count` cycles with and without the limits [ms], on one circle."""
    subjects = {
        WITH: Subject(robot, radius=radius, turn=turn),
        WITHOUT: _without(Subject(robot, radius=radius, turn=turn)),
    }
    spent: dict[str, list[int]] = {name: [] for name in subjects}
    limited = 0
    gc.collect()
    gc.freeze()
    for number in range(count + WARM_UP):
        for name, subject in subjects.items():
            subject.prepare()
            begun = time.thread_time_ns()
            result = subject.tick()
            took = time.thread_time_ns() - begun
            subject.follow()
            if number >= WARM_UP:
                spent[name].append(took)
                limited += name == WITH and any("speed" in item.reason.value for item in result.interventions)
    gc.unfreeze()
    for name, subject in subjects.items():
        if subject.controller.state not in (SafetyState.RUNNING, SafetyState.LIMITED):
            raise RuntimeError(f"{robot}, {name}, ended {subject.controller.message}")
    found: dict[str, Any] = {
        name: summary(MILLI * np.array(v, float), tails=True) for name, v in spent.items()
    }
    found["limited_ticks"] = limited
    found["ratio_of_medians"] = round(found[WITH]["p50"] / found[WITHOUT]["p50"], 3)
    return found


def rows(document: Document) -> list[Rows]:
    """The table."""
    heads = [
        "", "ticks", "of them slowed for a speed",
        *(f"{name}: p50, p99, p99.9 [ms]" for name in (WITH, WITHOUT)), "ratio of medians",
    ]  # fmt: skip
    cells = [
        [
            f"{robot}, {circle}", f"{found[WITH]['count']:,}", f"{found['limited_ticks']:,}",
            *(
                ", ".join(f"{found[name][key]:.3f}" for key in ("p50", "p99", "p99.9"))
                for name in (WITH, WITHOUT)
            ),
            f"{found['ratio_of_medians']:.2f}",
        ]
        for robot, circles in document["robots"].items()
        for circle, found in circles.items()
    ]  # fmt: skip
    return [Rows("Processor time of a control cycle", heads, cells)]


@plain_errors
def main(
    robot: Annotated[list[str] | None, typer.Option(help="Robot; may be given several times.")] = None,
    count: Annotated[int, typer.Option("--cycles", min=10, help="Cycles to time for each.")] = 5000,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time control cycles with and without the limits of tool, turning and elbow speed."""
    document: dict[str, Any] = {"benchmark": "speed_limits", **machine.describe(), "robots": {}}
    for name in robot or robot_names():
        fastest = load_robot(name).tcp.speed
        document["robots"][name] = {
            "slow circle": measure(name, count, RADIUS, TURN),
            "circle too fast": measure(name, count, WIDE, 2.0 * np.pi * WIDE / (ASKED * fastest)),
        }
        for circle, found in document["robots"][name].items():
            print(f"{name}, {circle}: {found['ratio_of_medians']:.2f} times the median", flush=True)
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
