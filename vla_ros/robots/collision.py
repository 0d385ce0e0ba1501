"""Distances between the robot's own bodies, to the floor and to obstacles, with gradients, on coal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import coal
import numpy as np
import pinocchio as pin

from vla_ros.robots.bodies import Swept, body_reach, read_bodies, sweep
from vla_ros.robots.distances import PairDistances, Posture
from vla_ros.robots.environment import Box, Cylinder, Obstacle, Sphere, check_obstacles
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Pose

FLOOR_WITHIN = 0.08
"""Heights above the floor below this are always computed [m]."""


@dataclass(frozen=True)
class Surroundings:
    """A set of obstacles made ready for `CollisionModel.surround`."""

    obstacles: tuple[Obstacle, ...]
    tests: PairDistances
    pairs: tuple[tuple[str, str], ...]
    """Link and obstacle of each of `obstacle_bounds`."""


class CollisionModel:
    """Signed distances between all bodies that could touch, to the floor and to obstacles.

    Left out: bodies on the same or on adjoining joints, the two fingers, `spec.collision.excluded`, and, for
    obstacles, the base and each obstacle's `allowed_links`.  For what is kept at every tick a finger is as
    large as its whole travel, so that no motion of the gripper can break it.

    `..._bounds` are what the controller asks at every tick: exact where a distance is inside its slow-down
    zone, else some lower bound on it that is still outside.  Witness points and gradients belong to the
    latest joint positions.  Not thread-safe, but for `prepare`: one instance a thread.
    """

    def __init__(self, spec: RobotSpec, obstacles: Sequence[Obstacle] | None = None) -> None:
        """`obstacles` in place of those of `spec.environment`.

        Raises `ConfigurationError` when the URDF does not fit the YAML file or obstacles not the robot.
        """
        self.spec = spec
        self._posture = Posture(spec)
        self.model = self._posture.model
        self.bodies = read_bodies(self.model, spec)
        self.links = [self.model.frames[item.parentFrame].name for item in self.bodies]
        """Link of each collision body."""
        self._joints = [int(item.parentJoint) for item in self.bodies]
        self._swept = [sweep(self.model, spec, item) for item in self.bodies]
        self._pairs = self._find_pairs()
        elbow = int(self.model.frames[self.model.getFrameId(spec.elbow_frame)].parentJoint)
        self._low_bodies = [i for i, joint in enumerate(self._joints) if joint >= elbow]
        self._floor_rows = len(self._pairs), len(self._pairs) + len(self._low_bodies)
        floor = coal.Halfspace(np.array([0.0, 0.0, 1.0]), spec.workspace.floor)
        self._floor = pin.GeometryObject("floor", 0, pin.SE3.Identity(), floor)
        low = [(self.bodies[i], self._floor, 0.0) for i in self._low_bodies]
        own = [(self.bodies[a], self.bodies[b], 0.0) for a, b in self._pairs]
        self._as_they_are = self._tests([*own, *low], np.full(len(own) + len(low), np.inf))
        self.surround(self.prepare(spec.environment.obstacles if obstacles is None else obstacles))

    # -- own bodies ----------------------------------------------------------------------------------------

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Links of each pair, in the order of `distances`."""
        return [(self.links[a], self.links[b]) for a, b in self._pairs]

    def distances(self, q: Array, width: float) -> Array:
        """Signed distance of every pair [m], negative when they overlap.

        `q` are joint positions (n,), `width` is the gripper's opening [m].
        """
        self._posture.set(q, width)
        return self._as_they_are.exact(0, len(self._pairs))

    def least_distances(self, q: Array, width: float) -> Array:
        """`distances` at the worst opening of the gripper."""
        self._posture.set(q, width)
        return self._tests_now.exact(0, len(self._pairs))

    def distance_bounds(self, q: Array, width: float) -> Array:
        """`least_distances`, exact below `spec.collision.slow_distance`."""
        self._posture.set(q, width)
        return self._tests_now.bounds(0, len(self._pairs))

    def pair_reach(self) -> Array:
        """(pairs, n) bound on how fast each of `least_distances` can change with each joint [m/rad]."""
        return np.array(self._tests_now.reach[: len(self._pairs), :-1])

    def minimum_distance(self, q: Array, width: float) -> tuple[float, tuple[str, str]]:
        """Smallest distance [m] and the two links it is between."""
        distances = self.distances(q, width)
        nearest = int(np.argmin(distances))
        return float(distances[nearest]), self.pairs[nearest]

    def witness(self, pair: int) -> tuple[Array, Array]:
        """Nearest points (3,) [m] of the two bodies of a pair, in the base frame."""
        return self._as_they_are.witness(pair)

    def gradient(self, pair: int) -> Array:
        """(n,) derivative of one of `least_distances` by the joint positions [m/rad]."""
        return self._tests_now.gradient(pair)

    # -- floor ---------------------------------------------------------------------------------------------

    @property
    def floor_links(self) -> list[str]:
        """Links of the bodies in the order of `floor_heights`: elbow, forearm, tool and fingers."""
        return [self.links[i] for i in self._low_bodies]

    def floor_heights(self, q: Array, width: float) -> Array:
        """Height of the lowest point of each body of `floor_links` above `spec.workspace.floor` [m]."""
        self._posture.set(q, width)
        return self._as_they_are.exact(*self._floor_rows)

    def least_floor_heights(self, q: Array, width: float) -> Array:
        """`floor_heights` at the worst opening of the gripper; a tilted finger sinks as it slides."""
        self._posture.set(q, width)
        return self._tests_now.exact(*self._floor_rows)

    def floor_bounds(self, q: Array, width: float) -> Array:
        """`least_floor_heights`, exact below `FLOOR_WITHIN`."""
        self._posture.set(q, width)
        return self._tests_now.bounds(*self._floor_rows)

    def floor_reach(self) -> Array:
        """(bodies, n) as `pair_reach`, of the heights."""
        return np.array(self._tests_now.reach[slice(*self._floor_rows), :-1])

    def floor_gradient(self, body: int) -> Array:
        """(n,) derivative of one of `least_floor_heights` by the joint positions [m/rad]."""
        return self._tests_now.gradient(self._floor_rows[0] + body)

    # -- obstacles -----------------------------------------------------------------------------------------

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What is around."""
        return self._surroundings.obstacles

    @property
    def obstacle_pairs(self) -> tuple[tuple[str, str], ...]:
        """Link and obstacle in the order of `obstacle_distances`."""
        return self._surroundings.pairs

    def prepare(self, obstacles: Sequence[Obstacle]) -> Surroundings:
        """Build all that a set of obstacles needs, the slow part of a change; from any thread.

        Raises `ConfigurationError`: see `check_obstacles`.
        """
        check_obstacles(obstacles, {frame.name for frame in self.model.frames})
        swept = self._swept
        own = [(swept[a].item, swept[b].item, swept[a].spare + swept[b].spare) for a, b in self._pairs]
        low = [(swept[i].item, self._floor, swept[i].spare) for i in self._low_bodies]
        around, named = [], []
        for obstacle in obstacles:
            item = _geometry(obstacle)
            for link, body in self._moving():
                if link not in obstacle.allowed_links:
                    around.append((body.item, item, body.spare))
                    named.append((link, obstacle.name))
        zones = (self.spec.collision.slow_distance, FLOOR_WITHIN, self.spec.environment.slow_distance)
        within = np.repeat(zones, (len(own), len(low), len(around)))
        return Surroundings(tuple(obstacles), self._tests([*own, *low, *around], within), tuple(named))

    def surround(self, surroundings: Surroundings) -> None:
        """Take what `prepare` of this model made."""
        self._surroundings, self._tests_now = surroundings, surroundings.tests

    def obstacle_distances(self, q: Array, width: float) -> Array:
        """Signed distance of every moving body to every obstacle [m], at the worst opening of the gripper."""
        self._posture.set(q, width)
        start = self._floor_rows[1]
        return self._tests_now.exact(start, start + len(self.obstacle_pairs))

    def obstacle_bounds(self, q: Array, width: float) -> Array:
        """The same, exact below `spec.environment.slow_distance`."""
        self._posture.set(q, width)
        return self._tests_now.bounds(self._floor_rows[1], None)

    def obstacle_reach(self) -> Array:
        """(pairs, n) as `pair_reach`, of the distances to obstacles."""
        return np.array(self._tests_now.reach[self._floor_rows[1] :, :-1])

    def obstacle_gradient(self, pair: int) -> Array:
        """(n,) derivative of one of `obstacle_distances` by the joint positions [m/rad]."""
        return self._tests_now.gradient(self._floor_rows[1] + pair)

    # ------------------------------------------------------------------------------------------------------

    def _moving(self) -> list[tuple[str, Swept]]:
        return [
            (link, body)
            for link, joint, body in zip(self.links, self._joints, self._swept, strict=True)
            if joint > 0
        ]

    def _tests(
        self, wanted: Sequence[tuple[pin.GeometryObject, pin.GeometryObject, float]], within: Array
    ) -> PairDistances:
        """Distances of pairs of bodies, given with what to take from each distance."""
        geometry, index = pin.GeometryModel(), dict[str, int]()
        reach: list[Array] = []
        for item in (item for one, two, _ in wanted for item in (one, two)):
            if item.name not in index:
                index[item.name] = geometry.addGeometryObject(item)
                fixed = int(item.parentJoint) == 0
                reach.append(np.zeros(self.model.nv) if fixed else body_reach(self.model, item))
        rows = [(index[one.name], index[two.name]) for one, two, _ in wanted]
        for row in rows:
            geometry.addCollisionPair(pin.CollisionPair(*row))
        first, second = np.array(reach)[np.array(rows).T]
        # only joints that carry one of the two bodies and not the other change their distance
        apart = self._posture.of_reach(np.where((first > 0.0) & (second > 0.0), 0.0, first + second))
        return PairDistances(self._posture, geometry, apart, within, [spare for _, _, spare in wanted])

    def _find_pairs(self) -> list[tuple[int, int]]:
        fingers = {self.model.getJointId(name) for name in self.spec.gripper.joint_names}
        excluded = {frozenset(pair) for pair in self.spec.collision.excluded}
        parents = list(self.model.parents)

        def may_touch(a: int, b: int) -> bool:
            i, j = self._joints[a], self._joints[b]
            if i == j or parents[j] == i or parents[i] == j or {i, j} <= fingers:
                return False
            return frozenset((self.links[a], self.links[b])) not in excluded

        count = len(self.links)
        return [(a, b) for a in range(count) for b in range(a + 1, count) if may_touch(a, b)]


def _geometry(obstacle: Obstacle) -> pin.GeometryObject:
    name = f"obstacle {obstacle.name}"
    if isinstance(obstacle, Box):
        return pin.GeometryObject(name, 0, _se3(obstacle.pose), coal.Box(*obstacle.size))
    if isinstance(obstacle, Cylinder):
        shape = coal.Cylinder(obstacle.radius, obstacle.length)
        return pin.GeometryObject(name, 0, _se3(obstacle.pose), shape)
    if isinstance(obstacle, Sphere):
        place = pin.SE3(np.eye(3), np.array(obstacle.position))
        return pin.GeometryObject(name, 0, place, coal.Sphere(obstacle.radius))
    half_space = coal.Halfspace(np.array(obstacle.normal), obstacle.offset)
    return pin.GeometryObject(name, 0, pin.SE3.Identity(), half_space)


def _se3(pose: Pose) -> pin.SE3:
    return pin.SE3(pin.Quaternion(np.array(pose.quaternion)).matrix(), np.array(pose.position))
