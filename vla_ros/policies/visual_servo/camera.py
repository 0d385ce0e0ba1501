"""Where a calibrated camera sees from: projection to pixels and back to a horizontal plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.actions import rotations
from vla_ros.robots.spec import CameraSpec
from vla_ros.types import Array, JointState, Pose

FrameLookup = Callable[[Array, str], Pose]
"""Pose of a URDF frame in the base frame for joint positions (n,), as `Kinematics.forward_frame`."""


@dataclass(frozen=True)
class CameraView:
    """A pinhole camera at one moment, in the base frame."""

    intrinsics: Array
    """K (3, 3) for the image's own size [pixel]."""
    position: Array
    """(3,) optical centre [m]."""
    rotation: Array
    """(3, 3): base axes <- optical axes (z forward, x right, y down)."""
    width: int
    height: int

    @property
    def focal(self) -> float:
        """Focal length [pixel]."""
        return float(self.intrinsics[0, 0])

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points (n, 3) of the base frame [m] to pixels (n, 2) and depths (n,) [m].

        Pixels of points with a depth of 1 mm or less mean nothing.
        """
        local = (points - self.position) @ self.rotation
        depth = local[:, 2]
        safe = np.maximum(depth, 1e-3)
        scale = np.array([self.intrinsics[0, 0], self.intrinsics[1, 1]])
        return local[:, :2] / safe[:, None] * scale + self.intrinsics[:2, 2], depth

    def on_plane(self, pixels: Array, height: float) -> Array:
        """Points (n, 3) where the rays of pixels (n, 2) meet z = `height`; nan where they never do."""
        scale = np.array([self.intrinsics[0, 0], self.intrinsics[1, 1]])
        local = np.column_stack([(pixels - self.intrinsics[:2, 2]) / scale, np.ones(len(pixels))])
        rays = local @ self.rotation.T
        drop = height - self.position[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            along = drop / rays[:, 2]
        along = np.where(np.isfinite(along) & (along > 0.0), along, np.nan)
        points: Array = self.position + rays * along[:, None]
        return points


def view_of(
    camera: CameraSpec,
    joints: JointState,
    frame: FrameLookup,
    base_frame: str,
    size: tuple[int, int] | None = None,
) -> CameraView:
    """The camera's view with the arm at `joints`.

    `size` is (width, height) of the image in hand when it was resized; pixels scale about their corners.
    """
    position, quaternion = camera.pose.position, camera.pose.quaternion
    if camera.parent_frame != base_frame:
        parent = frame(joints.positions, camera.parent_frame)
        position = parent.position + rotations.rotate(parent.quaternion, position)
        quaternion = rotations.multiply(parent.quaternion, quaternion)
    width, height = size or (camera.width, camera.height)
    k = camera.intrinsics.copy()
    for row, ratio in ((0, width / camera.width), (1, height / camera.height)):
        k[row, row] *= ratio
        k[row, 2] = (k[row, 2] + 0.5) * ratio - 0.5
    return CameraView(k, position, rotations.to_matrix(quaternion), width, height)
