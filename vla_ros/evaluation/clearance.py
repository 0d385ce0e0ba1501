"""The judge of where the arm is: workspace box, floor and distances between the robot's own bodies.

Distances are found by projecting a point to and fro between two convex bodies (alternating projections): the
pair of points is always real, so the distance is never below the true one, and it converges to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_ros.evaluation.urdf_chain import Shape, UrdfChain
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

ITERATIONS = 60


def floor_shapes(chain: UrdfChain, elbow_frame: str) -> list[Shape]:
    """Bodies that must stay above the floor: elbow, forearm, tool and fingers."""
    elbow = chain.group(elbow_frame)
    return [shape for shape in chain.shapes if elbow in chain.ancestors(shape.link)]


def lowest(shape: Shape, poses: Array) -> Array:
    """Height (N,) of the lowest point of a body at link poses (N, 4, 4)."""
    placed = poses @ shape.origin
    up = placed[:, 2, :3]
    centre = placed[:, 2, 3]
    if shape.kind == "sphere":
        return np.asarray(centre - shape.size[0])
    if shape.kind == "box":
        return np.asarray(centre - np.abs(up) @ np.array(shape.size))
    radius, half = shape.size
    return np.asarray(centre - radius * np.hypot(up[:, 0], up[:, 1]) - half * np.abs(up[:, 2]))


def shape_pairs(chain: UrdfChain, spec: RobotSpec) -> list[tuple[Shape, Shape]]:
    """Pairs that could touch: not on the same or adjoining joints, not the fingers, not `excluded`."""
    excluded = {frozenset(pair) for pair in spec.collision.excluded}
    fingers = set(spec.gripper.joint_names)
    pairs = []
    for i, a in enumerate(chain.shapes):
        for b in chain.shapes[i + 1 :]:
            if _adjoining(chain, a.link, b.link) or {chain.group(a.link), chain.group(b.link)} <= fingers:
                continue
            if frozenset((a.link, b.link)) not in excluded:
                pairs.append((a, b))
    return pairs


def pair_distances(a: Shape, b: Shape, poses: Mapping[str, Array], enough: float) -> Array:
    """Distances (N,) between two bodies; where bounding spheres are further than `enough` apart, infinity."""
    first, second = poses[a.link] @ a.origin, poses[b.link] @ b.origin
    gap = np.linalg.norm(first[:, :3, 3] - second[:, :3, 3], axis=1) - a.radius - b.radius
    distances = np.full(len(gap), np.inf)
    near = np.flatnonzero(gap <= enough)
    if len(near):
        distances[near] = _alternate(a, first[near], b, second[near])
    return distances


def sparse_samples(positions: Array, spacing: float) -> NDArray[np.int64]:
    """Indices of (N, n) positions between which no joint travels further than `spacing` [rad], ends included.

    A single larger step stays a larger step.
    """
    travelled = np.abs(np.diff(positions, axis=0)).max(axis=1, initial=0.0)
    bins = np.floor(np.concatenate([[0.0], np.cumsum(travelled)]) / spacing)
    keep = np.concatenate([[True], np.diff(bins) > 0])
    keep[-1] = True
    return np.flatnonzero(keep)


def _alternate(a: Shape, first: Array, b: Shape, second: Array) -> Array:
    point = first[:, :3, 3]
    other = point
    for _ in range(ITERATIONS):
        other = _project(b, second, point)
        moved = _project(a, first, other)
        step = np.abs(moved - point).max(initial=0.0)
        point = moved
        if step < 1e-7:
            break
    return np.asarray(np.linalg.norm(point - other, axis=1))


def _project(shape: Shape, placed: Array, points: Array) -> Array:
    """Nearest points (N, 3) of a solid body to `points` (N, 3)."""
    rotation, centre = placed[:, :3, :3], placed[:, :3, 3]
    local = np.einsum("nji,nj->ni", rotation, points - centre)
    if shape.kind == "box":
        local = np.clip(local, -np.array(shape.size), np.array(shape.size))
    elif shape.kind == "sphere":
        length = np.linalg.norm(local, axis=1, keepdims=True)
        local = local * np.minimum(1.0, shape.size[0] / np.maximum(length, 1e-12))
    else:
        radius, half = shape.size
        flat = np.linalg.norm(local[:, :2], axis=1, keepdims=True)
        local[:, :2] *= np.minimum(1.0, radius / np.maximum(flat, 1e-12))
        local[:, 2] = np.clip(local[:, 2], -half, half)
    return np.asarray(centre + np.einsum("nij,nj->ni", rotation, local))


def _adjoining(chain: UrdfChain, a: str, b: str) -> bool:
    """Same movable joint, or one carries the other directly."""
    way_a, way_b = [*chain.ancestors(a), ""], [*chain.ancestors(b), ""]
    return way_a[0] == way_b[0] or _parent(way_a) == way_b[0] or _parent(way_b) == way_a[0]


def _parent(way: list[str]) -> str | None:
    return way[1] if len(way) > 1 else None
