"""Streams made to break the safety controller, judged by code that shares nothing with it.

`python benchmarks/adversary.py --ticks 200000 --json benchmarks/results/adversary.json`.  Every episode
starts somewhere allowed (home, in the workspace, beside limits of joints and workspace, among obstacles),
follows one hostile stream with one kind of fault, one blending, at the rate of the hardware or of the
simulation, and is judged from its setpoints: finite differences, own kinematics and distances.  Franka's
commands also go through the checks that FCI makes.  With `--resume` the episodes go on where the file ends.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks import machine
from benchmarks.adversary_streams import FAULTS, STREAMS, TICKS, Episode, obstacles
from vla_ros.commands.shared import plain_errors
from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.judge import Verdict, judge_setpoints
from vla_ros.evaluation.run_data import Setpoints
from vla_ros.execution.blending import make_blending
from vla_ros.robots import robot_names
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.fci import first_reflex
from vla_ros.types import Array, SafetyState

BLENDINGS = ("replace", "temporal_ensemble", "rtc")
PEAKS = ("velocity", "acceleration", "jerk", "tool", "turn", "elbow")
"""Of joints; speeds of tool, turning and elbow: greatest shares of their limits."""
SAVE_EVERY = 20.0
"""Seconds between two writings of the results."""


class Found(NamedTuple):
    """One episode, judged."""

    robot: str
    name: str
    verdict: Verdict
    reasons: Counter[str]
    reflexes: tuple[str, ...]
    """Errors that FCI would have answered the commands with; empty for robots without it."""


@cache
def _controller(robot: str, simulated: bool) -> SafetyController:
    contract = load_contract(robot, simulated=simulated)
    return SafetyController(contract, 1.0 / contract.control_rate)


@cache
def _models(robot: str) -> tuple[CollisionModel, Kinematics]:
    spec = load_contract(robot).robot
    return CollisionModel(spec), Kinematics(spec)


def start_posture(random: np.random.Generator, spec: RobotSpec) -> Array:
    """Home, or a free posture inside the workspace, some of its joints, or its tool, beside their limits."""
    collision, kinematics = _models(spec.name)
    limits, box = spec.applied, spec.workspace
    if random.random() < 0.2:
        return spec.home
    at_face, chosen, least = random.random() < 0.4, spec.home, np.inf
    for attempt in range(200):
        q = np.clip(spec.home + random.normal(size=spec.dof) * 0.5, limits.position_min, limits.position_max)
        beside = random.random(spec.dof) < 0.15
        edge = np.where(random.random(spec.dof) < 0.5, limits.position_min, limits.position_max)
        q = np.where(beside & (np.abs(edge - q) < 1.0), edge, q)
        position, _ = kinematics.placement(q)
        margin = float(min((position - box.minimum).min(), (box.maximum - position).min()))
        width = spec.gripper.max_width
        if (
            not 0.0 < margin < least
            or collision.least_distances(q, width).min() <= spec.collision.stop_distance
        ):
            continue
        if collision.floor_heights(q, width).min() > 0.0:
            chosen, least = np.asarray(q), margin
            if not at_face or margin < 0.01 or attempt > 100:
                break
    return chosen


def episode(robot: str, seed: int, number: int) -> Found:
    """Play and judge one episode."""
    random = np.random.default_rng([seed, number])
    names = list(STREAMS)
    stream, fault = names[number % len(names)], FAULTS[(number // len(names)) % len(FAULTS)]
    blending = BLENDINGS[number % len(BLENDINGS)]
    controller = _controller(robot, simulated=number % 4 != 0)
    controller.executor.blending = make_blending(blending)
    spec = controller.spec
    q = start_posture(random, spec)
    around = obstacles(random, controller, q)
    played = Episode(controller, random, stream, fault)
    points = played.run(q)
    judged = replace(spec, environment=replace(spec.environment, obstacles=tuple(around)))
    verdict = judge_setpoints(points, judged)
    name = f"{robot} {stream}/{fault}/{blending}/{number}"
    return Found(robot, name, verdict, played.reasons, _reflexes(points, spec, controller.period))


def _reflexes(points: Setpoints, spec: RobotSpec, period: float) -> tuple[str, ...]:
    if spec.driver.kind != "franka_ros2":
        return ()
    latched = np.isin(points.states, (SafetyState.STOPPED, SafetyState.FAULT))
    rests = np.flatnonzero(latched[:-1] & ~latched[1:]) + 1
    reflex = first_reflex(points.positions, spec.published, period, rests.tolist())
    return () if reflex is None else (f"{reflex.error} of joint {reflex.joint + 1} at row {reflex.index}",)


def attack(robot: str, ticks: int, seed: int = 0) -> Iterator[Found]:
    """Episodes against one robot until `ticks` ticks have been judged."""
    done, number = 0, 0
    while done < ticks:
        found = episode(robot, seed, number)
        yield found
        done += found.verdict.ticks
        number += 1


def _empty() -> dict[str, Any]:
    return {
        "ticks": 0, "episodes": 0, "violations": 0, "violations_by_kind": {}, "fci_reflexes": 0,
        **{f"peak_{name}": 0.0 for name in PEAKS}, "interventions": {},
    }  # fmt: skip


def add(figures: dict[str, Any], found: Found) -> None:
    """Count one episode."""
    verdict = found.verdict
    figures["ticks"] += verdict.ticks
    figures["episodes"] += 1
    figures["violations"] += len(verdict.violations)
    figures["fci_reflexes"] += len(found.reflexes)
    figures["violations_by_kind"] = dict(Counter(figures["violations_by_kind"]) + verdict.by_kind)
    figures["interventions"] = dict((Counter(figures["interventions"]) + found.reasons).most_common())
    shares = (np.inf,) * 3 if verdict.speeds is None else verdict.speeds.shares
    peaks = (*verdict.peaks.max(axis=1), *shares)
    for name, peak in zip(PEAKS, peaks, strict=True):
        figures[f"peak_{name}"] = max(figures[f"peak_{name}"], float(peak))


def _neediest(figures: dict[str, dict[str, Any]], begun: Counter[str], ticks: int) -> str | None:
    """The robot that is furthest from `ticks`, those under way counted; None when all have enough."""
    robot = min(figures, key=lambda name: begun[name])
    return robot if begun[robot] * TICKS < ticks else None


@plain_errors
def main(
    robot: Annotated[list[str] | None, typer.Option(help="Robot; may be given several times.")] = None,
    ticks: Annotated[int, typer.Option(min=100, help="Ticks per robot.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the streams.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.0, help="End after so long; 0: no limit.")] = 0.0,
    resume: Annotated[bool, typer.Option(help="Go on where the file of --json ends.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Attack the safety controller with hostile streams and count the limits it breaks."""
    document = {"benchmark": "adversary", "seed": seed, **machine.describe()}
    figures = {name: _empty() for name in robot or robot_names()}
    if resume and json_path is not None and json_path.exists():
        known = json.loads(json_path.read_text())
        if known["seed"] != seed:
            raise ConfigurationError(f"{json_path} was made with seed {known['seed']}, not {seed}.")
        figures.update({name: known["robots"][name] for name in figures if name in known["robots"]})
    document["robots"] = figures
    deadline = time.monotonic() + (60.0 * minutes or 1e9)
    saved = time.monotonic()
    begun = Counter({name: int(known["episodes"]) for name, known in figures.items()})
    running: deque[AsyncResult[Found]] = deque()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        while True:
            name = _neediest(figures, begun, ticks) if time.monotonic() < deadline else None
            if name is not None:
                running.append(pool.apply_async(episode, (name, seed, begun[name])))
                begun[name] += 1
            if name is None and not running:
                break
            if name is not None and len(running) < 2 * workers:
                continue
            found = running.popleft().get()
            add(figures[found.robot], found)
            if found.verdict.violations or found.reflexes:
                print(f"{found.name}: {found.verdict.sentence()} {' '.join(found.reflexes)}", flush=True)
            if json_path is not None and time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                machine.write_json(json_path, document)
    if json_path is not None:
        machine.write_json(json_path, document)
    for name, known in figures.items():
        print(
            f"{name}: {known['ticks']} ticks, {known['violations']} violations, "
            f"{known['fci_reflexes']} reflexes, "
            f"peaks {known['peak_velocity']:.6f} {known['peak_acceleration']:.6f} {known['peak_jerk']:.6f}"
        )
    if any(known["violations"] or known["fci_reflexes"] for known in figures.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
