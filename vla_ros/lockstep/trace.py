"""What the strip made of one recorded episode, for comparing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_ros.control.controller import Tick
from vla_ros.errors import ActionError
from vla_ros.types import NANOSECONDS, ActionChunk, Array, SafetyState

LATCHED = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)


@dataclass
class Trace:
    """One episode as the strip made it; times are relative to `start` [ns]."""

    episode_id: str
    instruction: str
    start: int
    ticks: list[int] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    velocities: list[Array] = field(default_factory=list)
    accelerations: list[Array] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    observations: list[tuple[int, Array]] = field(default_factory=list)
    """(time, joints with the opening behind them)"""
    outputs: list[tuple[int, Array]] = field(default_factory=list)
    """(stamp, values or tokens)"""
    chunks: list[tuple[int, Array]] = field(default_factory=list)
    """(stamp, one row a step: pose or joints, opening)"""
    interventions: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """Why frames, outputs or chunks were not used."""

    @property
    def seconds(self) -> float:
        """Length."""
        return (self.ticks[-1] - self.ticks[0]) / NANOSECONDS if self.ticks else 0.0

    @property
    def stopped_after(self) -> int | None:
        """Tick of the episode from which on the controller has stopped for good; None: it never did."""
        return next((n for n, state in enumerate(self.states) if state in LATCHED), None)

    @property
    def stopped(self) -> float:
        """Share of the ticks in which the controller had stopped for good."""
        return sum(state in LATCHED for state in self.states) / max(len(self.states), 1)

    @property
    def moving(self) -> float:
        """Share of the ticks in which a joint was commanded to move."""
        if not self.velocities:
            return 0.0
        return float((np.abs(self.velocities).max(axis=1) > 0.0).mean())

    def keep(self, now: int, tick: Tick, sequence: int) -> None:
        """One tick at `now` [ns]; `sequence` of the chunk in force."""
        setpoint = tick.setpoint
        self.ticks.append(now - self.start)
        self.positions.append(setpoint.positions)
        self.velocities.append(setpoint.velocities)
        self.accelerations.append(setpoint.accelerations)
        self.widths.append(setpoint.gripper_width)
        self.states.append(int(tick.state))
        self.sequences.append(sequence)
        for item in tick.interventions:
            key = f"{item.action.name} {item.reason.value} {item.subject}".strip()
            self.interventions[key] = self.interventions.get(key, 0) + 1


def chunk_rows(chunk: ActionChunk) -> Array:
    """A chunk as numbers, a row a step: pose (7) or joints (n), then the opening [m]."""
    if chunk.joints is not None:
        body: Array = chunk.joints
    elif chunk.translation is not None and chunk.quaternion is not None:
        body = np.hstack([chunk.translation, chunk.quaternion])
    else:
        raise ActionError(f"chunk {chunk.sequence} holds neither poses nor joints")
    return np.hstack([body, chunk.gripper_width[:, None]])
