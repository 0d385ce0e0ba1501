"""One stream through one method: the motion at every tick, in space and in the joints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from benchmarks.chunk_methods import Cubic, Hold, Linear, Method, Ours, border
from benchmarks.chunk_streams import Stream
from vla_ros.actions import rotations
from vla_ros.contract import BLENDINGS, load_contract
from vla_ros.control.cartesian import CartesianTracker
from vla_ros.control.controller import SafetyController
from vla_ros.execution.reference import CartesianSample
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, JointState, Pose

BASELINES = {"hold last target": Hold, "linear": Linear, "cubic, rest at borders": Cubic}
BY_ARRIVAL, BY_STAMP = "by arrival", "by stamp"
_STEPS, _CLOSE = 12, 1e-11
"""Inverse kinematics: iterations a tick at most, and the residual [m], [rad] that is exact enough: third
differences at 250 Hz magnify it sixteen million times."""


@dataclass(frozen=True)
class Motion:
    """What a method asked for, at every tick."""

    times: Array
    points: Array
    """(m, 7) poses of the tool centre point."""
    joints: Array
    """(m, n): of the controller its commands, of a reference those of the ideal inverse kinematics."""
    jumps: Array
    """(3, 2) the greatest at any border, in position, velocity, acceleration; see `Method`."""
    refused: int = 0
    interventions: int = 0


def motions(stream: Stream, limited: bool = True) -> dict[str, Motion]:
    """Every method's motion under one stream, by name; `limited`: also behind the tool's limiter alone."""
    spec = load_robot(stream.robot)
    period = 1.0 / stream.rate
    pose = Kinematics(spec).forward(stream.start)
    makers: dict[str, Callable[[], Method]] = {}
    for way, aligned in ((BY_ARRIVAL, False), (BY_STAMP, True)):
        for name, kind in BASELINES.items():
            makers[f"{name}, {way}"] = lambda kind=kind, aligned=aligned: kind(pose, aligned)
    for mode in BLENDINGS:
        makers[f"executor, {mode}"] = lambda mode=mode: Ours(spec, pose, stream.start, mode, period)
    found = {}
    for name, make in makers.items():
        method = make()
        times, samples = _drive(stream, method)
        jumps = np.max(method.jumps, axis=0, initial=0.0)
        refused = getattr(method, "refused", 0)
        points = _points([sample.pose for sample in samples])
        found[name] = Motion(times, points, _followed(spec, stream.start, points), jumps, refused)
        if limited:
            shaped = _limited(spec, pose, samples, period)
            found[f"{name}, limited"] = Motion(times, shaped, np.zeros((len(times), 0)), jumps)
    for mode in BLENDINGS:
        found[f"controller, {mode}"] = _controlled(stream, mode)
    return found


def _ticks(stream: Stream) -> Array:
    """Times of the ticks [s]: the controller's, until all is at rest."""
    return np.arange(1, round((stream.end + 1.0) * stream.rate) + 1) / stream.rate


def _drive(stream: Stream, method: Method) -> tuple[Array, list[CartesianSample]]:
    times, waiting, samples = _ticks(stream), list(stream.deliveries), []
    for time in times.tolist():
        while waiting and waiting[0].arrival <= time:
            method.submit(waiting.pop(0), time)
        samples.append(method.sample(time))
    return times, samples


def _limited(spec: RobotSpec, pose: Pose, samples: list[CartesianSample], period: float) -> Array:
    """Points (m, 7) of the reference behind a limiter of the tool's speed, acceleration and jerk."""
    tracker = CartesianTracker(spec.tcp, pose, period)
    return _points([tracker.step(sample).pose for sample in samples])


def _controlled(stream: Stream, mode: str) -> Motion:
    """The whole safety controller on an arm that is where the last command says."""
    contract = load_contract(stream.robot, blending=mode, control_rate=stream.rate, contact=False)
    period, none = 1.0 / stream.rate, np.zeros(0)
    controller, kinematics = SafetyController(contract, period), Kinematics(contract.robot)
    measured = JointState(1, stream.start, none, none)
    controller.activate(measured, contract.robot.gripper.max_width, 0.0)
    times, waiting, poses, joints = _ticks(stream), list(stream.deliveries), [], []
    jumps: list[Array] = []
    refused = interventions = 0
    for time in times.tolist():
        now = round(time * NANOSECONDS)
        while waiting and waiting[0].arrival <= time:
            with border(controller.executor, time, jumps):
                refused += bool(controller.submit(waiting.pop(0).chunk, time, now)[1])
        tick = controller.update(time, now, measured, period)
        interventions += bool(tick.interventions)
        measured = JointState(now, tick.setpoint.positions, tick.setpoint.velocities, none)
        poses.append(kinematics.forward(tick.setpoint.positions))
        joints.append(tick.setpoint.positions)
    greatest = np.max(jumps, axis=0, initial=0.0)
    return Motion(times, _points(poses), np.array(joints), greatest, refused, interventions)


def _followed(spec: RobotSpec, start: Array, points: Array) -> Array:
    """Joints (m, n) that follow poses (m, 7) exactly: damped least squares without any limit."""
    kinematics = Kinematics(spec)
    q, rows = start.copy(), []
    for point in points:
        goal = rotations.to_matrix(point[3:])
        for _ in range(_STEPS):
            position, rotation = kinematics.placement(q)
            error = np.concatenate([point[:3] - position, pin.log3(goal @ rotation.T)])
            if np.abs(error).max() < _CLOSE:
                break
            jacobian = kinematics.jacobian(q)
            damping = (1e-8 + 1e-2 * float(error @ error)) * np.eye(6)
            q = q + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping, error)
        rows.append(q)
    return np.array(rows)


def _points(poses: list[Pose]) -> Array:
    return np.array([np.concatenate([pose.position, pose.quaternion]) for pose in poses])
