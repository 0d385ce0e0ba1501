"""What a person asks for at an instant, whatever the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from vla_ros.types import Array, Pose


class Press(Enum):
    """Keys and buttons that mean something once, when they go down."""

    GRIPPER = "gripper"
    """Open it when it is closed, close it when it is open."""
    FASTER = "faster"
    SLOWER = "slower"
    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    TAKE_OVER = "take over"
    HAND_BACK = "hand back"
    ENGAGE = "engage"
    """Engage or let go, where no switch is held (leader arms)."""
    HELP = "help"


def _nothing() -> Array:
    return np.zeros(3)


@dataclass(frozen=True)
class Command:
    """One reading of a device."""

    linear: Array = field(default_factory=_nothing)
    """(3,) along the base axes, each within [-1, 1] of the speed level; [m/s] when `physical`."""
    angular: Array = field(default_factory=_nothing)
    """(3,) about the base axes, likewise; [rad/s] when `physical`."""
    engaged: bool = False
    """Whether the dead-man switch is held; without it nothing moves."""
    presses: tuple[Press, ...] = ()
    level: int | None = None
    """A speed level that was chosen directly (0-based)."""
    physical: bool = False
    """Whether the motion is in units, not in shares of the speed level."""
    joints: Array | None = None
    """(n,) positions [rad] of a leader arm, in the robot's own joints."""
    pose: Pose | None = None
    """Where the tool is to be by the next action, base frame, of a device that knows where that is."""
    width: float | None = None
    """Opening of the gripper [m] that the device itself shows (a leader's trigger)."""


class Device(Protocol):
    """A thing a person moves the robot with."""

    name: str
    dead_man: bool
    """Whether a switch is held: when it is let go, motion not yet sent is forgotten."""
    keys: tuple[tuple[str, str], ...]
    """What to press, and what it does."""

    def open(self) -> None:
        """Raises `MachineError`, one plain sentence, when it is not there."""
        ...

    def read(self, now: float) -> Command:
        """What is asked for at `now` [s] (monotonic), without waiting.  `MachineError`: it has gone."""
        ...

    def close(self) -> None:
        """Leave everything as it was found; may be called twice."""
        ...


def cut(vector: Array) -> Array:
    """Each component within [-1, 1], and nothing that is not finite."""
    return np.clip(np.where(np.isfinite(vector), vector, 0.0), -1.0, 1.0)
