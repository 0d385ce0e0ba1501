"""Signed distances of body pairs, computed only where a bound from earlier ones does not settle them.

A distance changes with each joint by at most the pair's reach, so a distance known at some joint positions
bounds it at all others.  Pairs whose bound is beyond what anybody acts on are left at that bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pinocchio as pin

from vla_ros.kernels.clearance import lower_bounds, point_row
from vla_ros.robots.model import build_model, finger_positions, joint_indices
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

_GJK_TOLERANCE, _EPA_TOLERANCE = 1e-10, 1e-8
"""Tolerances of coal on distances and on depths [m]; its own 1e-6 is more than a first gentle tick moves."""
_EPA_ITERATIONS = 255
"""With coal's 64, depths inside cylinders are wrong by centimetres now and then."""
_FAILED = 1e6
"""coal answers the largest double when it cannot find a penetration depth."""


class Posture:
    """Joint positions and opening of one robot, with what follows from them when it is asked for."""

    def __init__(self, spec: RobotSpec) -> None:
        """Raises `ConfigurationError` when the URDF does not fit the YAML file."""
        self.model = build_model(spec)
        self.data = self.model.createData()
        self._gripper = spec.gripper
        self._dof = spec.dof
        self._arm = np.array(joint_indices(self.model, spec.joint_names))
        self._fingers = np.array(joint_indices(self.model, spec.gripper.joint_names))
        self._q = pin.neutral(self.model)
        self._key = (b"", np.nan)
        self._newest: Array | None = None
        self.x: Array = np.full(spec.dof + 1, np.nan)
        """(n + 1,) joint positions [rad] and opening [m]."""
        self.number = 0
        """Counts the changes."""
        self._placed = self._turned = False

    def set(self, q: Array, width: float) -> None:
        """Joint positions (n,), not to be written to afterwards, and gripper opening [m]."""
        if q is self._newest and width == self._key[1]:
            return
        self._newest = q
        key = (q.tobytes(), width)
        if key != self._key:
            if width != self._key[1]:
                self._q[self._fingers] = finger_positions(self._gripper, width)
            self._key = key
            self.x[:-1], self.x[-1] = q, width
            self.number += 1
            self._placed = self._turned = False

    def place(self) -> None:
        """Forward kinematics into `data`."""
        if not self._placed:
            self._q[self._arm] = self.x[:-1]
            pin.forwardKinematics(self.model, self.data, self._q)
            self._placed = True

    def point_row(self, joint: int, point: Array, direction: Array) -> Array:
        """(n,) derivative of a body-fixed point's coordinate along `direction` by the joint positions."""
        if joint == 0:
            return np.zeros(self._dof)
        self.place()
        if not self._turned:
            pin.computeJointJacobians(self.model, self.data)
            self._turned = True
        jacobian = pin.getJointJacobian(self.model, self.data, joint, pin.LOCAL_WORLD_ALIGNED)
        return point_row(jacobian, self.data.oMi[joint].translation, point, direction, self._arm)

    def of_reach(self, reach: Array) -> Array:
        """(m, n + 1) reach by the entries of `x`, from (m, nv) reach by the joints of the model."""
        gripper = self._gripper
        travel = np.abs(gripper.joint_at_max_width - gripper.joint_at_min_width)
        opening = reach[:, self._fingers] @ travel / (gripper.max_width - gripper.min_width)
        return np.column_stack([reach[:, self._arm], opening])


class PairDistances:
    """Distances of the collision pairs of one geometry model at one posture."""

    def __init__(
        self,
        posture: Posture,
        geometry: pin.GeometryModel,
        reach: Array,
        within: Array,
        spare: Sequence[float],
    ) -> None:
        """The pairs are those of `geometry`.

        Args:
            posture: where the robot is; shared.
            geometry: bodies and collision pairs.
            reach: (m, n + 1) bound on the change of each distance by each entry of `posture.x`.
            within: (m,) distances below these are computed, those above may be bounds [m].
            spare: m lengths to take from the distances, for bodies that stand for larger ones [m].
        """
        self._posture, self._geometry = posture, geometry
        self._data = pin.GeometryData(geometry)
        for request in self._data.distanceRequests:
            request.gjk_tolerance, request.epa_tolerance = _GJK_TOLERANCE, _EPA_TOLERANCE
            request.epa_max_iterations = _EPA_ITERATIONS
        pairs = geometry.collisionPairs
        self._data.deactivateAllCollisionPairs()
        self._active: set[int] = set()
        self._results = list(self._data.distanceResults)
        self._bodies = [(int(pair.first), int(pair.second)) for pair in pairs]
        joints = [int(item.parentJoint) for item in geometry.geometryObjects]
        self._joints = [(joints[a], joints[b]) for a, b in self._bodies]
        self.reach = np.ascontiguousarray(reach, dtype=np.float64).reshape(len(pairs), len(posture.x))
        self._within = np.ascontiguousarray(within, dtype=np.float64)
        self._spare = [float(value) for value in spare]
        self._since = np.zeros_like(self.reach)
        self._known = np.full(len(pairs), -np.inf)
        self._lower = np.full(len(pairs), -np.inf)
        self._number = -1
        self._placed = False
        self._computed: set[int] = set()

    def bounds(self, start: int, stop: int | None) -> Array:
        """Distances [m] of pairs `start` to `stop`, but bounds of those that are not below `within`.

        A bound is at least `within` and at most the distance.  -inf where the positions are not finite.
        What is given is not to be written to; until the next posture it may still become more exact.
        """
        self._look()
        lower: Array = self._lower[start:stop]
        return lower

    def exact(self, start: int, stop: int) -> Array:
        """Distances [m] of pairs `start` to `stop`, all of them computed."""
        self._look()
        if np.isfinite(self._posture.x).all():
            self._compute([row for row in range(start, stop) if row not in self._computed])
        return np.array(self._lower[start:stop])

    def witness(self, row: int) -> tuple[Array, Array]:
        """Nearest points (3,) of the two bodies of a pair in the base frame."""
        result = self._result(row)
        return np.array(result.getNearestPoint1()), np.array(result.getNearestPoint2())

    def gradient(self, row: int) -> Array:
        """(n,) derivative of a distance by the joint positions [m/rad]."""
        one, two = self._joints[row]
        result = self._result(row)
        normal = np.asarray(result.normal)  # from the first body to the second
        first = self._posture.point_row(one, np.asarray(result.getNearestPoint1()), normal)
        second = self._posture.point_row(two, np.asarray(result.getNearestPoint2()), normal)
        return np.asarray(second - first)

    def _look(self) -> None:
        """Bring the bounds to the present posture, and compute what they do not settle."""
        if self._number == self._posture.number:
            return
        self._number, self._placed = self._posture.number, False
        self._computed.clear()
        self._lower, rows = lower_bounds(self._posture.x, self._since, self._known, self.reach, self._within)
        if len(rows):
            self._compute(rows.tolist())

    def _result(self, row: int) -> pin.DistanceResult:
        self._look()
        if row not in self._computed:
            self._compute([row])
        return self._results[row]

    def _compute(self, rows: list[int]) -> None:
        posture, geometry, data = self._posture, self._geometry, self._data
        if not self._placed:
            posture.place()
            pin.updateGeometryPlacements(posture.model, posture.data, geometry, data)
            self._placed = True
        self._activate(set(rows))
        pin.computeDistances(geometry, data)
        for row in rows:
            distance = self._results[row].min_distance
            if not distance < _FAILED:
                distance = self._spheres(row)
            self._lower[row] = self._known[row] = distance - self._spare[row]
        self._since[rows] = posture.x
        self._computed.update(rows)

    def _activate(self, rows: set[int]) -> None:
        """Have the next computation be of these pairs alone; from tick to tick they are nearly the same."""
        if rows != self._active:
            for row in self._active - rows:
                self._data.deactivateCollisionPair(row)
            for row in rows - self._active:
                self._data.activateCollisionPair(row)
            self._active = rows

    def _spheres(self, row: int) -> float:
        """Distance of the bounding spheres: never above the bodies' own, negative ones included."""
        centres, radii = [], 0.0
        for body in self._bodies[row]:
            shape = self._geometry.geometryObjects[body].geometry
            shape.computeLocalAABB()
            placement = self._data.oMg[body]
            centres.append(placement.translation + placement.rotation @ shape.aabb_center)
            radii += float(shape.aabb_radius)
        if radii > _FAILED:  # a half-space has no end
            return -np.inf
        return float(np.linalg.norm(centres[0] - centres[1])) - radii
