"""A short memory of joint states, read at any stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, JointState


class JointBuffer:
    """Joint states of the last `span` seconds, in the order of their stamps."""

    def __init__(self, span: float = 1.0, tolerance: float = 0.05) -> None:
        """`tolerance`: how far beyond the newest state a stamp may lie and still get that state [s]."""
        self._span = int(span * NANOSECONDS)
        self._tolerance = int(tolerance * NANOSECONDS)
        self._states: deque[JointState] = deque()

    def add(self, state: JointState) -> bool:
        """Remember one state; False, and nothing remembered, when it is not newer than the last."""
        if self._states and state.stamp <= self._states[-1].stamp:
            return False
        self._states.append(state)
        while state.stamp - self._states[0].stamp > self._span:
            self._states.popleft()
        return True

    @property
    def newest(self) -> JointState | None:
        """The last state, if any."""
        return self._states[-1] if self._states else None

    def at(self, stamp: int) -> JointState | None:
        """The joints at `stamp`: between two states linearly interpolated, beyond the ends the nearest.

        None when no state is near enough.
        """
        states = self._states
        if not states:
            return None
        after = bisect_left(states, stamp, key=lambda state: state.stamp)
        if after == len(states):
            return states[-1] if stamp - states[-1].stamp <= self._tolerance else None
        if after == 0:
            return states[0] if states[0].stamp - stamp <= self._tolerance else None
        a, b = states[after - 1], states[after]
        share = (stamp - a.stamp) / (b.stamp - a.stamp)

        def between(x: Array, y: Array) -> Array:
            return x + share * (y - x) if x.shape == y.shape else y

        return JointState(
            stamp,
            between(a.positions, b.positions),
            between(a.velocities, b.velocities),
            between(a.efforts, b.efforts),
        )


def gripper_width_of(reported: float, spec: RobotSpec) -> float:
    """Opening [m] of a gripper from the first joint its driver reports, linear between the YAML's ends."""
    ends = spec.driver.gripper
    closed, opened = float(str(ends["state_at_min_width"])), float(str(ends["state_at_max_width"]))
    share = (reported - closed) / (opened - closed)
    return spec.gripper.min_width + share * (spec.gripper.max_width - spec.gripper.min_width)
