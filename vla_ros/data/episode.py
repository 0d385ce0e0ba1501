"""One recorded trajectory, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.encoded_image import decode_image
from vla_ros.errors import DataError
from vla_ros.types import Array, Image


@dataclass(frozen=True)
class Episode:
    """T steps.  Numbers are as the data set has them: its own units, frames and gripper convention."""

    source: str
    """Where it came from: file and record."""
    actions: Array
    """(T, action dimension)."""
    states: Array
    """(T, state dimension)."""
    is_first: NDArray[np.bool_]
    is_last: NDArray[np.bool_]
    is_terminal: NDArray[np.bool_]
    instructions: tuple[str, ...]
    """The language instruction at each step."""
    images: Mapping[str, tuple[bytes, ...]]
    """Per camera, T encoded images (JPEG or PNG)."""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Other features of the steps, first axis T."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the data set says of the whole episode."""

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.actions)

    @property
    def instruction(self) -> str:
        """The instruction of the first step; empty when there is none."""
        return self.instructions[0] if self.instructions else ""

    def image(self, camera: str, step: int) -> Image:
        """Decode one image to RGB (height, width, 3), uint8.  Raises `DataError`."""
        if camera not in self.images:
            raise DataError(f"{self.source} has no camera '{camera}'; only {', '.join(sorted(self.images))}.")
        frames = self.images[camera]
        if not 0 <= step < len(frames):
            raise DataError(
                f"{self.source}: step {step} is not among the {len(frames)} of camera '{camera}'."
            )
        return decode_image(frames[step], f"{self.source}, camera '{camera}', step {step}")
