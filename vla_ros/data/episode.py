"""One recorded trajectory, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.frames import Frames
from vla_ros.errors import DataError
from vla_ros.types import Array, Image


class SizedInt(int):
    """A whole number of the metadata with the type that its data set declares, such as int32."""

    dtype: str

    def __new__(cls, value: int, dtype: str) -> SizedInt:
        """`dtype`: its name in numpy."""
        number = super().__new__(cls, value)
        number.dtype = dtype
        return number

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        """What makes it again, for other processes."""
        return int(self), self.dtype


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
    images: Mapping[str, Frames]
    """Per camera, T frames."""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Other features of the steps, first axis T.  Of the package's own: `observation/tcp_pose` (T, 7) [m],
    quaternion x y z w; `is_intervention` (T,) bool, where a person had taken over.
    """
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the data set says of the whole episode; our own keys: episode_id, task, outcome, robot."""
    rate: float = 0.0
    """Steps a second [Hz]; 0: not known."""
    action_space: str = ""
    """Name of the action space that the actions speak; empty: not known."""
    action_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    contract: str = ""
    """The contract it was recorded with, YAML; empty: none."""

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
        return frames.image(step)
