"""The judge of Cartesian speeds: tool, turn and elbow between consecutive commands, from its own kinematics.

On the nominal tick grid of period T the way of a point from one command to the next, divided by T, is a mean
of its velocity over the tick and so at most the greatest speed on the way; the same holds for the angle
between two orientations.  A command inside its limits can therefore be found guilty by rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.evaluation.urdf_chain import UrdfChain
from vla_ros.evaluation.violations import RELATIVE_TOLERANCE, Run, Violation
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

_NOISE = 1e-12
"""Rounding of a pose that is computed from joint positions [m and rad]."""


@dataclass(frozen=True)
class Speeds:
    """Greatest mean speeds over a tick, and what they are limited to."""

    tool: float
    """Of the tool centre point [m/s]."""
    turn: float
    """Of the tool's orientation [rad/s]."""
    elbow: float
    """Of the origin of the elbow's frame [m/s]."""
    limits: tuple[float, float, float]
    """Of tool [m/s], turn [rad/s] and elbow [m/s]."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the limits."""
        tool, turn, elbow = self.limits
        return self.tool / tool, self.turn / turn, self.elbow / elbow


def judge_speeds(
    chain: UrdfChain,
    values: Mapping[str, Array],
    ticks: NDArray[np.int64],
    runs: Sequence[Run],
    robot: RobotSpec,
    period: float,
) -> tuple[Speeds, list[Violation]]:
    """Hold the speeds of tool, turn and elbow against the robot's limits, at every tick.

    Args:
        chain: the robot's URDF.
        values: commanded positions (N,) by joint name [rad].
        ticks: (N,) tick numbers.
        runs: of consecutive ticks; what lies between two of them is not judged.
        robot: `tcp` has the limits; the elbow keeps that of the tool.
        period: nominal tick [s].
    """
    tool, elbow = chain.poses(robot.tcp_frame, values), chain.poses(robot.elbow_frame, values)
    limits = (robot.tcp.speed, robot.tcp.angular_speed, robot.tcp.speed)
    kinds = (("tcp_speed", "tcp"), ("tcp_turn", "tcp"), ("elbow_speed", robot.elbow_frame))
    ways = (_distances(tool), _angles(tool), _distances(elbow))
    found = list[Violation]()
    peaks: list[float] = []
    for (kind, subject), way, limit in zip(kinds, ways, limits, strict=True):
        peak = 0.0
        for run in runs:
            speed = way[run.start : run.stop - 1] / period
            peak = max(peak, float(speed.max(initial=0.0)))
            for k in np.flatnonzero(speed > limit * (1.0 + RELATIVE_TOLERANCE) + _NOISE / period):
                tick = int(ticks[run.start + 1 + k])
                found.append(Violation(kind, subject, tick, float(speed[k]), limit))
        peaks.append(peak)
    return Speeds(peaks[0], peaks[1], peaks[2], limits), found


def _distances(poses: Array) -> Array:
    """(N - 1,) ways [m] between consecutive poses (N, 4, 4)."""
    return np.asarray(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1))


def _angles(poses: Array) -> Array:
    """(N - 1,) angles [rad] between consecutive poses (N, 4, 4); exact for small ones too."""
    rotation = np.swapaxes(poses[:-1, :3, :3], 1, 2) @ poses[1:, :3, :3]
    skew = rotation - np.swapaxes(rotation, 1, 2)
    sine = 0.5 * np.linalg.norm(np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]]), axis=0)
    cosine = 0.5 * (np.trace(rotation, axis1=1, axis2=2) - 1.0)
    return np.asarray(np.arctan2(sine, cosine))
