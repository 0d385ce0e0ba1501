"""Streams and faults made to break the safety controller, and one episode of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from vla_ros.actions import rotations
from vla_ros.control.controller import SafetyController
from vla_ros.evaluation.run_data import Setpoints
from vla_ros.robots.environment import Box, Cylinder, Obstacle, Plane, Sphere
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionKind,
    Array,
    Composition,
    JointState,
    Pose,
    SafetyState,
)

TICKS = 4000
"""Of an episode: 4 s at 1 kHz, 40 s at 100 Hz."""
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


def _sweeping(random: np.random.Generator, number: int, horizon: int) -> tuple[Array, Array]:
    """An oscillation whose frequency runs through all a chunk can hold: the arm's worst is among them."""
    turns = np.cumsum(np.full(horizon, 0.02 + 0.48 * (number % 24) / 23)) + 0.37 * number
    wave = np.sin(2.0 * np.pi * turns)[:, None]
    return wave * np.array([[0.05, -0.05, 0.04]]), wave * np.array([[0.25, 0.25, -0.25]])


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
    "sweeping": _sweeping,
    "contradictory": _contradictory,
    "diving": _diving,
    "tokens": _tokens,
}
FAULTS = ("none", "late", "clock", "teleport", "nan", "hands", "joints", "absolute", "measured", "numb")


def obstacles(random: np.random.Generator, controller: SafetyController, q: Array) -> list[Obstacle]:
    """Up to three things near the workspace, none where the robot stands."""
    box, found = controller.spec.workspace, list[Obstacle]()
    for number in range(int(random.integers(0, 4))):
        place = random.uniform(box.minimum - 0.1, box.maximum + 0.1)
        turn = rotations.exp(random.normal(size=3))
        name, size = f"thing {number}", random.uniform(0.02, 0.15, 3)
        thing: Obstacle = (
            Box(name=name, size=2 * size, pose=Pose(place, turn)),
            Sphere(name=name, radius=float(size[0]), position=place),
            Cylinder(name=name, radius=float(size[0]), length=float(2 * size[1]), pose=Pose(place, turn)),
            Plane(name=name, normal=np.array([0.0, -1.0, 0.0]), offset=-float(box.maximum[1]) - 0.15),
        )[int(random.integers(4))]
        controller.surround(controller.environment.prepare([thing]))
        if controller.environment.margins(q, controller.spec.gripper.max_width).min() > 0.005:
            found.append(thing)
    controller.surround(controller.environment.prepare(found))
    return found


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
        self.drift = float(random.uniform(-0.05, 0.05)) if fault == "clock" else 0.0
        self.kinematics = Kinematics(self.spec)
        self.numb_from, self.numb_until = np.inf, -np.inf

    def run(self, q: Array) -> Setpoints:
        """Setpoints of `TICKS` ticks from posture `q`."""
        controller, random, period = self.controller, self.random, self.controller.period
        zero = np.zeros(self.spec.dof)
        controller.activate(JointState(START, q, zero, zero[:0]), self.spec.gripper.max_width, 0.0)
        rows: list[tuple[int, int, Array, float, int]] = []
        following, lag = 0.3, [q] * 3
        for tick in range(1, TICKS + 1):
            time = tick * period
            now = START + round(time * NANOSECONDS)
            measured = self._sense(time, now, lag[-3])
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

    def _sense(self, time: float, now: int, q: Array) -> JointState:
        """The joint state, and what a robot that touches nothing feels; one that is numb ends to feel it."""
        if self.fault == "numb" and time >= self.numb_until:
            self.numb_from = time + float(self.random.uniform(0.2, 2.0))
            self.numb_until = self.numb_from + float(self.random.uniform(0.05, 0.5))
        q, zero, efforts = self._measured(q), np.zeros(self.spec.dof), np.zeros(0)
        scale = self.spec.contact.torque_per_effort
        if time < self.numb_from:
            if scale is not None:
                efforts = self.kinematics.torques(q, zero, zero) / scale
            if self.spec.contact.force is not None:
                self.controller.feel(np.zeros(3), time)
        measured = JointState(now, q, zero, efforts)
        self.controller.observe([measured])
        return measured

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
        if self.fault == "clock":
            # the policy's clock drifts, and jumps now and then
            delay += self.drift * time + (float(random.uniform(-2.0, 2.0)) if random.random() < 0.05 else 0.0)
        if self.fault == "nan" and random.random() < 0.02:
            translation[random.integers(horizon)] = random.choice([np.nan, np.inf])
        widths = random.uniform(-0.02, 0.12, horizon)
        kind, joints, composition = ActionKind.CARTESIAN_DELTA, None, Composition.PREVIOUS_TARGET
        quaternion = rotations.exp(vectors)
        if self.fault == "measured":
            composition = Composition.MEASURED
        if self.fault == "absolute":
            kind = ActionKind.CARTESIAN_ABSOLUTE
            box = self.spec.workspace
            translation = random.uniform(box.minimum - 0.2, box.maximum + 0.2) + np.cumsum(
                translation, axis=0
            )
        if self.fault == "joints":
            kind, size = ActionKind.JOINT_POSITION, random.choice([0.01, 0.05, 0.2])
            joints = self.spec.home + np.cumsum(random.normal(size=(horizon, self.spec.dof)) * size, axis=0)
        period = float(random.choice([1 / 30, 0.1, 0.2]))
        chunk = ActionChunk(
            now - round(delay * NANOSECONDS), self.number, kind, period, widths,
            translation=translation, quaternion=quaternion, joints=joints, composition=composition,
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
