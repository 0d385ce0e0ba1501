"""Fits a shape's projected silhouette to the outline of a colour region: position and yaw on a support.

Gauss-Newton on the signed distances from the region's outline pixels to the hull of the projected shape.
Pixels inside the hull may be the edge of something that hides the shape, so they are bounded (Cauchy);
pixels outside cannot be, so they count in full (Huber).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vla_ros.policies.visual_servo.camera import CameraView
from vla_ros.policies.visual_servo.colours import Region
from vla_ros.policies.visual_servo.models import Shape
from vla_ros.types import Array

_STEPS = np.array([5e-4, 5e-4, 1e-2])
_MAX_MOVE = np.array([0.03, 0.03, 0.4])
_BORDER = 1.5
_MAX_POINTS = 60
_SCALE = 1.0


@dataclass(frozen=True)
class Fit:
    """A shape placed so that its silhouette matches a region."""

    shape: Shape
    x: float
    y: float
    """Middle of the shape in the base frame [m]."""
    yaw: float
    """[rad], modulo the shape's period."""
    error: float
    """Root mean square distance of the outline that was explained [pixel]."""
    overlap: float
    """Area of region and silhouette in common over the area of either (0..1)."""
    coverage: float
    """Share of the silhouette inside the image that the region fills (0..1)."""
    inside: float
    """Share of the silhouette that is inside the image (0..1)."""


def fit(
    view: CameraView, region: Region, shape: Shape, support: float = 0.0, yaw: float | None = None
) -> Fit | None:
    """Best placement of `shape` on a support at z [m]; None when the region's rays miss it.

    `yaw` [rad] is where to begin when it is roughly known; otherwise all yaws are tried.
    """
    start = view.on_plane(np.array([region.centroid]), support + 0.5 * shape.height)[0]
    if not np.isfinite(start).all():
        return None
    outline = _outline(view, region)
    if len(outline) < 6:
        return None
    best: tuple[float, Array] | None = None
    starts = _starts(view, outline, shape, support, start) if yaw is None else [np.array([*start[:2], yaw])]
    for parameters in starts:
        for _ in range(10):
            moved = _improve(view, outline, shape, support, parameters)
            if moved is None:
                break
            change = np.abs(moved - parameters)
            parameters = moved
            if np.all(change < [1e-4, 1e-4, 2e-3]):
                break
        cost = _cost(view, outline, shape, support, parameters)
        if np.isfinite(cost) and (best is None or cost < best[0]):
            best = (cost, parameters)
    if best is None:
        return None
    x, y, turn = (float(v) for v in best[1])
    return _judge(view, region, outline, shape, support, x, y, turn)


def plausible(view: CameraView, region: Region, shape: Shape, support: float = 0.0) -> bool:
    """Whether a region has about the area of the shape's silhouette there: a fit is worth its time."""
    middle = view.on_plane(np.array([region.centroid]), support + 0.5 * shape.height)[0]
    if not np.isfinite(middle).all():
        return False
    hull = _hull(view, shape.points(middle[0], middle[1], 0.0, support))
    return (
        hull is not None
        and 0.2 < region.area / max(float(cv2.contourArea(hull.astype(np.float32))), 1.0) < 2.0
    )


def overlap(
    view: CameraView, region: Region, shape: Shape, x: float, y: float, yaw: float, support: float
) -> float:
    """Intersection over union of the region and the silhouette of `shape` placed there (0..1)."""
    return _areas(view, region, shape.points(x, y, yaw, support))[0]


def _starts(view: CameraView, outline: Array, shape: Shape, support: float, middle: Array) -> list[Array]:
    """Where to begin: the two best of eight yaws, for the yaw has several local optima."""
    yaws = np.linspace(0.0, shape.period, 8, endpoint=False) if shape.period else np.zeros(1)
    starts = [np.array([middle[0], middle[1], yaw]) for yaw in yaws]
    starts.sort(key=lambda p: _cost(view, outline, shape, support, p))
    return starts[:2]


def _outline(view: CameraView, region: Region) -> Array:
    """(n, 2) pixels of the region's outer edge that are not cut by the image's border."""
    contours, _ = cv2.findContours(region.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(contours, key=len).reshape(-1, 2).astype(float) + np.array(region.corner)
    inside = (
        (points[:, 0] > _BORDER)
        & (points[:, 1] > _BORDER)
        & (points[:, 0] < view.width - 1 - _BORDER)
        & (points[:, 1] < view.height - 1 - _BORDER)
    )
    points = points[inside]
    sampled: Array = points[:: max(1, len(points) // _MAX_POINTS)]
    return sampled


def _hull(view: CameraView, points: Array) -> Array | None:
    """Convex silhouette (m, 2) of points (n, 3) in pixels, None when any is behind the camera."""
    pixels, depth = view.project(points)
    if np.any(depth < 0.02):
        return None
    hull: Array = cv2.convexHull(pixels.astype(np.float32)).reshape(-1, 2).astype(float)
    return hull


def _distances(view: CameraView, outline: Array, shape: Shape, support: float, p: Array) -> Array | None:
    """Signed distance (n,) [pixel] of the outline to the silhouette, negative inside.

    Pixel centres on a region's edge lie half a pixel inside of it.
    """
    hull = _hull(view, shape.points(p[0], p[1], p[2], support))
    if hull is None or len(hull) < 3:
        return None
    after = np.concatenate([hull[1:], hull[:1]])
    edge = after - hull
    length = np.maximum(np.hypot(edge[:, 0], edge[:, 1]), 1e-9)
    area = np.sum(hull[:, 0] * after[:, 1] - hull[:, 1] * after[:, 0])
    normal = np.column_stack([edge[:, 1], -edge[:, 0]]) / length[:, None] * np.sign(area)
    offset = outline[:, None, :] - hull[None, :, :]
    x, y = offset[..., 0], offset[..., 1]
    across = x * normal[:, 0] + y * normal[:, 1]
    along = np.clip((x * edge[:, 0] + y * edge[:, 1]) / length**2, 0.0, 1.0)
    nearest = np.sqrt(((x - along * edge[:, 0]) ** 2 + (y - along * edge[:, 1]) ** 2).min(axis=1))
    signed: Array = np.where(np.all(across <= 0.0, axis=1), -nearest, nearest) + 0.5
    return signed


def _cost(view: CameraView, outline: Array, shape: Shape, support: float, p: Array) -> float:
    distance = _distances(view, outline, shape, support, p)
    return float("inf") if distance is None else float(np.mean(_loss(distance)))


def _weights(distance: Array) -> Array:
    size = np.abs(distance) / _SCALE
    inside = 1.0 / (1.0 + size**2)
    outside = 1.0 / np.maximum(size, 1.0)
    weight: Array = np.where(distance < 0.0, inside, outside)
    return weight


def _loss(distance: Array) -> Array:
    size = np.abs(distance) / _SCALE
    inside = 0.5 * np.log1p(size**2)
    outside = np.where(size < 1.0, 0.5 * size**2, size - 0.5)
    loss: Array = np.where(distance < 0.0, inside, outside)
    return loss


def _improve(view: CameraView, outline: Array, shape: Shape, support: float, p: Array) -> Array | None:
    """One damped Gauss-Newton step on (x, y, yaw)."""
    distance = _distances(view, outline, shape, support, p)
    if distance is None:
        return None
    count = 3 if shape.period else 2
    jacobian = np.zeros((len(outline), count))
    for i in range(count):
        ahead = p.copy()
        ahead[i] += _STEPS[i]
        moved = _distances(view, outline, shape, support, ahead)
        if moved is None:
            return None
        jacobian[:, i] = (moved - distance) / _STEPS[i]
    weight = _weights(distance)
    normal = jacobian.T @ (weight[:, None] * jacobian)
    damping = 1e-3 * np.trace(normal[:2, :2]) / 2.0
    normal[np.diag_indices(count)] += [damping, damping, 1.0][:count]
    step = -np.linalg.solve(normal, jacobian.T @ (weight * distance))
    q: Array = p.copy()
    q[:count] += np.clip(step, -_MAX_MOVE[:count], _MAX_MOVE[:count])
    return q


def _judge(
    view: CameraView,
    region: Region,
    outline: Array,
    shape: Shape,
    support: float,
    x: float,
    y: float,
    yaw: float,
) -> Fit | None:
    points = shape.points(x, y, yaw, support)
    distance = _distances(view, outline, shape, support, np.array([x, y, yaw]))
    if distance is None:
        return None
    explained = distance[np.abs(distance) < 3.0]
    error = float(np.sqrt(np.mean(explained**2))) if len(explained) else float("inf")
    common, coverage, inside = _areas(view, region, points)
    period = shape.period
    return Fit(shape, x, y, yaw % period if period else 0.0, error, common, coverage, inside)


def _areas(view: CameraView, region: Region, points: Array) -> tuple[float, float, float]:
    """Intersection over union with the region, share that is filled, share inside the image."""
    hull = _hull(view, points)
    if hull is None:
        return 0.0, 0.0, 0.0
    drawn = np.zeros((view.height, view.width), np.uint8)
    cv2.fillConvexPoly(drawn, np.round(hull * 16.0).astype(np.int32), 1, shift=4)
    x, y = region.corner
    h, w = region.mask.shape
    common = int(np.count_nonzero(drawn[y : y + h, x : x + w] & (region.mask > 0)))
    total = int(np.count_nonzero(drawn))
    if total == 0:
        return 0.0, 0.0, 0.0
    full = max(float(cv2.contourArea(hull.astype(np.float32))), 1.0)
    return common / (total + region.area - common), common / total, min(1.0, total / full)
