"""One cycle of the safety controller, stage by stage, with bare inverse kinematics beside it.

`python benchmarks/safety_cycle.py --json benchmarks/results/safety_cycle.json`; docs/benchmarks.md says how.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import daqp
import numpy as np
import pinocchio as pin
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.figures import MILLI, summary
from benchmarks.safety_loop import loops, memory
from benchmarks.safety_subject import Subject
from benchmarks.tables import safety_tables
from vla_ros.commands.shared import plain_errors
from vla_ros.control.controller import SafetyController
from vla_ros.robots import robot_names
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

STAGES = {
    "reference": (("executor", "sample"), ("_pipeline.cartesian", "step")),
    "inverse kinematics": (("_pipeline.ik", "follow_pose"),),
    "tracker": (("_pipeline.tracker", "step"),),
    "torque and contact": (
        ("_pipeline.torque", "refusal"),
        ("supervision", "look"),
        ("supervision", "observe"),
    ),
    "shield": (("_pipeline.shield", "judge"),),
}
"""Methods of the controller's parts that make up a stage; the rest of `update` is the rest."""
LOOP_RATES, MEMORY_RATE = (500.0, 1000.0), 1000.0
"""[Hz]"""
WARM_UP = 200
"""Cycles that are not counted."""


class Clock:
    """Nanoseconds spent in each stage of the present cycle."""

    def __init__(self, controller: SafetyController) -> None:
        """Put a stopwatch around every stage's methods."""
        self.spent = dict.fromkeys(STAGES, 0)
        for stage, methods in STAGES.items():
            for part, method in methods:
                owner = attrgetter(part)(controller)
                setattr(owner, method, self._timed(stage, getattr(owner, method)))

    def _timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any) -> Any:
            begun = time.perf_counter_ns()
            result = call(*args)
            self.spent[stage] += time.perf_counter_ns() - begun
            return result

        return timed


def cycles(robot: str, count: int) -> dict[str, Any]:
    """Times of `count` cycles of a robot's controller while its tool circles: summaries [ms] by stage.

    The whole cycle is timed in a run of its own, without stopwatches inside.
    """
    whole = _whole(Subject(robot), count)
    subject = Subject(robot)
    spec = subject.spec
    clock = Clock(subject.controller)
    columns: dict[str, list[int]] = {"whole cycle": whole, **{name: [] for name in (*STAGES, "rest")}}
    naked = NakedKinematics(spec, subject.period)
    bare = []
    interventions = 0
    gc.collect()
    gc.freeze()
    for tick in range(1, count + WARM_UP + 1):
        subject.prepare()
        clock.spent = dict.fromkeys(STAGES, 0)
        begun = time.perf_counter_ns()
        result = subject.tick()
        spent_all = time.perf_counter_ns() - begun
        subject.follow()
        begun = time.perf_counter_ns()
        naked.step(result.setpoint.positions)
        spent_bare = time.perf_counter_ns() - begun
        if tick <= WARM_UP:
            continue
        bare.append(spent_bare)
        interventions += bool(result.interventions)
        for name, spent in clock.spent.items():
            columns[name].append(spent)
        columns["rest"].append(spent_all - sum(clock.spent.values()))
    gc.unfreeze()
    columns["bare inverse kinematics (pinocchio, daqp)"] = bare
    return {
        "rate": subject.rate,
        "cycles": count,
        **subject.describe(),
        "cycles_with_interventions": interventions,
        "end_state": subject.controller.state.name,
        "stages_ms": {name: summary(MILLI * np.array(v, float), tails=True) for name, v in columns.items()},
    }


def _whole(subject: Subject, count: int) -> list[int]:
    """Nanoseconds of each of `count` cycles."""
    spent = []
    gc.collect()
    gc.freeze()
    for tick in range(count + WARM_UP):
        subject.prepare()
        begun = time.perf_counter_ns()
        subject.tick()
        if tick >= WARM_UP:
            spent.append(time.perf_counter_ns() - begun)
        subject.follow()
    gc.unfreeze()
    return spent


class NakedKinematics:
    """What any differential inverse kinematics must do: Jacobian, error, one box-bounded programme."""

    def __init__(self, spec: RobotSpec, period: float) -> None:
        """Aims at the home pose."""
        kinematics = Kinematics(spec)
        self._model, self._data = kinematics.model, kinematics.model.createData()
        self._frame = self._model.getFrameId(spec.tcp_frame)
        pin.framesForwardKinematics(self._model, self._data, spec.home)
        self._goal = self._data.oMf[self._frame].copy()
        self._bound = spec.applied.velocity
        self._damping = 1e-3 * np.eye(spec.dof)
        self._rows, self._sense = np.zeros((0, spec.dof)), np.zeros(spec.dof, np.int32)

    def step(self, q: Array) -> Array:
        """Joint velocities (n,) [rad/s] towards the goal."""
        jacobian = pin.computeFrameJacobian(self._model, self._data, q, self._frame, pin.LOCAL_WORLD_ALIGNED)
        placement = self._data.oMf[self._frame]
        error = np.concatenate(
            [
                self._goal.translation - placement.translation,
                pin.log3(self._goal.rotation @ placement.rotation.T),
            ]
        )
        hessian = jacobian.T @ jacobian + self._damping
        gradient = -jacobian.T @ (10.0 * error)
        solution, _, _, _ = daqp.solve(hessian, gradient, self._rows, self._bound, -self._bound, self._sense)
        return np.asarray(solution)


@plain_errors
def main(
    robot: Annotated[list[str] | None, typer.Option(help="Robot; may be given several times.")] = None,
    count: Annotated[int, typer.Option("--cycles", min=10, help="Cycles to time per robot.")] = 5000,
    loop_seconds: Annotated[
        float, typer.Option(min=0.0, help="Run 500 Hz and 1 kHz loops so long each.")
    ] = 0.0,
    memory_minutes: Annotated[float, typer.Option(min=0.0, help="Watch memory in a loop for so long.")] = 0.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time the safety controller's cycle, stage by stage, back to back in one process, then in its loop."""
    document = {"benchmark": "safety_cycle", **machine.describe()}
    names = robot or robot_names()
    document["robots"] = {name: cycles(name, count) for name in names}
    if loop_seconds:
        document["loops"] = loops(names[0], LOOP_RATES, loop_seconds)
    if memory_minutes:
        document["memory"] = memory(names[0], MEMORY_RATE, memory_minutes)
    Console().print(*safety_tables(document), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
