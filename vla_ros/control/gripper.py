"""The gripper's part of the motion: clamp, rate, and no chatter."""

from __future__ import annotations

from vla_ros.robots.spec import GripperSpec
from vla_ros.types import Intervention, InterventionAction, Reason

_HYSTERESIS = 0.004
"""Changes of the wanted opening smaller than this are not commanded [m]."""
_DWELL = 0.3
"""Least time between two reversals of the gripper [s]."""


class GripperShaper:
    """Turns a wanted opening into a commanded one, tick by tick."""

    def __init__(self, spec: GripperSpec, period: float) -> None:
        """`period` is the tick [s]."""
        self._spec, self._period = spec, period
        self.anchor(spec.max_width)

    def anchor(self, width: float) -> None:
        """Be at `width` [m] and want nothing else."""
        self.width = min(max(width, self._spec.min_width), self._spec.max_width)
        """Commanded opening now [m], moving at no more than the gripper's speed."""
        self.target = self.width
        """Opening on the way to [m]; what a driver that moves by itself is told."""
        self._direction = 0
        self._since = float("inf")
        self._clamped_before = self.width

    def update(self, wanted: float) -> list[Intervention]:
        """One tick; `wanted` may be any finite opening [m]."""
        found = []
        clamped = min(max(wanted, self._spec.min_width), self._spec.max_width)
        if abs(clamped - wanted) > 1e-6 and wanted != self._clamped_before:
            self._clamped_before = wanted
            found.append(Intervention(InterventionAction.LIMIT, Reason.GRIPPER, "width", wanted))
        self._since += self._period
        change = clamped - self.target
        # the ends are always reached exactly; between them small changes are noise
        at_end = clamped in (self._spec.min_width, self._spec.max_width)
        if abs(change) > (1e-6 if at_end else _HYSTERESIS):
            direction = 1 if change > 0.0 else -1
            if direction == self._direction or self._since >= _DWELL:
                if direction != self._direction:
                    self._since = 0.0
                self._direction, self.target = direction, clamped
        step = self._spec.speed * self._period
        self.width += min(max(self.target - self.width, -step), step)
        return found
