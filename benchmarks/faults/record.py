"""What the controller commanded and said while a fault lasted, and the measures taken of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.evaluation.judge import Verdict, judge_setpoints
from vla_ros.evaluation.run_data import JointSamples, Setpoints
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, SafetyState

MOVED = 1e-7
"""Commands further apart than this are a motion [rad]."""
EDGE = 0.1
"""Left out at both ends of what is judged [s]."""
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

    @classmethod
    def of(cls, message: Any) -> Setpoint:
        """A message that has just come."""
        return cls(
            time.monotonic(),
            message.tick,
            np.array(message.positions),
            np.array(message.velocities),
            np.array(message.accelerations),
            message.gripper_width,
            message.state,
            message.chunk_sequence,
        )


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
        setpoints = _setpoints(points, robot)
        if foreign or not points:
            return judge_setpoints(setpoints, robot)
        # at the edges a command may have been heard without its setpoint
        begin, end = points[0].at + EDGE, points[-1].at - EDGE
        commands = [command for command in list(self.commands) if begin < command.at < end]
        middle = np.full(len(commands), setpoints.stamps[len(points) // 2])
        positions = np.array([command.positions for command in commands]).reshape(-1, robot.dof)
        return judge_setpoints(setpoints, robot, JointSamples(middle, positions))

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


def _setpoints(points: list[Setpoint], robot: RobotSpec) -> Setpoints:
    """For the judge, on the grid of the ticks.

    Neither when they came nor their stamps would do: a busy machine delivers them in bursts, and the clock of
    the stamps may jump.  A new beginning of the count is put far away, so that it is seen as one.
    """
    dof, period = robot.dof, round(NANOSECONDS / robot.simulated_control_rate)
    ticks = np.array([p.tick for p in points], np.int64)
    steps = np.diff(ticks)
    stamps = np.concatenate([[NANOSECONDS], np.where(steps > 0, steps * period, 2 * NANOSECONDS)])
    stamps = np.cumsum(stamps[: len(points)], dtype=np.int64)
    return Setpoints(
        stamps,
        stamps,
        ticks,
        np.array([p.positions for p in points]).reshape(-1, dof),
        np.array([p.velocities for p in points]).reshape(-1, dof),
        np.array([p.accelerations for p in points]).reshape(-1, dof),
        np.array([p.width for p in points]),
        np.array([p.state for p in points], np.int64),
        np.array([p.sequence for p in points], np.int64),
    )
