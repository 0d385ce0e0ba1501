"""Continuous references: what the robot should do at any instant, twice continuously differentiable.

Time here is the controller's own [s] since activation, which no clock adjustment can move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ActionError
from vla_ros.execution.ease import Gentle, ease_out
from vla_ros.execution.spline import CurveState, QuinticSpline, first_within_reach, merged
from vla_ros.kernels.curve import sample_pose
from vla_ros.types import Array, Pose

_STILL = np.zeros(6)
MAX_ROTATION = 2.5
"""Waypoints further than this from the present orientation [rad] have no unambiguous shortest way."""


@dataclass(frozen=True)
class CartesianSample:
    """Pose, twist (linear, angular) (6,) and its derivative (6,) in the base frame."""

    pose: Pose
    twist: Array
    acceleration: Array


class CartesianReference:
    """A C2 motion in SE(3): translation and rotation vector about an anchor as one minimum-jerk curve."""

    def __init__(self, pose: Pose) -> None:
        """Start at rest at `pose`."""
        self._anchor = np.array(pose.quaternion, dtype=float)
        self._rest = Pose(np.array(pose.position, dtype=float), self._anchor)
        self._curve: QuinticSpline | None = None

    @property
    def end_time(self) -> float:
        """When the motion comes to rest [s]; -inf when it is at rest."""
        return -np.inf if self._curve is None else self._curve.end_time

    def sample(self, time: float) -> CartesianSample:
        """Reference at `time` [s]."""
        curve = self._curve
        if curve is None:
            return CartesianSample(self._rest, _STILL, _STILL)
        position, quaternion, twist, acceleration = sample_pose(
            curve.knots, curve.coefficients, curve.end, self._anchor, time
        )
        return CartesianSample(Pose(position, quaternion), twist, acceleration)

    def replan(
        self, time: float, times: Array, positions: Array, quaternions: Array, gentle: Gentle | None = None
    ) -> int:
        """From the present motion at `time` through new waypoints (k,), (k, 3), (k, 4), to rest at the last.

        Args:
            time: now [s].
            times: of the waypoints [s].
            positions: of the waypoints [m].
            quaternions: of the waypoints.
            gentle: waypoints that take a larger acceleration to reach in time are left out, those too close
                to each other are merged, and the last are reached later where the rest at the end would take
                more.

        Returns: how many waypoints, merged ones, were left out.

        Raises:
            ActionError: waypoints not in order, not finite, or turned too far; the motion stays as it was.
        """
        now = self.sample(time)
        vectors = rotations.log(rotations.multiply(quaternions, rotations.conjugate(now.pose.quaternion)))
        turn = float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
        if turn > MAX_ROTATION:
            raise ActionError(
                f"a target is turned {turn:.2f} rad from the present orientation, "
                f"allowed are {MAX_ROTATION} rad"
            )
        # at a rotation vector of zero its derivatives are the angular motion itself
        start = CurveState(np.concatenate([now.pose.position, np.zeros(3)]), now.twist, now.acceleration)
        points = np.hstack([positions, vectors])
        first, self._curve = _through(time, start, times, points, gentle)
        self._anchor = now.pose.quaternion
        return first

    def slow_down(self, time: float, seconds: float) -> None:
        """Come to rest within `seconds`, on the way the motion has now."""
        now = self.sample(time)
        position = now.pose.position + 0.5 * seconds * now.twist[:3]
        vector = 0.5 * seconds * now.twist[3:]
        # a curve may turn faster than any robot follows; its end must still be the shortest way from here
        vector *= min(1.0, 0.8 * MAX_ROTATION / max(float(np.linalg.norm(vector)), 1e-12))
        quaternion = rotations.multiply(rotations.exp(vector), now.pose.quaternion)
        self.replan(time, np.array([time + seconds]), position[None], quaternion[None])


class JointReference:
    """A C2 motion of n joints."""

    def __init__(self, positions: Array) -> None:
        """Start at rest at `positions` (n,) [rad]."""
        self._rest = np.array(positions, dtype=float)
        self._curve: QuinticSpline | None = None

    @property
    def end_time(self) -> float:
        """When the motion comes to rest [s]; -inf when it is at rest."""
        return -np.inf if self._curve is None else self._curve.end_time

    def sample(self, time: float) -> CurveState:
        """Reference at `time` [s], each (n,)."""
        if self._curve is None:
            zero = np.zeros_like(self._rest)
            return CurveState(self._rest, zero, zero)
        return self._curve.sample(time)

    def replan(self, time: float, times: Array, positions: Array, gentle: Gentle | None = None) -> int:
        """From the present motion at `time` through waypoints (k,), (k, n), to rest at the last.

        `gentle` and the result are as in `CartesianReference.replan`.
        """
        first, self._curve = _through(time, self.sample(time), times, positions, gentle)
        return first

    def slow_down(self, time: float, seconds: float) -> None:
        """Come to rest within `seconds`, on the way the motion has now."""
        now = self.sample(time)
        self.replan(time, np.array([time + seconds]), (now.position + 0.5 * seconds * now.velocity)[None])


def _through(
    time: float, start: CurveState, times: Array, points: Array, gentle: Gentle | None
) -> tuple[int, QuinticSpline]:
    """The number of waypoints left out, and the curve through the others."""
    if gentle is None:
        return 0, QuinticSpline(time, start, times, points)
    times, points = merged(times, points)
    first = first_within_reach(time, start, times, points, gentle.acceleration, gentle.jerk)
    times, points = times[first:], points[first:]
    return first, QuinticSpline(time, start, ease_out(time, start, times, points, gentle), points)
