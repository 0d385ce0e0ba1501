"""What the phase machines decide on, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vla_ros.errors import PolicyError
from vla_ros.policies.visual_servo.motion import Goal
from vla_ros.policies.visual_servo.tool import Tool
from vla_ros.policies.visual_servo.tracking import Estimate, Tracker
from vla_ros.robots.spec import GripperSpec, Workspace
from vla_ros.types import NANOSECONDS, Pose

_EDGE = 0.01
"""So far outside the workspace a block can still be grasped at its middle [m]."""


class Phase(str, Enum):
    """What the policy is doing."""

    SEARCH = "search"
    REACH = "reach"
    CLOSE = "close"
    CARRY = "carry"
    PUSH = "push"
    OPEN = "open"
    RETREAT = "retreat"
    DONE = "done"


@dataclass(frozen=True)
class Body:
    """What does not change of the robot."""

    tool: Tool
    gripper: GripperSpec
    workspace: Workspace


@dataclass(frozen=True)
class Situation:
    """One moment, as observed."""

    stamp: int
    pose: Pose
    """Measured TCP."""
    yaw: float
    """Turn of the tool about base z from home [rad]."""
    width: float
    """Measured opening of the gripper [m]."""
    tracker: Tracker


@dataclass(frozen=True)
class Command:
    """What to do until the next observation."""

    goal: Goal | None
    """None: stay."""
    gripper: float
    """1 open, 0 closed."""
    phase: Phase
    done: bool = False


class GripperWatch:
    """Tells from measured widths alone when the fingers have come to rest, and whether they hold a block."""

    def __init__(self, gripper: GripperSpec, size: float) -> None:
        self._gripper = gripper
        self._size = size
        self._since = 0
        self._width = float("nan")

    def restart(self, now: Situation) -> None:
        """Forget the past; a movement is about to be asked for."""
        self._since, self._width = now.stamp, float("nan")

    def at_rest(self, now: Situation, dwell: float) -> bool:
        """Whether the width has stayed within 1 mm for `dwell` seconds."""
        if not abs(now.width - self._width) < 1e-3:
            self._since, self._width = now.stamp, now.width
        return (now.stamp - self._since) / NANOSECONDS >= dwell

    def holds(self, width: float) -> bool:
        """Whether a width is that of fingers on a block: not closed on nothing, not wide open."""
        least = max(0.5 * self._size, 0.5 * (self._gripper.min_width + self._size))
        return least < width < self._size + 0.012

    def is_open(self, width: float) -> bool:
        """Whether a width lets go of a block for certain."""
        return width > min(self._size + 0.015, self._gripper.max_width - 0.005)


def require_reachable(workspace: Workspace, estimate: Estimate) -> None:
    """Raise `PolicyError` when an object lies outside the workspace, where the tool is not let go."""
    low, high = workspace.minimum, workspace.maximum
    x, y = estimate.x, estimate.y
    if not (low[0] - _EDGE < x < high[0] + _EDGE and low[1] - _EDGE < y < high[1] + _EDGE):
        raise PolicyError(
            f"The {estimate.name} lies at x {x:.2f} m, y {y:.2f} m, outside the robot's workspace of "
            f"x {low[0]:.2f} to {high[0]:.2f} m, y {low[1]:.2f} to {high[1]:.2f} m."
        )


def neighbours(tracker: Tracker, of: Estimate) -> list[tuple[float, float]]:
    """Offsets (dx, dy) [m] of the other blocks from a block."""
    return [
        (other.x - of.x, other.y - of.y)
        for other in tracker.confirmed()
        if other.key != of.key and other.key[1] == "block"
    ]
