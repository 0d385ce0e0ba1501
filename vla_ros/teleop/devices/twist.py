"""A twist that somebody publishes, as motion: physical, in the base frame, void when it is old."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.teleop.command import Command

STALE = 0.2
"""A twist older than this moves nothing [s]."""


class TwistState:
    """The newest twist."""

    def __init__(self) -> None:
        """At rest."""
        self._twist = np.zeros(6)
        self._heard = -np.inf
        self.trouble = ""

    def take(self, linear: Sequence[float], angular: Sequence[float], now: float) -> None:
        """A twist (3,) [m/s] and (3,) [rad/s] along and about the base axes; one that is not finite stops."""
        twist = np.array([*linear, *angular], dtype=float)
        if not np.isfinite(twist).all():
            self._twist[:] = 0.0
            self.trouble = "A twist that is not finite came; nothing moves."
            return
        self._twist, self._heard, self.trouble = twist, now, ""

    def command(self, now: float) -> Command:
        """What is asked for at `now` [s]."""
        if now - self._heard > STALE:
            return Command()
        moves = bool(self._twist.any())
        return Command(self._twist[:3].copy(), self._twist[3:].copy(), moves, physical=True)
