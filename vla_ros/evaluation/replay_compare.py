"""How near a replayed trajectory came to the recorded one, and why not nearer.

Recorded states are x, y, z, roll, pitch, yaw (fixed-axis, R = Rz Ry Rx), where
R_state = R_tcp @ state_rotation.  State k belongs to `start + k * period`; action k is due a period later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla_ros.actions import rotations
from vla_ros.data.episode import Episode
from vla_ros.errors import DataError
from vla_ros.evaluation.run_data import InterventionEvent, RunData
from vla_ros.evaluation.urdf_chain import read_urdf
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, InterventionAction

BRIDGE_PERIOD = 0.2
"""Seconds between the steps of BridgeData V2."""
_SMALL, _SMALL_ANGLE = 0.005, 0.05
"""Following errors below these need no further cause [m], [rad]."""


@dataclass(frozen=True)
class PosePath:
    """Poses of the tool centre point: times (N,) [s], positions (N, 3) [m], quaternions (N, 4)."""

    times: Array
    positions: Array
    quaternions: Array

    def at(self, times: Array) -> PosePath:
        """Poses at other times, interpolated; the ends are held."""
        times = np.clip(times, self.times[0], self.times[-1])
        after = np.clip(np.searchsorted(self.times, times), 1, len(self.times) - 1)
        before = after - 1
        span = np.maximum(self.times[after] - self.times[before], 1e-12)
        share = ((times - self.times[before]) / span)[:, None]
        turn = rotations.log(
            rotations.multiply(self.quaternions[after], rotations.conjugate(self.quaternions[before]))
        )
        return PosePath(
            times,
            self.positions[before] + share * (self.positions[after] - self.positions[before]),
            rotations.multiply(rotations.exp(share * turn), self.quaternions[before]),
        )


@dataclass(frozen=True)
class TrajectoryComparison:
    """One trajectory; the recorded states are the reference of every error."""

    source: str
    steps: int
    position_error_m: float
    """Between the driven and the recorded end point."""
    rotation_error_rad: float
    path_rms_m: float
    """Over all recorded states."""
    actions_position_error_m: float
    """Of the recorded actions alone, summed up from the first state: what no robot could avoid."""
    actions_rotation_error_rad: float
    following_error_m: float
    """Between the driven end point and where the recorded actions lead."""
    following_error_rad: float
    interventions: dict[str, int]
    """How often each reason was reported."""
    cause: str
    """One plain sentence."""


def recorded_path(states: Array, state_rotation: Array, period: float = BRIDGE_PERIOD) -> PosePath:
    """Poses of the tool centre point that recorded states (T, 6 or more) stand for, from time 0 on."""
    if states.ndim != 2 or states.shape[1] < 6 or len(states) < 2:
        raise DataError(
            f"recorded states have shape {states.shape}; needed are two or more of x y z roll pitch yaw."
        )
    turn = rotations.from_matrix(state_rotation.T)
    # R_tcp = R_state @ state_rotation^T
    quaternions = rotations.multiply(rotations.from_euler_xyz(states[:, 3:6]), turn)
    return PosePath(period * np.arange(len(states), dtype=np.float64), states[:, :3], quaternions)


def actions_path(start: PosePath, actions: Array, period: float = BRIDGE_PERIOD) -> PosePath:
    """Where Bridge actions (T, 6 or more) lead from the first pose of `start`, each on the last target.

    Translation along base axes; rotation about base axes, multiplied from the left.
    """
    positions, quaternions = [start.positions[0]], [start.quaternions[0]]
    for action in actions:
        positions.append(positions[-1] + action[:3])
        quaternions.append(rotations.multiply(rotations.from_euler_xyz(action[3:6]), quaternions[-1]))
    return PosePath(
        period * np.arange(len(actions) + 1, dtype=np.float64), np.array(positions), np.array(quaternions)
    )


def driven_path(run: RunData, robot: RobotSpec, start: int) -> PosePath:
    """Measured path of the tool centre point, by the joint states' forward kinematics.

    Time 0 is `start` [ns].  Raises `DataError` when the bag has no joint states.
    """
    if len(run.measured.stamps) < 2:
        raise DataError(f"{run.path} has no joint states on {robot.driver.joint_state_topic}.")
    values = {name: run.measured.positions[:, i] for i, name in enumerate(robot.joint_names)}
    poses = read_urdf(robot.urdf, robot.urdf_path).poses(robot.tcp_frame, values)
    return PosePath(
        np.asarray((run.measured.stamps - start) * 1e-9, np.float64),
        poses[:, :3, 3],
        np.array([rotations.from_matrix(matrix) for matrix in poses[:, :3, :3]]),
    )


def compare_trajectory(
    source: str,
    recorded: PosePath,
    actions: PosePath,
    driven: PosePath,
    interventions: Iterable[InterventionEvent] = (),
) -> TrajectoryComparison:
    """Compare a driven path with the recorded one; both begin at time 0."""
    there, led = driven.at(recorded.times), actions.at(recorded.times)
    errors = np.linalg.norm(there.positions - recorded.positions, axis=1)
    counted = Counter(f"{i.action.name} {i.reason} {i.subject}".strip() for i in interventions)
    following = float(np.linalg.norm(there.positions[-1] - led.positions[-1]))
    turning = _angle(there, led)
    alone, alone_angle = (
        float(np.linalg.norm(led.positions[-1] - recorded.positions[-1])),
        _angle(led, recorded),
    )
    return TrajectoryComparison(
        source=source,
        steps=len(recorded.times),
        position_error_m=float(errors[-1]),
        rotation_error_rad=_angle(there, recorded),
        path_rms_m=float(np.sqrt(np.mean(errors**2))),
        actions_position_error_m=alone,
        actions_rotation_error_rad=alone_angle,
        following_error_m=following,
        following_error_rad=turning,
        interventions=dict(counted.most_common()),
        cause=_cause(following, turning, alone, alone_angle, counted),
    )


def compare_episode(
    run: RunData, robot: RobotSpec, episode: Episode, start: int, period: float = BRIDGE_PERIOD
) -> TrajectoryComparison:
    """Compare what a run drove from `start` [ns] on, the stamp of its first observation, with an episode.

    Raises `DataError` when the bag has no joint states then.
    """
    recorded = recorded_path(episode.states, robot.state_rotation, period)
    driven = driven_path(run, robot, start)
    end = recorded.times[-1]
    if driven.times[0] > 0.5 * period or driven.times[-1] < end - 0.5 * period:
        raise DataError(f"{run.path} does not cover the {end:.1f} s of {episode.source}.")
    within = [i for i in run.interventions if 0.0 <= (i.stamp - start) * 1e-9 <= end + period]
    return compare_trajectory(
        episode.source, recorded, actions_path(recorded, episode.actions, period), driven, within
    )


def summary(comparisons: Sequence[TrajectoryComparison]) -> dict[str, Any]:
    """The result as JSON: count, medians (None when there are none) and a list per trajectory."""

    def median(name: str) -> float | None:
        values = [getattr(c, name) for c in comparisons]
        return float(np.median(values)) if values else None

    return {
        "trajectories": len(comparisons),
        "median_position_error_m": median("position_error_m"),
        "median_rotation_error_rad": median("rotation_error_rad"),
        "median_path_rms_m": median("path_rms_m"),
        "median_actions_position_error_m": median("actions_position_error_m"),
        "median_actions_rotation_error_rad": median("actions_rotation_error_rad"),
        "median_following_error_m": median("following_error_m"),
        "list": [asdict(c) for c in comparisons],
    }


def _angle(a: PosePath, b: PosePath) -> float:
    """Angle between the last orientations [rad]."""
    return float(rotations.angle_between(a.quaternions[-1], b.quaternions[-1]))


def _cause(following: float, turning: float, alone: float, alone_angle: float, counted: Counter[str]) -> str:
    actions = f"The recorded actions themselves end {100 * alone:.1f} cm and {alone_angle:.2f} rad off"
    if following < _SMALL and turning < _SMALL_ANGLE:
        return f"{actions}; the robot followed them to {1000 * following:.0f} mm."
    left = f"{actions}; the robot left them by {100 * following:.1f} cm and {turning:.2f} rad"
    limits = [key for key in counted if not key.startswith(InterventionAction.REJECT.name)]
    if limits:
        named = ", ".join(f"{key.lower()} ({counted[key]} reports)" for key in limits[:3])
        return f"{left} under {named}."
    return f"{left} without any intervention: servo lag, or a start away from the recorded pose."
