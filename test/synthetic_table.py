"""Draws blocks and plates through a camera model with OpenCV alone, for tests without a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vla_ros.policies.visual_servo.camera import CameraView
from vla_ros.policies.visual_servo.models import BLOCK, PLATE
from vla_ros.types import Array, Image

RGB = {
    "red": (205, 25, 25),
    "green": (25, 150, 45),
    "blue": (25, 60, 205),
    "yellow": (230, 200, 20),
    "purple": (130, 30, 190),
}
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
_LIGHT = np.array([0.3, 0.2, 0.93])
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Thing:
    """A block or plate standing on `support` (z) [m]."""

    kind: str
    colour: str
    x: float
    y: float
    yaw: float = 0.0
    support: float = 0.0


def look_at(position: Sequence[float], target: Sequence[float], fovy: float = 0.96) -> CameraView:
    """A 320 x 240 camera at `position` looking at `target`, upright."""
    eye = np.array(position, dtype=float)
    z = np.array(target, dtype=float) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    f = 0.5 * 240 / np.tan(0.5 * fovy)
    k = np.array([[f, 0.0, 159.5], [0.0, f, 119.5], [0.0, 0.0, 1.0]])
    return CameraView(k, eye, np.column_stack([x, np.cross(z, x), z]), 320, 240)


def draw(view: CameraView, things: Sequence[Thing], shading: float = 0.5) -> Image:
    """The image (h, w, 3), nearest thing last; `shading` 0 is flat."""
    canvas = np.full((view.height * _OVERSAMPLING, view.width * _OVERSAMPLING, 3), (189, 184, 176), np.uint8)
    distance = [np.linalg.norm([t.x - view.position[0], t.y - view.position[1]]) for t in things]
    for index in sorted(range(len(things)), key=lambda i: (things[i].support, -distance[i])):
        thing = things[index]
        colour = np.array(RGB[thing.colour], dtype=float)
        shape = BLOCK if thing.kind == "block" else PLATE
        points = shape.points(thing.x, thing.y, thing.yaw, thing.support)
        if np.any(view.project(points)[1] < 0.02):
            continue
        if thing.kind == "plate":
            _fill(canvas, view, points, colour * (1.0 - 0.7 * shading))
            _fill(canvas, view, points[len(points) // 2 :], colour)
            continue
        for face in _FACES:
            corners = points[list(face)]
            normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
            normal *= np.sign(normal @ (corners.mean(axis=0) - points.mean(axis=0))) / np.linalg.norm(normal)
            if normal @ (view.position - corners.mean(axis=0)) > 0.0:
                _fill(
                    canvas, view, corners, colour * (1.0 - shading * (1.0 - max(0.0, float(normal @ _LIGHT))))
                )
    small: Image = cv2.resize(canvas, (view.width, view.height), interpolation=cv2.INTER_AREA)
    return small


def _fill(canvas: Image, view: CameraView, points: Array, colour: Array) -> None:
    pixels = (view.project(points)[0] + 0.5) * _OVERSAMPLING - 0.5
    hull = cv2.convexHull(np.round(pixels * 16.0).astype(np.int32)).reshape(-1, 2)
    cv2.fillConvexPoly(canvas, hull, [float(c) for c in colour], shift=4)
