"""From a goal of the tool to a chunk of small deltas.

The law is autonomous: the next pose depends on the present pose and the goal alone.  Re-planning from a pose
along the way therefore gives the rest of the same path.  Because answers arrive late, a plan begins with the
steps of the plan before that are under way by then; late chunks agree with early ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.actions import rotations
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Pose

_RATIO = 0.6
"""Share of the remaining way of one step: a geometric, soft arrival."""
_SETTLING = 0.3
"""Time constant of single steps' arrival [s]; longer than what an arm is behind its command."""
_CORRECTION = 0.25
"""Share of the difference between plan and measurement that is taken over per answer."""
_LOST, _LOST_TURN = 0.06, 0.3
"""Farther from the plan than this [m], [rad] the measurement alone counts."""
_LATERAL_SLACK = 0.004
_YAW_SLACK = 0.05


@dataclass(frozen=True)
class Goal:
    """Where the tool shall be: `position` (3,) [m] in the base frame and orientation (4,)."""

    position: Array
    quaternion: Array
    hover: float = 0.0
    """Height above the goal that is kept until the tool is above it and turned [m]."""
    speed: float = float("inf")
    """Largest speed [m/s]; the pace's own if less."""


@dataclass(frozen=True)
class Pace:
    """How fast the tool is asked to go, below what the safety controller allows."""

    speed: float
    """[m/s]."""
    contact_speed: float
    """Of descending at the goal's height [m/s]; rises by `contact_rise` per metre above it."""
    contact_rise: float
    angular_speed: float
    """[rad/s]."""
    acceleration: float
    """With which the tool gains speed [m/s^2]."""
    angular_acceleration: float
    """[rad/s^2]."""

    @staticmethod
    def of(robot: RobotSpec) -> Pace:
        """A comfortable pace for the robot's TCP limits."""
        return Pace(
            speed=min(0.18, 0.6 * robot.tcp.speed),
            contact_speed=0.05,
            contact_rise=2.0,
            angular_speed=min(0.8, 0.6 * robot.tcp.angular_speed),
            acceleration=min(0.5, 0.3 * robot.tcp.acceleration),
            angular_acceleration=min(1.5, 0.4 * robot.tcp.angular_acceleration),
        )


def step(pose: Pose, goal: Goal, pace: Pace, period: float, ratio: float = _RATIO) -> Pose:
    """The pose one period [s] later on the way to the goal; `ratio`: share of a short remaining way.

    Sideways and turning errors ask for height (a funnel above the goal); lack of height stops sideways
    motion.
    """
    ahead = goal.position - pose.position
    turn = rotations.log(rotations.multiply(goal.quaternion, rotations.conjugate(pose.quaternion)))
    lateral, angle = float(np.hypot(ahead[0], ahead[1])), float(np.linalg.norm(turn))
    height = max(5.0 * (lateral - _LATERAL_SLACK), 0.4 * (angle - _YAW_SLACK), 0.0)
    want = goal.position[2] + min(height, goal.hover)
    lack = float(want - pose.position[2])
    free = float(np.clip(1.5 - lack / 0.03, 0.0, 1.0)) if goal.hover > 0.0 else 1.0
    speed = min(pace.speed, goal.speed)
    move = np.array([ahead[0] * free, ahead[1] * free, lack])
    if lack < 0.0:
        above = float(pose.position[2] - goal.position[2])
        slow = min(speed, pace.contact_speed + pace.contact_rise * max(above, 0.0)) * period
        move[2] = max(ratio * move[2] if lack < -0.003 else move[2], -slow)
    length = float(np.linalg.norm(move))
    move *= min(ratio if length > 0.003 else 1.0, speed * period / max(length, 1e-9))
    turn *= min(ratio if angle > 0.02 else 1.0, pace.angular_speed * period / max(angle, 1e-9))
    return _moved(pose, move, rotations.exp(turn))


def _moved(pose: Pose, move: Array, turn: Array) -> Pose:
    """`pose` after a translation (3,) and a turn (4,) about itself along base axes."""
    return Pose(pose.position + move, rotations.normalize(rotations.multiply(turn, pose.quaternion)))


class Plan:
    """Poses planned at evenly spaced times; rest before the first and after the last."""

    def __init__(self, start: float, period: float, poses: Sequence[Pose]) -> None:
        """`poses[k]` is meant for `start + k * period` [s]."""
        self._start = start
        self._period = period
        self._poses = poses

    def pose(self, time: float) -> Pose:
        """Planned pose at `time` [s]: straight lines, turned at constant speed between steps."""
        last = len(self._poses) - 1
        at = float(np.clip((time - self._start) / self._period, 0.0, last))
        k = min(int(at), last)
        a, b, share = self._poses[k], self._poses[min(k + 1, last)], at - k
        return _moved(a, share * (b.position - a.position), rotations.exp(share * _turn(a, b)))

    def between(self, begin: float, end: float) -> tuple[Array, Array]:
        """Translation (3,) and turn (4,) about the tool, base axes, planned from `begin` to `end` [s]."""
        a, b = self.pose(begin), self.pose(end)
        return b.position - a.position, rotations.multiply(b.quaternion, rotations.conjugate(a.quaternion))


def observed(measured: Pose, plan: Plan | None, time: float) -> Pose:
    """Where the commanded tool is believed to be at `time` [s]: the plan, corrected towards what is measured.

    Deltas are added to what was commanded, which the arm follows with a lag.  Planning from the measured pose
    alone would feed that lag back through the latency and make the arm swing; a share of the difference per
    answer still removes a lasting one.  A large difference means that the plan was not carried out.
    """
    if plan is None:
        return measured
    planned = plan.pose(time)
    apart = measured.position - planned.position
    turned = _turn(planned, measured)
    if np.linalg.norm(apart) > _LOST or np.linalg.norm(turned) > _LOST_TURN:
        return measured
    return _moved(planned, _CORRECTION * apart, rotations.exp(_CORRECTION * turned))


@dataclass(frozen=True)
class Schedule:
    """Times of a chunk [s]."""

    start: float
    """Stamp of the observation."""
    period: float
    horizon: int
    committed: int
    """Steps that still belong to the plan before: they are under way when the answer arrives."""


def make_plan(pose: Pose, goal: Goal | None, pace: Pace, schedule: Schedule, before: Plan | None) -> Plan:
    """From the present `pose` through what the plan before has under way, then to `goal` (None: stay).

    Without the committed steps an answer that comes late would ask the arm to catch up with a motion that
    could not have begun, and two answers under way would contradict each other.
    """
    poses = [pose]
    for k in range(schedule.horizon):
        if k < schedule.committed:
            begin = schedule.start + k * schedule.period
            move, turn = np.zeros(3), rotations.IDENTITY
            if before is not None:
                move, turn = before.between(begin, begin + schedule.period)
            pose = _moved(pose, move, turn)
        elif goal is not None:
            after = step(pose, goal, pace, schedule.period)
            move, turn = after.position - pose.position, _turn(pose, after)
            gain = schedule.period**2
            last_move, last_turn = _last_step(poses, schedule, before)
            move *= _share(move, last_move + pace.acceleration * gain)
            turn *= _share(turn, last_turn + pace.angular_acceleration * gain)
            pose = _moved(pose, move, rotations.exp(turn))
        poses.append(pose)
    return Plan(schedule.start, schedule.period, poses)


def _last_step(poses: Sequence[Pose], schedule: Schedule, before: Plan | None) -> tuple[float, float]:
    """Length [m] and angle [rad] of the step before the next one, of this plan or the plan before."""
    if len(poses) > 1:
        a, b = poses[-2], poses[-1]
    elif before is not None:
        a, b = before.pose(schedule.start - schedule.period), before.pose(schedule.start)
    else:
        return 0.0, 0.0
    return float(np.linalg.norm(b.position - a.position)), float(np.linalg.norm(_turn(a, b)))


def _turn(a: Pose, b: Pose) -> Array:
    """Rotation vector (3,) from a to b along base axes [rad]."""
    turn: Array = rotations.log(rotations.multiply(b.quaternion, rotations.conjugate(a.quaternion)))
    return turn


def _share(vector: Array, most: float) -> float:
    """Factor that shortens a vector to a length of at most `most`."""
    return min(1.0, most / max(float(np.linalg.norm(vector)), 1e-9))


def single_step(pose: Pose, goal: Goal | None, pace: Pace, seconds: float) -> Array:
    """The step (1, 6) from the measured `pose` towards the goal, as `deltas`; no longer than `seconds` allow.

    What is left is covered at a rate in time, not in answers: the robot is behind its command by about the
    same time at any rate, and a share an answer would make it swing where answers are quick.
    """
    ratio = 1.0 - float(np.exp(-seconds / _SETTLING))
    after = pose if goal is None else step(pose, goal, pace, seconds, ratio)
    turn = rotations.multiply(after.quaternion, rotations.conjugate(pose.quaternion))
    return np.concatenate([after.position - pose.position, rotations.to_euler_xyz(turn)])[None]


def deltas(plan: Plan, schedule: Schedule) -> Array:
    """The plan as steps (horizon, 6): translation along base axes [m], extrinsic xyz turn [rad]."""
    rows = np.zeros((schedule.horizon, 6))
    for k in range(schedule.horizon):
        begin = schedule.start + k * schedule.period
        move, turn = plan.between(begin, begin + schedule.period)
        rows[k, :3], rows[k, 3:] = move, rotations.to_euler_xyz(turn)
    return rows
