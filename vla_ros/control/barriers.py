"""Barriers: where the robot must not be, as signed margins with gradients.

A margin is positive inside the allowed region.  The inverse kinematics slows down along the gradients of what
is near; the shield checks the margins alone, along every stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.reach import lever_arms
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Reason


@dataclass(frozen=True)
class Near:
    """One margin that is close to zero: metres, its derivative by the joints (n,), and what it is about."""

    margin: float
    gradient: Array
    subject: str


class Barrier(Protocol):
    """One kind of forbidden region."""

    @property
    def reason(self) -> Reason:
        """Reason code of interventions by this barrier."""
        ...

    def margins(self, q: Array, width: float) -> Array:
        """(m,) signed margins [m] at joint positions (n,) [rad] and gripper opening [m]."""
        ...

    def near(self, q: Array, width: float) -> list[Near]:
        """Margins that call for slowing down."""
        ...

    def subject(self, index: int) -> str:
        """What margin `index` is about."""
        ...

    @property
    def reach(self) -> Array:
        """(m, n) bound on how fast each margin can change with each joint, anywhere [m/rad]."""
        ...


class WorkspaceBarrier:
    """Keeps the tool centre point inside the workspace box."""

    reason = Reason.WORKSPACE
    slow = 0.08
    """Slow-down begins at this margin [m]."""

    def __init__(self, spec: RobotSpec, kinematics: Kinematics) -> None:
        """Box of `spec.workspace`, base frame."""
        self._box, self._kinematics = spec.workspace, kinematics
        self.reach = np.tile(lever_arms(kinematics.model, spec.tcp_frame), (6, 1))

    def margins(self, q: Array, width: float) -> Array:
        """(6,): distance to the lower, then the upper bound along x, y, z."""
        position, _ = self._kinematics.placement(q)
        return np.concatenate([position - self._box.minimum, self._box.maximum - position])

    def near(self, q: Array, width: float) -> list[Near]:
        """Faces closer than `slow`."""
        margins = self.margins(q, width)
        close = np.flatnonzero(margins < self.slow)
        if len(close) == 0:
            return []
        jacobian = self._kinematics.jacobian(q)
        return [
            Near(float(margins[i]), jacobian[i % 3] * (1.0 if i < 3 else -1.0), self.subject(int(i)))
            for i in close
        ]

    def subject(self, index: int) -> str:
        """Such as "tcp x max"."""
        return f"tcp {'xyz'[index % 3]} {'min' if index < 3 else 'max'}"


class FloorBarrier:
    """Keeps tool, fingers, forearm and elbow above the floor."""

    reason = Reason.FLOOR
    slow = 0.08

    def __init__(self, collision: CollisionModel) -> None:
        """Bodies and floor of the collision model."""
        self._collision = collision
        self.reach = collision.floor_reach()

    def margins(self, q: Array, width: float) -> Array:
        """(bodies,) heights of the lowest points above the floor, at the worst opening of the gripper."""
        return self._collision.least_floor_heights(q, width)

    def near(self, q: Array, width: float) -> list[Near]:
        """Bodies lower than `slow`."""
        margins = self.margins(q, width)
        return [
            Near(float(margins[i]), self._collision.floor_gradient(int(i)), self.subject(int(i)))
            for i in np.flatnonzero(margins < self.slow)
        ]

    def subject(self, index: int) -> str:
        """The link."""
        return self._collision.floor_links[index]


class SelfCollisionBarrier:
    """Keeps the robot's own bodies apart by `spec.collision.stop_distance`."""

    reason = Reason.SELF_COLLISION

    def __init__(self, spec: RobotSpec, collision: CollisionModel) -> None:
        """Distances of the collision model, zones of the robot's YAML."""
        self._collision = collision
        self._stop = spec.collision.stop_distance
        self._slow = spec.collision.slow_distance - spec.collision.stop_distance
        self._pairs = [f"{a} - {b}" for a, b in collision.pairs]
        self.reach = collision.pair_reach()

    def margins(self, q: Array, width: float) -> Array:
        """(pairs,) distances beyond the stop distance."""
        return self._collision.distances(q, width) - self._stop

    def near(self, q: Array, width: float) -> list[Near]:
        """Pairs inside the slow-down zone."""
        margins = self.margins(q, width)
        return [
            Near(float(margins[i]), self._collision.gradient(int(i)), self.subject(int(i)))
            for i in np.flatnonzero(margins < self._slow)
        ]

    def subject(self, index: int) -> str:
        """The two links."""
        return self._pairs[index]


def make_barriers(spec: RobotSpec, kinematics: Kinematics) -> Sequence[Barrier]:
    """Workspace, floor and self-collision of a robot."""
    collision = CollisionModel(spec)
    return [
        WorkspaceBarrier(spec, kinematics),
        FloorBarrier(collision),
        SelfCollisionBarrier(spec, collision),
    ]
