"""The state of the commanded motion and how it may change: jerk-limited, tick by tick."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import ruckig

from vla_ros.kernels import motion as kernels
from vla_ros.robots.spec import JointLimits
from vla_ros.types import Array


@dataclass(frozen=True)
class JointMotion:
    """Commanded positions [rad], velocities [rad/s] and accelerations [rad/s^2], each (n,)."""

    positions: Array
    velocities: Array
    accelerations: Array

    @classmethod
    def at_rest(cls, positions: Array) -> JointMotion:
        """Standing still at `positions`."""
        zero = np.zeros(len(positions))
        return cls(np.array(positions, dtype=float), zero, zero.copy())

    @property
    def resting(self) -> bool:
        """No joint moves."""
        return kernels.resting(self.velocities, self.accelerations, 1e-9)


class Stop:
    """The jerk-limited way to rest in least time from a given motion, every joint on its own, in closed form.

    Three phases a joint: jerk against the motion up to at most the acceleration limit, constant
    acceleration, jerk back to zero.  The same profile as the velocity interface of Ruckig (Berscheid and
    Kroeger, RSS 2021), which the tests compare it with; here the extreme positions on the way are exact too.
    """

    def __init__(self, motion: JointMotion, limits: JointLimits) -> None:
        """Plan from `motion`; its accelerations must be within the limits."""
        self.plan = kernels.plan_stop(
            motion.positions, motion.velocities, motion.accelerations, limits.acceleration, limits.jerk
        )
        self.duration = float(self.plan[3].max())
        """Until the last joint rests [s]."""

    def at(self, time: float) -> JointMotion:
        """Motion `time` [s] after its start; at rest from `duration` on."""
        return JointMotion(*kernels.stop_at(self.plan, time))

    def positions(self, times: Array) -> Array:
        """Positions (k, n) at times (k,) [s] after its start."""
        return kernels.stop_positions(self.plan, times)

    def extrema(self) -> tuple[Array, Array]:
        """Least and greatest position of each joint on the way, (n,) each."""
        ends = self.plan[_ENDS]
        return ends.min(axis=0), ends.max(axis=0)


_ENDS = [5, 14, 17]
"""Rows of a plan: where it starts, where it ends, where it turns."""
_FRAME = 0.98
_ROUNDING = 1e-9
_FOUND = (ruckig.Result.Working, ruckig.Result.Finished)
_RAMP = 0.03
"""Seconds in which tracking may go from no acceleration to the limit."""


def overspeed(motion: JointMotion, limits: JointLimits) -> bool:
    """Whether some joint must exceed its velocity limit before its acceleration can be brought to zero."""
    return kernels.overspeed(motion.velocities, motion.accelerations, limits.velocity, limits.jerk, _ROUNDING)


def gentle(limits: JointLimits) -> JointLimits:
    """The limits to track with: jerk that takes `_RAMP` to reach the acceleration limit.

    At the full published jerk one tick can hold a whole swing of the acceleration, so that following the
    noise would shake the arm.  Stops use the full jerk.
    """
    return replace(limits, jerk=np.minimum(limits.jerk, limits.acceleration / _RAMP))


class Tracker:
    """Follows a moving joint reference in least time within velocity, acceleration and jerk limits.

    The problem is solved in the frame that moves along with the reference, at its present velocity and
    acceleration: there the reference stands still, the limits become one-sided and jerk stays what it is.
    The first tick of the least-time way to the reference is taken, and the next tick solves anew.  A frame
    that accelerates knows nothing of the velocity limit it carries the robot to; where that limit could be
    overrun the tick is solved again in a frame of constant velocity, in which the limit is exact.
    """

    def __init__(self, limits: JointLimits, period: float) -> None:
        """`period` is the tick [s]."""
        n = len(limits.velocity)
        self._period = period
        self._limits = limits
        self._otg = ruckig.Ruckig(n)
        self._input = ruckig.InputParameter(n)
        self._input.synchronization = ruckig.Synchronization.No
        self._input.target_position = [0.0] * n
        self._input.target_velocity = [0.0] * n
        self._input.target_acceleration = [0.0] * n
        self._input.max_jerk = limits.jerk.tolist()
        self._trajectory = ruckig.Trajectory(n)

    def step(
        self, motion: JointMotion, positions: Array, velocities: Array, accelerations: Array
    ) -> JointMotion | None:
        """Motion one tick later.

        Args:
            motion: commanded now.
            positions: of the reference now (n,) [rad].
            velocities: of the reference; what exceeds the limits is clipped.
            accelerations: of the reference; what exceeds the limits is clipped.

        Returns: None when no way was found; the caller then executes its stored stop.
        """
        found = self._solve(motion, positions, velocities, accelerations)
        if found is None or found[1]:
            found = self._solve(motion, positions, velocities, np.zeros_like(accelerations))
        return None if found is None else found[0]

    def _solve(self, motion: JointMotion, p: Array, v: Array, a: Array) -> tuple[JointMotion, bool] | None:
        """The motion one tick later, and whether it leads to too high a velocity."""
        inp, limits = self._input, self._limits
        frame = kernels.moving_frame(
            motion.positions, motion.velocities, motion.accelerations, p, v, a,
            limits.velocity, limits.acceleration, _FRAME,
        )  # fmt: skip
        rows = frame.tolist()
        inp.current_position, inp.current_velocity, inp.current_acceleration = rows[2], rows[3], rows[4]
        inp.max_velocity, inp.min_velocity = rows[5], rows[6]
        inp.max_acceleration, inp.min_acceleration = rows[7], rows[8]
        try:
            result = self._otg.calculate(inp, self._trajectory)
        except ruckig.RuckigError:
            return None
        if result not in _FOUND:
            return None
        state, fast = kernels.out_of_frame(
            motion.positions, p, frame, np.array(self._trajectory.at_time(self._period)),
            limits.velocity, limits.jerk, self._period, _ROUNDING,
        )  # fmt: skip
        return JointMotion(*state), fast
