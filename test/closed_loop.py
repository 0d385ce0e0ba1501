"""A policy in closed loop with the simulated world, in one process and faster than real time.

The executor is the simplest that respects stamps: deltas composed on what was commanded at the stamp,
straight lines between steps, inverse kinematics at 100 Hz, no limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.actions import rotations
from vla_ros.policies.base import Policy
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.world import World
from vla_ros.types import NANOSECONDS, Array, CameraImage, JointState, Observation, PolicyOutput, Pose

TICK = 0.01
PERIOD = 0.2


@dataclass(frozen=True)
class Rollout:
    """How an episode went."""

    success: bool
    terminated: bool
    seconds: float
    reason: str
    texts: list[str]


class LinearExecutor:
    """Straight lines through the steps still due."""

    def __init__(self, pose: Pose, width: float) -> None:
        self.pose, self.width = pose, width
        self._history: list[tuple[float, Pose]] = []
        self._steps: list[tuple[float, Pose, float]] = []

    def submit(self, output: PolicyOutput, stamp: float, now: float, span: tuple[float, float]) -> None:
        """Take over a chunk observed at `stamp` [s]; `span` is closed and open width [m]."""
        assert output.values is not None
        base = next((pose for time, pose in reversed(self._history) if time <= stamp + 1e-9), self.pose)
        self._steps = []
        for k, row in enumerate(output.values):
            turn = rotations.multiply(rotations.from_euler_xyz(row[3:6]), base.quaternion)
            base = Pose(base.position + row[:3], turn)
            if stamp + (k + 0.5) * PERIOD > now:  # nearer ones would be a jump
                width = span[0] + row[6] * (span[1] - span[0])
                self._steps.append((stamp + (k + 1) * PERIOD, base, width))

    def advance(self, time: float) -> None:
        """To `time` [s], one tick later."""
        ahead = [step for step in self._steps if step[0] > time - TICK + 1e-9]
        if ahead:
            due, goal, self.width = ahead[0]
            share = min(1.0, TICK / (due - time + TICK))
            turn = rotations.log(
                rotations.multiply(goal.quaternion, rotations.conjugate(self.pose.quaternion))
            )
            self.pose = Pose(
                self.pose.position + share * (goal.position - self.pose.position),
                rotations.normalize(rotations.multiply(rotations.exp(share * turn), self.pose.quaternion)),
            )
        self._history.append((time, self.pose))
        del self._history[:-300]


def follow(kinematics: Kinematics, joints: Array, pose: Pose) -> Array:
    """Joint positions a tick later, two damped Gauss-Newton steps nearer to `pose`; the rest tends home."""
    spec = kinematics.spec
    for _ in range(2):
        now = kinematics.forward(joints)
        turn = rotations.log(rotations.multiply(pose.quaternion, rotations.conjugate(now.quaternion)))
        jacobian = kinematics.jacobian(joints)
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-5 * np.eye(6))
        home = (np.eye(spec.dof) - inverse @ jacobian) @ (0.02 * (spec.home - joints))
        joints = joints + inverse @ np.concatenate([pose.position - now.position, turn]) + home
    return np.clip(joints, spec.applied.position_min, spec.applied.position_max)


def observe(world: World, kinematics: Kinematics, time: float, sequence: int) -> Observation:
    """What cameras and encoders say."""
    positions, velocities, efforts = world.joint_state()
    stamp = NANOSECONDS + round(time * NANOSECONDS)
    images = {name: CameraImage(stamp, world.render(name)) for name in world.cameras}
    joints = JointState(stamp, positions, velocities, efforts)
    return Observation(stamp, sequence, images, joints, world.gripper_width(), kinematics.forward(positions))


def rollout(
    world: World,
    policy: Policy,
    delay: float = 0.08,
    seconds: float | None = None,
    disturb: Callable[[World, float], None] | None = None,
    watch: Callable[[float, Observation, PolicyOutput], None] | None = None,
) -> Rollout:
    """Run until the judge has decided and the policy says it is done, or time is up."""
    spec = world.spec
    kinematics = Kinematics(spec)
    joints: Array = world.joint_state()[0]
    executor = LinearExecutor(kinematics.forward(joints), spec.gripper.max_width)
    span = (spec.gripper.min_width, spec.gripper.max_width)
    waiting: list[tuple[float, float, PolicyOutput]] = []
    limit = seconds or world.task.time_limit
    count = round(TICK / world.model.opt.timestep)
    texts: list[str] = []
    terminated = False
    for tick in range(round(limit / TICK)):
        time = tick * TICK
        if tick % round(PERIOD / TICK) == 0:
            observation = observe(world, kinematics, time, tick)
            output = policy.infer(observation)
            texts.append(output.text)
            terminated = output.terminate
            waiting.append((time + delay, time, output))
            if watch is not None:
                watch(time, observation, output)
        while waiting and waiting[0][0] <= time + 1e-9:
            _, stamp, output = waiting.pop(0)
            executor.submit(output, stamp, time, span)
        executor.advance(time)
        joints = follow(kinematics, joints, executor.pose)
        world.set_joint_command(joints)
        world.set_gripper(executor.width)
        world.step(count)
        if disturb is not None:
            disturb(world, time)
        if terminated and world.verdict.outcome.name != "RUNNING":
            break
    verdict = world.verdict
    return Rollout(
        verdict.outcome.name == "SUCCESS", terminated, verdict.elapsed or time, verdict.reason, texts
    )
