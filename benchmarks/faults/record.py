"""What the controller commanded and said while a fault lasted, and the measures taken of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.evaluation.judge import Verdict, judge_setpoints
from vla_ros.evaluation.run_data import JointSamples, Setpoints
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, SafetyState

MOVED = 1e-7
"""Commands further apart than this are a motion [rad]."""
GONE = 0.5
"""Without a status for longer the controller is gone [s]."""


@dataclass(frozen=True)
class Command:
    """One message on the driver's command topic."""

    at: float
    """When it came [s], monotonic."""
    positions: Array


@dataclass(frozen=True)
class Status:
    """One SafetyStatus."""

    at: float
    state: SafetyState
    message: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Setpoint:
    """One JointSetpoint."""

    at: float
    tick: int
    positions: Array
    velocities: Array
    accelerations: Array
    width: float
    state: int
    sequence: int


class Recording:
    """Everything heard, appended by the executor's thread, read by the bench's."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.setpoints: list[Setpoint] = []
        self.statuses: list[Status] = []

    def last_motion(self, since: float, foreign: bool = False) -> float:
        """When the command last changed after `since` [s]; `since` when it did not."""
        return max((at for at, step in self._steps(since, foreign) if step.max() > MOVED), default=since)

    def travel(self, since: float, foreign: bool = False) -> Array:
        """How far each joint was commanded after `since` (n,) [rad]; what others commanded is left out."""
        steps = [step for _, step in self._steps(since, foreign)]
        return np.asarray(np.sum(steps, axis=0)) if steps else np.zeros(1)

    def state(self) -> str:
        """The controller's state now; GONE when it says nothing."""
        if not self.statuses or time.monotonic() - self.statuses[-1].at > GONE:
            return "GONE"
        return self.statuses[-1].state.name

    def reasons(self, since: float) -> list[str]:
        """Reasons of the interventions after `since`, each once."""
        said = (reason for status in list(self.statuses) if status.at > since for reason in status.reasons)
        return sorted(set(said))

    def judge(self, robot: RobotSpec, since: float, foreign: bool) -> Verdict:
        """Every limit, by code that the controller does not share; `foreign`: others command too."""
        points = [point for point in list(self.setpoints) if point.at > since]
        commands = [command for command in list(self.commands) if command.at > since]
        sent = JointSamples(
            _nanoseconds(commands),
            np.array([c.positions for c in commands]).reshape(-1, robot.dof),
        )
        return judge_setpoints(_setpoints(points, robot.dof), robot, None if foreign else sent)

    def _steps(self, since: float, foreign: bool) -> list[tuple[float, Array]]:
        """When each command after `since` came, and how far it moved each joint."""
        heard: list[Command] | list[Setpoint] = self.setpoints if foreign else self.commands
        end = begin = len(heard)
        while begin > 0 and heard[begin - 1].at > since:
            begin -= 1
        recent = heard[max(0, begin - 1) : end]
        return [
            (b.at, np.abs(b.positions - a.positions)) for a, b in zip(recent[:-1], recent[1:], strict=True)
        ]


def _nanoseconds(heard: Sequence[Command | Setpoint]) -> NDArray[np.int64]:
    """When they came [ns]: not their stamps, because the clock of those may jump."""
    return np.array([one.at * NANOSECONDS for one in heard], np.int64)


def _setpoints(points: list[Setpoint], dof: int) -> Setpoints:
    stamps = _nanoseconds(points)
    return Setpoints(
        stamps,
        stamps,
        np.array([p.tick for p in points], np.int64),
        np.array([p.positions for p in points]).reshape(-1, dof),
        np.array([p.velocities for p in points]).reshape(-1, dof),
        np.array([p.accelerations for p in points]).reshape(-1, dof),
        np.array([p.width for p in points]),
        np.array([p.state for p in points], np.int64),
        np.array([p.sequence for p in points], np.int64),
    )
