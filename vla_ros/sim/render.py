"""Camera images of a simulated scene: OpenGL without a screen, or the ray caster where there is no OpenGL."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Protocol

import mujoco

from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.robots.spec import CameraSpec
from vla_ros.sim.raycast import RaycastRenderer
from vla_ros.types import Image

RENDERER_VARIABLE = "VLA_ROS_RENDERER"
BACKENDS = ("auto", "opengl", "raycast")
_log = logging.getLogger(__name__)


class Renderer(Protocol):
    """Turns a state into images.  Must be used in the thread that made it."""

    @property
    def backend(self) -> str:
        """`egl` (or another OpenGL platform) or `raycast`."""
        ...

    def render(self, data: mujoco.MjData, name: str) -> Image:
        """Image (height, width, 3), rgb, of camera `name`."""
        ...

    def close(self) -> None:
        """Release graphics memory."""
        ...


class OpenGLRenderer:
    """`mujoco.Renderer` with shadows and reflections off: ten times faster on a software rasteriser."""

    def __init__(self, model: mujoco.MjModel, cameras: Mapping[str, CameraSpec]) -> None:
        self.backend = os.environ.get("MUJOCO_GL", "opengl")
        self._sizes = {name: (camera.height, camera.width) for name, camera in cameras.items()}
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        for height, width in set(self._sizes.values()):
            renderer = mujoco.Renderer(model, height, width)
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                renderer.scene.flags[flag] = False
            self._renderers[height, width] = renderer

    def render(self, data: mujoco.MjData, name: str) -> Image:
        """Image (height, width, 3), rgb, of camera `name`."""
        renderer = self._renderers[self._sizes[name]]
        renderer.update_scene(data, camera=name)
        image: Image = renderer.render()
        return image

    def close(self) -> None:
        """Release the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def make_renderer(model: mujoco.MjModel, cameras: Mapping[str, CameraSpec], kind: str = "auto") -> Renderer:
    """OpenGL where a context can be made, else the ray caster; says in one sentence when it falls back.

    `kind` is auto, opengl or raycast; `auto` gives way to the environment variable VLA_ROS_RENDERER.
    Raises `ConfigurationError` for another kind and `MachineError` when opengl is demanded and missing.
    """
    if kind == "auto":
        kind = os.environ.get(RENDERER_VARIABLE, "auto")
    if kind not in BACKENDS:
        raise ConfigurationError(
            f"The renderer '{kind}' is unknown; the parameter 'renderer' or the environment variable "
            f"{RENDERER_VARIABLE} must be one of {', '.join(BACKENDS)}."
        )
    if kind == "raycast":
        return RaycastRenderer(model, dict(cameras))
    try:
        return OpenGLRenderer(model, cameras)
    # Each GL binding fails with exceptions of its own (AttributeError, ImportError, GLError, FatalError...).
    except Exception as error:
        if kind == "opengl":
            raise MachineError(
                f"No OpenGL context could be made ({error}); install libegl1 and libgl1-mesa-dri "
                "or choose renderer 'raycast'."
            ) from error
        _log.warning(
            "No OpenGL context could be made (%s), so images come from the slower ray caster; "
            "install libegl1 and libgl1-mesa-dri for OpenGL.",
            " ".join(str(error).split()),
        )
        return RaycastRenderer(model, dict(cameras))
