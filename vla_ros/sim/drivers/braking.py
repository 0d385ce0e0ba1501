"""How a driver brings an arm to rest by itself."""

from __future__ import annotations

import numpy as np

from vla_ros.types import Array


class Braking:
    """Every joint on its own to rest, at a constant deceleration."""

    def __init__(self, positions: Array, velocities: Array, deceleration: Array | float, time: float) -> None:
        """From positions (n,) [rad] and velocities (n,) [rad/s] at `time` [s]; deceleration [rad/s^2]."""
        self._from, self._velocities = np.array(positions), np.array(velocities)
        self._deceleration = np.broadcast_to(np.asarray(deceleration, dtype=np.float64), self._from.shape)
        self._begin = time
        self._seconds = np.abs(self._velocities) / self._deceleration
        self.end = time + float(np.max(self._seconds))
        """When the last joint rests [s]."""

    def at(self, time: float) -> Array:
        """Positions (n,) [rad]."""
        t = np.clip(time - self._begin, 0.0, self._seconds)
        return np.asarray(
            self._from + self._velocities * t - 0.5 * np.sign(self._velocities) * self._deceleration * t * t
        )
