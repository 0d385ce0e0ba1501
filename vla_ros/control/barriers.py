"""Barriers: where the robot must not be, as signed margins with gradients.

A margin is positive inside the allowed region, and exact wherever it calls for slowing down; beyond, it may
be a lower bound on the true one.  The inverse kinematics slows down along the gradients of what is near; the
shield checks the margins alone, along every stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.kernels.clearance import some_below, within_box
from vla_ros.robots.collision import FLOOR_WITHIN, CollisionModel, Surroundings
from vla_ros.robots.environment import Obstacle
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.reach import lever_arms
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Reason

_NOTHING = 1.0
"""The margin without obstacles [m]."""


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
        return self._margins(position)

    def _margins(self, position: Array) -> Array:
        return within_box(position, self._box.minimum, self._box.maximum)

    def near(self, q: Array, width: float) -> list[Near]:
        """Faces closer than `slow`."""
        position, _, jacobian = self._kinematics.pose_and_jacobian(q)
        margins = self._margins(position)
        return [
            Near(float(margins[i]), jacobian[i % 3] * (1.0 if i < 3 else -1.0), self.subject(i))
            for i in _below(margins, self.slow)
        ]

    def subject(self, index: int) -> str:
        """Such as "tcp x max"."""
        return f"tcp {'xyz'[index % 3]} {'min' if index < 3 else 'max'}"


class FloorBarrier:
    """Keeps tool, fingers, forearm and elbow above the floor, at every opening of the gripper."""

    reason = Reason.FLOOR
    slow = FLOOR_WITHIN

    def __init__(self, collision: CollisionModel) -> None:
        """Bodies and floor of the collision model."""
        self._collision = collision
        self._links = collision.floor_links
        self.reach = collision.floor_reach()

    def margins(self, q: Array, width: float) -> Array:
        """(bodies,) heights of the lowest points above the floor, at the worst opening of the gripper."""
        return self._collision.floor_bounds(q, width)

    def near(self, q: Array, width: float) -> list[Near]:
        """Bodies lower than `slow`."""
        margins = self.margins(q, width)
        return [
            Near(float(margins[i]), self._collision.floor_gradient(i), self.subject(i))
            for i in _below(margins, self.slow)
        ]

    def subject(self, index: int) -> str:
        """The link."""
        return self._links[index]


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
        """(pairs,) distances beyond the stop distance, at the worst opening of the gripper."""
        return self._collision.distance_bounds(q, width) - self._stop

    def near(self, q: Array, width: float) -> list[Near]:
        """Pairs inside the slow-down zone."""
        margins = self.margins(q, width)
        return [
            Near(float(margins[i]), self._collision.gradient(i), self.subject(i))
            for i in _below(margins, self._slow)
        ]

    def subject(self, index: int) -> str:
        """The two links."""
        return self._pairs[index]


class EnvironmentBarrier:
    """Keeps every moving body away from obstacles by `spec.environment.stop_distance`, at every opening.

    Obstacles may change between two ticks, and with them the number of margins: who stores margins computes
    them anew after `surround`.  Without obstacles there is one margin, which nothing can change.
    """

    reason = Reason.ENVIRONMENT

    def __init__(self, spec: RobotSpec, collision: CollisionModel) -> None:
        """Obstacles of the collision model, zones of the robot's environment."""
        self._collision = collision
        self._stop = spec.environment.stop_distance
        self._slow = spec.environment.slow_distance - spec.environment.stop_distance
        self._learn()

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What is around now."""
        return self._collision.obstacles

    def prepare(self, obstacles: Sequence[Obstacle]) -> Surroundings:
        """Make `obstacles` ready for `surround`: milliseconds, from any thread.

        Raises:
            ConfigurationError: a name given twice, an unknown link, too many.
        """
        return self._collision.prepare(obstacles)

    def surround(self, surroundings: Surroundings) -> None:
        """Replace all obstacles, between two ticks, by those of a `prepare` of this barrier."""
        self._collision.surround(surroundings)
        self._learn()

    def update(self, obstacles: Sequence[Obstacle]) -> None:
        """`prepare` and `surround` in one; raises as `prepare`, and then nothing has changed."""
        self.surround(self.prepare(obstacles))

    def margins(self, q: Array, width: float) -> Array:
        """(pairs,) distances beyond the stop distance, at the worst opening of the gripper."""
        if not self._pairs:
            return np.array([_NOTHING])
        return self._collision.obstacle_bounds(q, width) - self._stop

    def near(self, q: Array, width: float) -> list[Near]:
        """Pairs inside the slow-down zone."""
        if not self._pairs:
            return []
        margins = self.margins(q, width)
        return [
            Near(float(margins[i]), self._collision.obstacle_gradient(i), self.subject(i))
            for i in _below(margins, self._slow)
        ]

    def subject(self, index: int) -> str:
        """Link and obstacle."""
        return self._pairs[index] if self._pairs else ""

    def _learn(self) -> None:
        self._pairs = [f"{link} - {obstacle}" for link, obstacle in self._collision.obstacle_pairs]
        none = np.zeros((1, self._collision.spec.dof))
        self.reach: Array = self._collision.obstacle_reach() if self._pairs else none


def _below(margins: Array, zone: float) -> list[int]:
    if not some_below(margins, zone):
        return []
    rows: list[int] = (margins < zone).nonzero()[0].tolist()
    return rows


def make_barriers(
    spec: RobotSpec, kinematics: Kinematics, environment: Sequence[Obstacle] | None = None
) -> Sequence[Barrier]:
    """Workspace, floor, self-collision and environment of a robot, in this order.

    `environment` takes the place of the obstacles of `spec.environment`.  Raises `ConfigurationError` when
    they do not fit the robot.
    """
    collision = CollisionModel(spec, environment)
    return [
        WorkspaceBarrier(spec, kinematics),
        FloorBarrier(collision),
        SelfCollisionBarrier(spec, collision),
        EnvironmentBarrier(spec, collision),
    ]
