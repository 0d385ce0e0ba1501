"""Distances between the robot's own bodies and to the floor, with gradients, on coal."""

from __future__ import annotations

from collections.abc import Sequence

import coal
import numpy as np
import pinocchio as pin

from vla_ros.robots.model import build_model, finger_positions, joint_indices
from vla_ros.robots.reach import point_reach
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array


class CollisionModel:
    """Signed distances between all collision bodies that could touch.

    Left out: bodies on the same or on adjoining joints, the two fingers, and `spec.collision.excluded`.
    `distances` and `floor_heights` come first; witness points and gradients belong to their latest joint
    positions.  Not thread-safe: one instance a thread.
    """

    def __init__(self, spec: RobotSpec) -> None:
        """Raises `ConfigurationError` when the URDF does not fit the YAML file."""
        self.spec = spec
        self.model = build_model(spec)
        self._data = self.model.createData()
        self._arm = np.array(joint_indices(self.model, spec.joint_names))
        self._fingers = np.array(joint_indices(self.model, spec.gripper.joint_names))
        self._q = pin.neutral(self.model)
        self._jacobians_ready = False
        self.geometry = _capsules(pin.buildGeomFromUrdf(self.model, str(spec.urdf_path), pin.COLLISION))
        self.links = [self.model.frames[g.parentFrame].name for g in self.geometry.geometryObjects]
        """Link of each collision body."""
        self._joints = [int(g.parentJoint) for g in self.geometry.geometryObjects]
        self._pairs = self._find_pairs()
        elbow = int(self.model.frames[self.model.getFrameId(spec.elbow_frame)].parentJoint)
        self._low_bodies = [i for i, joint in enumerate(self._joints) if joint >= elbow]
        half_space = coal.Halfspace(np.array([0.0, 0.0, 1.0]), spec.workspace.floor)
        floor = self.geometry.addGeometryObject(
            pin.GeometryObject("floor", 0, pin.SE3.Identity(), half_space)
        )
        self._joints.append(0)
        tests = [*self._pairs, *((body, floor) for body in self._low_bodies)]
        for a, b in tests:
            self.geometry.addCollisionPair(pin.CollisionPair(a, b))
        self._test_joints = [(self._joints[a], self._joints[b]) for a, b in tests]
        self._geometry_data = pin.GeometryData(self.geometry)
        self._slides = self._find_slides()
        self._values: Array = self._evaluate(spec.home, spec.gripper.max_width)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Links of each pair, in the order of `distances`."""
        return [(self.links[a], self.links[b]) for a, b in self._pairs]

    @property
    def floor_links(self) -> list[str]:
        """Links of the bodies in the order of `floor_heights`: elbow, forearm, tool and fingers."""
        return [self.links[i] for i in self._low_bodies]

    def distances(self, q: Array, width: float) -> Array:
        """Signed distance of every pair [m], negative when they overlap.

        `q` are joint positions (n,), `width` is the gripper's opening [m].
        """
        self._update(q, width)
        return np.array(self._values[: len(self._pairs)])

    def pair_reach(self) -> Array:
        """(pairs, n) bound on how fast each of `distances` can change with each joint [m/rad]."""
        return np.array([self._reach(a, b) for a, b in self._pairs]).reshape(-1, self.spec.dof)

    def floor_reach(self) -> Array:
        """(bodies, n) the same for `floor_heights`."""
        return np.array([self._reach(body, None) for body in self._low_bodies])

    def minimum_distance(self, q: Array, width: float) -> tuple[float, tuple[str, str]]:
        """Smallest distance [m] and the two links it is between."""
        distances = self.distances(q, width)
        nearest = int(np.argmin(distances))
        return float(distances[nearest]), self.pairs[nearest]

    def witness(self, pair: int) -> tuple[Array, Array]:
        """Nearest points (3,) [m] of the two bodies of a pair, in the base frame."""
        result = self._geometry_data.distanceResults[pair]
        return np.array(result.getNearestPoint1()), np.array(result.getNearestPoint2())

    def gradient(self, pair: int) -> Array:
        """(n,) derivative of a pair's distance by the joint positions [m/rad]."""
        return self._gradient(pair)

    def floor_heights(self, q: Array, width: float) -> Array:
        """Height of the lowest point of each body of `floor_links` above `spec.workspace.floor` [m]."""
        self._update(q, width)
        return np.array(self._values[len(self._pairs) :])

    def least_floor_heights(self, q: Array, width: float) -> Array:
        """`floor_heights` at the worst opening of the gripper, so that no gripper motion can break the floor.

        A tilted finger sinks as it slides; along its joint its height changes in proportion to the opening.
        """
        heights = self.floor_heights(q, width)
        gripper = self.spec.gripper
        opened = (width - gripper.min_width) / (gripper.max_width - gripper.min_width)
        for index, (parent, slide) in self._slides.items():
            rise = float(self._data.oMi[parent].rotation[2] @ slide)
            heights[index] += min(0.0, (1.0 - opened) * rise, -opened * rise)
        return heights

    def floor_gradient(self, body: int) -> Array:
        """(n,) derivative of one of `floor_heights` by the joint positions [m/rad]."""
        return self._gradient(len(self._pairs) + body)

    def _update(self, q: Array, width: float) -> None:
        """One evaluation serves both kinds of distance at the same joint positions."""
        if width != self._width or not np.array_equal(q, self._q[self._arm]):
            self._values = self._evaluate(q, width)

    def _evaluate(self, q: Array, width: float) -> Array:
        self._q[self._arm] = q
        self._q[self._fingers] = finger_positions(self.spec.gripper, width)
        self._width = width
        self._jacobians_ready = False
        pin.computeDistances(self.model, self._data, self.geometry, self._geometry_data, self._q)
        return np.array([result.min_distance for result in self._geometry_data.distanceResults])

    def _gradient(self, pair: int) -> Array:
        one, two = self._test_joints[pair]
        result = self._geometry_data.distanceResults[pair]
        normal = np.asarray(result.normal)  # from the first body to the second
        first = self._point_row(one, np.asarray(result.getNearestPoint1()), normal)
        second = self._point_row(two, np.asarray(result.getNearestPoint2()), normal)
        return np.asarray(second - first)

    def _point_row(self, joint: int, point: Array, direction: Array) -> Array:
        """Derivative of a body-fixed point's coordinate along `direction`."""
        if joint == 0:
            return np.zeros(self.spec.dof)
        if not self._jacobians_ready:
            pin.computeJointJacobians(self.model, self._data, self._q)
            self._jacobians_ready = True
        jacobian = pin.getJointJacobian(self.model, self._data, joint, pin.LOCAL_WORLD_ALIGNED)
        arm = point - self._data.oMi[joint].translation
        wrench = np.concatenate([direction, pin.skew(arm) @ direction])
        return np.asarray((wrench @ jacobian)[self._arm])

    def _reach(self, a: int, b: int | None) -> Array:
        """Only joints that carry one of the two bodies and not the other change their distance."""
        first = self._body_reach(a)
        second = np.zeros_like(first) if b is None else self._body_reach(b)
        reach: Array = np.where((first > 0.0) & (second > 0.0), 0.0, first + second)[self._arm]
        return reach

    def _body_reach(self, body: int) -> Array:
        item = self.geometry.geometryObjects[body]
        item.geometry.computeLocalAABB()
        extent = float(
            np.linalg.norm(item.placement.translation + item.placement.rotation @ item.geometry.aabb_center)
        )
        return point_reach(self.model, self._joints[body], extent + float(item.geometry.aabb_radius))

    def _find_slides(self) -> dict[int, tuple[int, Array]]:
        """Of the low bodies on fingers: the joint they hang on, and their way to open in its frame [m]."""
        gripper, q = self.spec.gripper, pin.neutral(self.model)
        ends = []
        for width in (gripper.min_width, gripper.max_width):
            q[self._fingers] = finger_positions(gripper, width)
            pin.forwardKinematics(self.model, self._data, q)
            ends.append([placement.translation.copy() for placement in self._data.oMi])
        slides = {}
        fingers = {self.model.getJointId(name) for name in gripper.joint_names}
        for index, body in enumerate(self._low_bodies):
            joint = self._joints[body]
            if joint in fingers:
                parent = int(self.model.parents[joint])
                way = ends[1][joint] - ends[0][joint]
                slides[index] = (parent, np.asarray(self._data.oMi[parent].rotation.T @ way))
        return slides

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


def _capsules(source: pin.GeometryModel) -> pin.GeometryModel:
    """The same geometry with every cylinder between two spheres of its radius joined into one capsule.

    URDF knows no capsule; one exact shape in place of three is faster and has smoother gradients.
    """
    objects = list(source.geometryObjects)
    used: set[int] = set()
    model = pin.GeometryModel()
    for index, item in enumerate(objects):
        if isinstance(item.geometry, coal.Cylinder):
            ends = _end_spheres(objects, index)
            if ends is not None:
                item.geometry = coal.Capsule(item.geometry.radius, 2.0 * item.geometry.halfLength)
                used.update(ends)
    for index, item in enumerate(objects):
        if index not in used:
            model.addGeometryObject(item)
    return model


def _end_spheres(objects: Sequence[pin.GeometryObject], index: int) -> tuple[int, int] | None:
    cylinder = objects[index]
    axis = cylinder.placement.rotation[:, 2] * cylinder.geometry.halfLength
    found = []
    for end in (cylinder.placement.translation - axis, cylinder.placement.translation + axis):
        for other, item in enumerate(objects):
            if (
                item.parentFrame == cylinder.parentFrame
                and isinstance(item.geometry, coal.Sphere)
                and abs(item.geometry.radius - cylinder.geometry.radius) < 1e-6
                and np.linalg.norm(item.placement.translation - end) < 1e-4
            ):
                found.append(other)
                break
    return (found[0], found[1]) if len(found) == 2 else None
