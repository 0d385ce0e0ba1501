"""The Cartesian reference, made followable: speed, acceleration and jerk of the tool within its limits.

A chunk's curve goes exactly through its targets at their times, however hard that is on the way.  This stage
follows the curve with the same least-time tracker the joints have, in six coordinates (position, and the
rotation vector from the curve's orientation, along base axes), so that what reaches the inverse kinematics is
always gentle and equals the curve wherever the curve itself keeps the limits.
"""

from __future__ import annotations

import numpy as np

from vla_ros.control.motion import JointMotion, Tracker
from vla_ros.execution.reference import CartesianSample
from vla_ros.kernels import tool
from vla_ros.robots.spec import JointLimits, TcpLimits
from vla_ros.types import Pose

_ZERO = np.zeros(6)


class CartesianTracker:
    """Keeps the pose, twist and acceleration that follow the curve."""

    def __init__(self, limits: TcpLimits, pose: Pose, period: float) -> None:
        """`limits` apply to each axis of the base frame; `period` is the tick [s]."""
        far = np.full(6, np.inf)
        axes = JointLimits(
            -far,
            far,
            np.repeat([limits.speed, limits.angular_speed], 3),
            np.repeat([limits.acceleration, limits.angular_acceleration], 3),
            np.repeat([limits.jerk, limits.angular_jerk], 3),
            far,
        )
        self._tracker = Tracker(axes, period)
        self.anchor(pose)

    def anchor(self, pose: Pose) -> None:
        """Rest at `pose`."""
        self._pose, self._twist, self._acceleration = pose, _ZERO, _ZERO

    def step(self, curve: CartesianSample) -> CartesianSample:
        """One tick towards `curve`, the sample of now.

        Returns: the tracked pose now with the twist and acceleration one tick later, as the trapezoidal
        integration of the inverse kinematics wants them.
        """
        offset = tool.offset(
            self._pose.position, self._pose.quaternion, curve.pose.position, curve.pose.quaternion
        )
        motion = JointMotion(offset, self._twist, self._acceleration)
        following = self._tracker.step(motion, _ZERO, curve.twist, curve.acceleration)
        before = self._pose
        if following is None:
            # no way within the limits from here (it never leaves them by itself): stand where the tool is
            self.anchor(before)
            return CartesianSample(before, _ZERO, _ZERO)
        self._pose = Pose(*tool.displaced(curve.pose.position, curve.pose.quaternion, following.positions))
        self._twist, self._acceleration = following.velocities, following.accelerations
        return CartesianSample(before, self._twist, self._acceleration)
