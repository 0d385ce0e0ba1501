"""The judge of obstacles: distances of the robot's moving bodies to what its environment says is around."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.evaluation.clearance import lowest, pair_distances
from vla_ros.evaluation.urdf_chain import Shape, UrdfChain
from vla_ros.robots.environment import Box, Cylinder, Obstacle, Plane, Sphere
from vla_ros.types import Array, Pose

WORLD = ""
"""Name of the frame obstacles are in, which no link has."""


def moving_shapes(chain: UrdfChain) -> list[Shape]:
    """Bodies that a joint carries."""
    return [shape for shape in chain.shapes if chain.ancestors(shape.link)]


def obstacle_distances(shape: Shape, obstacle: Obstacle, poses: Mapping[str, Array], enough: float) -> Array:
    """Distances (N,) of a body to an obstacle; infinity where they are surely further than `enough` apart."""
    placed = poses[shape.link]
    if isinstance(obstacle, Plane):
        return lowest(shape, _upright(obstacle.normal) @ placed) - obstacle.offset
    still = np.broadcast_to(np.eye(4), placed.shape)
    return pair_distances(shape, _solid(obstacle), {**poses, WORLD: still}, enough)


def _solid(obstacle: Box | Sphere | Cylinder) -> Shape:
    if isinstance(obstacle, Box):
        half = tuple(float(edge) for edge in 0.5 * obstacle.size)
        return Shape(WORLD, "box", half, _matrix(obstacle.pose))
    if isinstance(obstacle, Cylinder):
        return Shape(WORLD, "cylinder", (obstacle.radius, 0.5 * obstacle.length), _matrix(obstacle.pose))
    return Shape(
        WORLD, "sphere", (obstacle.radius,), _matrix(Pose(obstacle.position, np.array([0.0, 0, 0, 1])))
    )


def _matrix(pose: Pose) -> Array:
    """(4, 4), the rotation written out from the quaternion (Shepperd's formula the other way round)."""
    x, y, z, w = pose.quaternion
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = pose.position
    return matrix


def _upright(normal: Array) -> Array:
    """(4, 4) rotation that turns `normal` (3,) into z."""
    across = np.eye(3)[int(np.argmin(np.abs(normal)))]
    x = np.cross(across, normal)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = [x, np.cross(normal, x), normal]
    return matrix
