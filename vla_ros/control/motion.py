"""The state of the commanded motion and how it may change: jerk-limited, tick by tick."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import ruckig

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
        return bool(np.abs(self.velocities).max() < 1e-9 and np.abs(self.accelerations).max() < 1e-9)


class Stop:
    """The jerk-limited way to rest in least time from a given motion, every joint on its own, in closed form.

    Three phases a joint: jerk against the motion up to at most the acceleration limit, constant
    acceleration, jerk back to zero.  The same profile as the velocity interface of Ruckig (Berscheid and
    Kroeger, RSS 2021), which the tests compare it with; here the extreme positions on the way are exact too.
    """

    def __init__(self, motion: JointMotion, limits: JointLimits) -> None:
        """Plan from `motion`; its accelerations must be within the limits."""
        p, v, a, jerk = motion.positions, motion.velocities, motion.accelerations, limits.jerk
        # the sign of the jerk first applied: against the velocity that is left once the acceleration is gone
        sign = np.where(v + a * np.abs(a) / (2.0 * jerk) > 0.0, -1.0, 1.0)
        a0, change = sign * a, -sign * v
        # a change of velocity too small for the acceleration at hand leaves rounding below zero
        peak = np.sqrt(np.maximum(jerk * change + 0.5 * a0**2, 0.0))
        top = np.maximum(np.minimum(peak, limits.acceleration), a0)
        hold = np.maximum(change - (2.0 * top**2 - a0**2) / (2.0 * jerk), 0.0) / np.maximum(top, 1e-12)
        hold = np.where(peak > limits.acceleration, hold, 0.0)
        lengths = np.stack([(top - a0) / jerk, hold, top / jerk])
        self._jerks = np.stack([sign * jerk, np.zeros_like(jerk), -sign * jerk])
        self._starts = np.vstack([np.zeros_like(jerk), np.cumsum(lengths, axis=0)])
        self._knots = [(p, v, a)]
        for length, j in zip(lengths, self._jerks, strict=True):
            p, v, a = _advance(p, v, a, j, length)
            self._knots.append((p, v, a))
        self._start = motion
        self.duration = float(self._starts[-1].max())
        """Until the last joint rests [s]."""

    def at(self, time: float) -> JointMotion:
        """Motion `time` [s] after its start; at rest from `duration` on."""
        p, v, a = self._knots[3]
        resting = time >= self._starts[3]
        p, v, a = p.copy(), np.where(resting, 0.0, v), np.where(resting, 0.0, a)
        for phase in range(3):
            inside = (time >= self._starts[phase]) & (time < self._starts[phase + 1])
            if inside.any():
                state = _advance(*self._knots[phase], self._jerks[phase], time - self._starts[phase])
                p, v, a = (np.where(inside, new, old) for new, old in zip(state, (p, v, a), strict=True))
        return JointMotion(p, v, a)

    def positions(self, times: Array) -> Array:
        """Positions (k, n) at times (k,) [s] after its start."""
        t = np.minimum(times[:, None], self._starts[3])
        phase = (t >= self._starts[1]).astype(int) + (t >= self._starts[2])
        joint = np.arange(t.shape[1])
        p, v, a = (np.stack([knot[i] for knot in self._knots])[phase, joint] for i in range(3))
        return _advance(p, v, a, self._jerks[phase, joint], t - self._starts[phase, joint])[0]

    def extrema(self) -> tuple[Array, Array]:
        """Least and greatest position of each joint on the way, (n,) each."""
        p, v, a = self._knots[0]
        turn = p
        # the velocity can change its sign once, in the first phase, when the acceleration overshoots the stop
        jerk = self._jerks[0]
        sign = np.sign(jerk)
        root = (sign * a) ** 2 - 2.0 * np.abs(jerk) * sign * v
        reverses = (sign * v > 0.0) & (sign * a < 0.0) & (root > 0.0)
        if reverses.any():
            time = np.where(reverses, (-sign * a - np.sqrt(np.maximum(root, 0.0))) / np.abs(jerk), 0.0)
            turn = _advance(p, v, a, jerk, time)[0]
        ends = np.stack([p, self._knots[3][0], turn])
        return ends.min(axis=0), ends.max(axis=0)


def _advance(p: Array, v: Array, a: Array, jerk: Array, time: Array) -> tuple[Array, Array, Array]:
    """Motion after `time` of constant jerk."""
    return (
        p + time * (v + time * (0.5 * a + time * jerk / 6.0)),
        v + time * (a + 0.5 * time * jerk),
        a + time * jerk,
    )


_FRAME = 0.98
_ROUNDING = 1e-9
_RAMP = 0.03
"""Seconds in which tracking may go from no acceleration to the limit."""


def overspeed(motion: JointMotion, limits: JointLimits) -> bool:
    """Whether some joint must exceed its velocity limit before its acceleration can be brought to zero."""
    v, a = motion.velocities, motion.accelerations
    peak = v + np.abs(a) * a / (2.0 * limits.jerk)
    fastest = np.maximum(np.abs(v), np.abs(peak))
    return bool((fastest > limits.velocity + _ROUNDING).any())


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
        limits = self._limits
        # a frame as fast as a limit would leave no room to catch up in
        velocities = np.clip(velocities, -_FRAME * limits.velocity, _FRAME * limits.velocity)
        accelerations = np.clip(accelerations, -_FRAME * limits.acceleration, _FRAME * limits.acceleration)
        following = self._solve(motion, positions, velocities, accelerations)
        if following is None or overspeed(following, limits) or self._too_far(motion, following):
            following = self._solve(motion, positions, velocities, np.zeros_like(accelerations))
        return following

    def _too_far(self, motion: JointMotion, following: JointMotion) -> bool:
        """Whether the mean velocity of the tick exceeds the limit, having peaked inside it."""
        mean = np.abs(following.positions - motion.positions) / self._period
        return bool((mean > self._limits.velocity + _ROUNDING).any())

    def _solve(self, motion: JointMotion, p: Array, v: Array, a: Array) -> JointMotion | None:
        inp, limits, dt = self._input, self._limits, self._period
        inp.current_position = (motion.positions - p).tolist()
        inp.current_velocity = (motion.velocities - v).tolist()
        inp.current_acceleration = (motion.accelerations - a).tolist()
        inp.max_velocity = (limits.velocity - v).tolist()
        inp.min_velocity = (-limits.velocity - v).tolist()
        inp.max_acceleration = (limits.acceleration - a).tolist()
        inp.min_acceleration = (-limits.acceleration - a).tolist()
        try:
            result = self._otg.calculate(inp, self._trajectory)
        except ruckig.RuckigError:
            return None
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            return None
        dp, dv, da = (np.array(x) for x in self._trajectory.at_time(dt))
        return JointMotion(p + v * dt + 0.5 * a * dt * dt + dp, v + a * dt + dv, a + da)
