"""Images without OpenGL: MuJoCo's ray caster with flat shading in numpy."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.robots.spec import CameraSpec
from vla_ros.types import Array, Image

SKY = np.array([0.72, 0.76, 0.80])
"""Colour where no ray hits anything; the scene's sky has the same."""
_NO_HIT = -1


def pixel_directions(camera: CameraSpec) -> Array:
    """Unit ray directions (height * width, 3), row by row, in MuJoCo's camera frame (y up, -z forward)."""
    k = camera.intrinsics
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack(
        [(u - k[0, 2]) / k[0, 0], -(v - k[1, 2]) / k[1, 1], -np.ones_like(u, dtype=np.float64)], axis=-1
    ).reshape(-1, 3)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), dtype=np.float64)


class RaycastRenderer:
    """Renders the cameras of a model by casting one ray a pixel.

    Shading is that of the OpenGL renderer without shadows, specular light and anti-aliasing: the ambient and
    diffuse parts of the headlight and of directional lights.
    """

    backend = "raycast"

    def __init__(self, model: mujoco.MjModel, cameras: dict[str, CameraSpec]) -> None:
        self._model = model
        self._ids = {name: model.camera(name).id for name in cameras}
        self._cameras = cameras
        self._rays = {name: pixel_directions(camera) for name, camera in cameras.items()}
        self._groups = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)

    def _cast(self, data: mujoco.MjData, name: str) -> tuple[NDArray[np.int32], Array]:
        """Geom ids (n,) and unit normals (n, 3) in the world frame."""
        identity = self._ids[name]
        rotation = data.cam_xmat[identity].reshape(3, 3)
        directions = self._rays[name] @ rotation.T
        count = len(directions)
        geoms = np.full(count, _NO_HIT, dtype=np.int32)
        distances = np.empty(count)
        normals = np.zeros(3 * count)
        mujoco.mj_multiRay(
            self._model,
            data,
            data.cam_xpos[identity],
            directions.ravel(),
            self._groups,
            True,
            -1,
            geoms,
            distances,
            normals,
            count,
            mujoco.mjMAXVAL,
        )
        return geoms, normals.reshape(-1, 3)

    def segment(self, data: mujoco.MjData, name: str) -> NDArray[np.int32]:
        """Geom id seen by each pixel, shape (height, width); -1 is the sky."""
        camera = self._cameras[name]
        return self._cast(data, name)[0].reshape(camera.height, camera.width)

    def render(self, data: mujoco.MjData, name: str) -> Image:
        """An image (height, width, 3) of a state whose kinematics are up to date."""
        model, camera = self._model, self._cameras[name]
        geoms, normals = self._cast(data, name)
        headlight = model.vis.headlight
        backwards = data.cam_xmat[self._ids[name]].reshape(3, 3)[:, 2]
        light = headlight.ambient + headlight.diffuse * np.maximum(0.0, normals @ backwards).reshape(-1, 1)
        for index in range(model.nlight):
            falling = np.maximum(0.0, -normals @ data.light_xdir[index]).reshape(-1, 1)
            light += model.light_ambient[index] + model.light_diffuse[index] * falling
        painted = model.geom_matid >= 0
        colours = np.array(model.geom_rgba[:, :3], dtype=np.float64)
        colours[painted] = model.mat_rgba[model.geom_matid[painted], :3]
        shaded = np.where((geoms == _NO_HIT)[:, None], SKY, colours[geoms] * light)
        image = np.rint(255.0 * np.clip(shaded, 0.0, 1.0)).astype(np.uint8)
        return image.reshape(camera.height, camera.width, 3)

    def close(self) -> None:
        """Nothing to release."""
