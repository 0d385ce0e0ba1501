"""What runs the networks: the policy hands it arrays, whether torch or ONNX Runtime answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import Image

Tokens = Any
"""Whatever the engine keeps of a frame or an instruction; only it looks inside."""
Floats = NDArray[np.float32]


class Engine(Protocol):
    """The networks of one Octo model, batch of one."""

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of each camera's image."""
        ...

    def instruction(self, ids: NDArray[np.int64], mask: NDArray[np.int64], shown: bool) -> Tokens:
        """The instruction's tokens, ids and mask (1, n); not `shown`: they are there but masked."""
        ...

    def frame(self, camera: str, image: Image, goal: Image | None) -> Tokens:
        """A camera's tokens, image and goal (height, width, 3)."""
        ...

    def act(
        self,
        instruction: Tokens,
        frames: Mapping[str, Sequence[Tokens]],
        masks: Mapping[str, NDArray[np.bool_]],
        noise: Floats,
        step_noise: Floats,
        kept: NDArray[np.bool_],
        guidance: tuple[Floats, Floats] | None,
        spent: dict[str, float],
    ) -> Floats:
        """Normalised actions (horizon, dimension).

        Args:
            instruction: of `instruction`.
            frames: of every camera, the window's frames, oldest first.
            masks: of every camera (window,), False: padding.
            noise: (horizon * dimension,) standard normal.
            step_noise: (steps, horizon * dimension) standard normal.
            kept: (horizon * dimension,), False for dimensions that the robot does not have.
            guidance: target and weight, each (horizon * dimension,).
            spent: seconds by stage are added here.
        """
        ...
