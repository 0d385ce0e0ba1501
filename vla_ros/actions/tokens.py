"""The 256-bin action token codec of OpenVLA (and RT-2's 256 integers).

Convention (openvla/openvla, prismatic/vla/action_tokenizer.py): edges = linspace(-1, 1, 256); an action is
clipped to [-1, 1] and digitised to d in 1..256; token = vocabulary - d.  Decoding takes the midpoint of the
bin, of which there are 255: the two lowest tokens share the last midpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import ActionError
from vla_ros.types import Array

BINS = 256
_EDGES = np.linspace(-1.0, 1.0, BINS)
_CENTERS = 0.5 * (_EDGES[:-1] + _EDGES[1:])


@dataclass(frozen=True)
class TokenCodec:
    """Maps normalised actions in [-1, 1] to token ids and back."""

    vocabulary: int = 32000

    @property
    def lowest(self) -> int:
        """Smallest action token id (action +1)."""
        return self.vocabulary - BINS

    def encode(self, values: ArrayLike) -> NDArray[np.int64]:
        """Normalised actions to token ids, same shape; values outside [-1, 1] are clipped."""
        clipped = np.clip(np.asarray(values, dtype=float), -1.0, 1.0)
        return np.asarray(self.vocabulary - np.digitize(clipped, _EDGES), dtype=np.int64)

    def decode(self, tokens: ArrayLike) -> Array:
        """Token ids to bin centres in (-1, 1), same shape; `ActionError` for ids that are no action."""
        ids = np.asarray(tokens)
        if not np.issubdtype(ids.dtype, np.integer):
            raise ActionError(f"action tokens are {ids.dtype}, but must be integers")
        bad = (ids < self.lowest) | (ids >= self.vocabulary)
        if bad.any():
            raise ActionError(
                f"token {int(ids[bad].flat[0])} is not an action token, "
                f"allowed are {self.lowest} to {self.vocabulary - 1}"
            )
        centers: Array = _CENTERS[np.clip(self.vocabulary - ids - 1, 0, BINS - 2)]
        return centers
