"""Streams made to break the safety controller, judged by code that shares nothing with it.

`python benchmarks/adversary.py --ticks 200000 --json benchmarks/results/adversary.json`.  Every episode
starts somewhere allowed (home, in the workspace, beside joint limits), follows one hostile stream with one
kind of fault, and is judged from its setpoints: finite differences, own kinematics and distances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import machine
from vla_ros.actions import rotations
from vla_ros.commands.shared import plain_errors
from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.evaluation.judge import Verdict, judge_setpoints
from vla_ros.evaluation.run_data import Setpoints
from vla_ros.robots import robot_names
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, Array, JointState, SafetyState

SECONDS = 8.0
START = 10**9 * NANOSECONDS

Steps = Callable[[np.random.Generator, int, int], tuple[Array, Array]]
"""(random, number of the chunk, horizon) -> translations (horizon, 3) [m], rotation vectors (horizon, 3)."""


def _random(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    size = random.choice([0.003, 0.02, 0.06])
    return random.normal(size=(horizon, 3)) * size, random.normal(size=(horizon, 3)) * 3 * size


def _extreme(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    way = np.random.default_rng(number // 6).normal(size=3)
    way *= 0.05 / np.abs(way).max()
    return np.tile(way, (horizon, 1)), np.tile(5 * way, (horizon, 1))


def _oscillating(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    sign = np.where((np.arange(horizon) + number) % 2, 1.0, -1.0)[:, None]
    return sign * np.array([[0.05, 0.05, 0.05]]), sign * np.array([[0.25, -0.25, 0.25]])


def _contradictory(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    sign = 1.0 if number % 2 else -1.0
    return np.tile([[0.04 * sign, -0.04 * sign, 0.03]], (horizon, 1)), np.tile(
        [[0, 0, 0.2 * sign]], (horizon, 1)
    )


def _diving(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    return np.tile([[0.0, 0.0, -0.05]], (horizon, 1)), random.normal(size=(horizon, 3)) * 0.05


def _tokens(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    """What a policy of random weights answers: uniform bins, un-normalised."""
    return random.integers(-127, 128, (horizon, 3)) / 127 * 0.05, random.integers(
        -127, 128, (horizon, 3)
    ) / 127 * 0.25


STREAMS: dict[str, Steps] = {
    "random": _random,
    "extreme": _extreme,
    "oscillating": _oscillating,
    "contradictory": _contradictory,
    "diving": _diving,
    "tokens": _tokens,
}
FAULTS = ("none", "late", "teleport", "nan", "hands", "joints")


def start_posture(random: np.random.Generator, spec: RobotSpec, collision: CollisionModel) -> Array:
    """Home, or a collision-free posture inside the workspace, some of its joints beside their limits."""
    kinematics = Kinematics(spec)
    limits, box = spec.applied, spec.workspace
    if random.random() < 0.3:
        return spec.home
    for _ in range(200):
        q = np.clip(spec.home + random.normal(size=spec.dof) * 0.5, limits.position_min, limits.position_max)
        beside = random.random(spec.dof) < 0.15
        edge = np.where(random.random(spec.dof) < 0.5, limits.position_min, limits.position_max)
        q = np.where(beside & (np.abs(edge - q) < 1.0), edge, q)
        position, _ = kinematics.placement(q)
        inside = (position > box.minimum).all() and (position < box.maximum).all()
        width = spec.gripper.max_width
        free = collision.distances(q, width).min() > spec.collision.stop_distance
        if inside and free and collision.floor_heights(q, width).min() > 0.0:
            return np.asarray(q)
    return spec.home


class Episode:
    """One hostile stream against a controller whose robot follows it."""

    def __init__(
        self, controller: SafetyController, random: np.random.Generator, stream: str, fault: str
    ) -> None:
        self.controller, self.random, self.fault = controller, random, fault
        self.steps = STREAMS[stream]
        self.spec = controller.spec
        self.number = 0
        self.reasons: Counter[str] = Counter()

    def run(self, q: Array) -> Setpoints:
        """Setpoints of `SECONDS` from posture `q`."""
        controller, random, period = self.controller, self.random, self.controller.period
        zero = np.zeros(self.spec.dof)
        controller.activate(JointState(START, q, zero, zero[:0]), self.spec.gripper.max_width, 0.0)
        rows: list[tuple[int, int, Array, float, int]] = []
        following, lag = 0.3, [q] * 3
        for tick in range(1, round(SECONDS / period) + 1):
            time = tick * period
            now = START + round(time * NANOSECONDS)
            measured = JointState(now, self._measured(lag[-3]), zero, zero[:0])
            if time >= following:
                self._submit(time, now)
                following = time + float(random.uniform(0.03, 0.5))
            self._hands(time, measured)
            result = controller.update(time, now, measured, 0.002 if random.random() > 0.001 else 0.3)
            lag = [*lag[-2:], result.setpoint.positions]
            for item in result.interventions:
                self.reasons[f"{item.action.name.lower()} {item.reason.value}"] += 1
            point = result.setpoint
            rows.append((now, tick, point.positions, point.gripper_width, int(result.state)))
        return _setpoints(rows)

    def _measured(self, q: Array) -> Array:
        if self.fault == "teleport" and self.random.random() < 0.002:
            return q + self.random.normal(size=len(q)) * 0.5
        return q

    def _submit(self, time: float, now: int) -> None:
        random = self.random
        self.number += 1
        horizon = int(random.integers(1, 17))
        translation, vectors = self.steps(random, self.number, horizon)
        delay = float(random.uniform(-0.02, 1.0 if self.fault == "late" else 0.3))
        if self.fault == "nan" and random.random() < 0.02:
            translation[random.integers(horizon)] = random.choice([np.nan, np.inf])
        widths = random.uniform(-0.02, 0.12, horizon)
        kind, joints = ActionKind.CARTESIAN_DELTA, None
        if self.fault == "joints":
            kind = ActionKind.JOINT_POSITION
            joints = self.spec.home + np.cumsum(random.normal(size=(horizon, self.spec.dof)) * 0.2, axis=0)
        period = float(random.choice([1 / 30, 0.1, 0.2]))
        chunk = ActionChunk(
            now - round(delay * NANOSECONDS), self.number, kind, period, widths,
            translation=translation, quaternion=rotations.exp(vectors), joints=joints,
        )  # fmt: skip
        self.controller.submit(chunk, time, now)

    def _hands(self, time: float, measured: JointState) -> None:
        controller, random = self.controller, self.random
        if controller.state in (SafetyState.STOPPED, SafetyState.FAULT) and random.random() < 0.02:
            controller.reset(measured, self.spec.gripper.max_width, time)
        if self.fault != "hands" or random.random() > 0.01:
            return
        choice = int(random.integers(5))
        if choice == 0:
            controller.emergency_stop("adversary")
        elif choice == 1:
            controller.pause(time)
        elif choice == 2:
            controller.resume(time)
        else:
            limits = self.spec.applied
            goal = random.uniform(limits.position_min, limits.position_max)
            controller.move_to_joints(goal if choice == 3 else self.spec.home, None, time)


def _setpoints(rows: list[tuple[int, int, Array, float, int]]) -> Setpoints:
    stamps, ticks, positions, widths, states = zip(*rows, strict=True)
    count = len(rows)
    nothing = np.zeros((count, len(positions[0])))
    integers = [np.array(values, dtype=np.int64) for values in (stamps, stamps, ticks)]
    return Setpoints(
        *integers, np.array(positions), nothing, nothing, np.array(widths),
        np.array(states, dtype=np.int64), np.zeros(count, dtype=np.int64),
    )  # fmt: skip


def attack(robot: str, ticks: int, seed: int = 0) -> Iterator[tuple[str, Verdict, Counter[str]]]:
    """Episodes against one robot until `ticks` ticks have been judged: name, verdict, interventions."""
    contract = load_contract(robot, simulated=True)
    controller = SafetyController(contract, 1.0 / contract.control_rate)
    collision = CollisionModel(contract.robot)
    names, done, number = list(STREAMS), 0, 0
    while done < ticks:
        random = np.random.default_rng([seed, number])
        stream, fault = names[number % len(names)], FAULTS[(number // len(names)) % len(FAULTS)]
        episode = Episode(controller, random, stream, fault)
        points = episode.run(start_posture(random, contract.robot, collision))
        yield f"{stream}/{fault}/{number}", judge_setpoints(points, contract.robot), episode.reasons
        done += len(points)
        number += 1


def attacked(robot: str, ticks: int, seed: int, say: Callable[[str], None] = print) -> dict[str, Any]:
    """All figures of one robot; every violation is said when it is found."""
    judged, violations, reasons = 0, Counter[str](), Counter[str]()
    peaks = np.zeros(3)
    for name, verdict, found in attack(robot, ticks, seed):
        judged += verdict.ticks
        violations += verdict.by_kind
        reasons += found
        peaks = np.maximum(peaks, verdict.peaks.max(axis=1))
        if verdict.violations:
            say(f"{robot} {name}: {verdict.sentence()}")
    say(f"{robot}: {judged} ticks, {sum(violations.values())} violations, peaks {np.round(peaks, 6)}")
    return {
        "ticks": judged,
        "violations": sum(violations.values()),
        "violations_by_kind": dict(violations),
        "peak_velocity": float(peaks[0]),
        "peak_acceleration": float(peaks[1]),
        "peak_jerk": float(peaks[2]),
        "interventions": dict(reasons.most_common()),
    }


@plain_errors
def main(
    robot: Annotated[list[str] | None, typer.Option(help="Robot; may be given several times.")] = None,
    ticks: Annotated[int, typer.Option(min=100, help="Ticks per robot.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the streams.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Attack the safety controller with hostile streams and count the limits it breaks."""
    document = {"benchmark": "adversary", "seed": seed, **machine.describe()}
    document["robots"] = {name: attacked(name, ticks, seed) for name in robot or robot_names()}
    if json_path is not None:
        machine.write_json(json_path, document)
    if any(figures["violations"] for figures in document["robots"].values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
