"""A scripted expert that knows where everything is: it shows that a task can be done."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.judge import Outcome, Verdict
from vla_ros.sim.objects import BLOCK_SIZE, PLATE_HEIGHT
from vla_ros.sim.world import World
from vla_ros.types import Array, Pose

SPEED = 0.25
"""Mean speed of the tool between waypoints [m/s]."""
ANGULAR_SPEED = 1.0
CLEARANCE = 0.12
"""Height above an object from which it is approached [m]."""
GRIPPER_TIME = 0.8
PUSH_STANDOFF = 0.065
PUSH_LENGTH = 0.08


def quaternion_product(first: Array, second: Array) -> Array:
    """Hamilton product of two quaternions (x, y, z, w)."""
    x, y, z, w = first
    return np.array([[w, -z, y, x], [z, w, -x, y], [-y, x, w, z], [-x, -y, -z, w]]) @ second


def about_z(angle: float) -> Array:
    """Quaternion (x, y, z, w) of a turn about z [rad]."""
    return np.array([0.0, 0.0, np.sin(0.5 * angle), np.cos(0.5 * angle)])


class Expert:
    """Open-loop waypoints from the true poses at the start of an episode."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kinematics = Kinematics(world.spec)
        self._down = self._kinematics.forward(world.spec.home).quaternion

    def run(self) -> Verdict:
        """Do the world's task from where the arm is; answers the judge's verdict.

        Raises `UnreachableError` when a waypoint is out of reach.
        """
        world = self._world
        period = 1.0 / world.spec.simulated_control_rate
        steps = round(period / world.model.opt.timestep)
        for joints, width in self._commands(period):
            world.set_joint_command(joints)
            world.set_gripper(width)
            world.step(steps)
            if world.verdict.outcome is not Outcome.RUNNING:
                break
        return world.verdict

    def _commands(self, period: float) -> Iterator[tuple[Array, float]]:
        """Joint positions and opening width, one a control period."""
        joints = self._world.joint_state()[0]
        pose = self._kinematics.forward(joints)
        for goal, width in self._waypoints():
            distance = float(np.linalg.norm(goal.position - pose.position))
            angle = 2.0 * np.arccos(min(1.0, abs(float(goal.quaternion @ pose.quaternion))))
            still = distance < 1e-6 and angle < 1e-6
            duration = GRIPPER_TIME if still else max(distance / SPEED, angle / ANGULAR_SPEED, 0.3)
            count = int(np.ceil(duration / period))
            for index in range(1, count + 1):
                s = index / count
                joints = self._kinematics.inverse(
                    _between(pose, goal, s**3 * (10 - 15 * s + 6 * s * s)), joints
                )
                yield joints, width
            pose = goal

    def _waypoints(self) -> Iterator[tuple[Pose, float]]:
        task, spec = self._world.task, self._world.spec
        opened, closed = spec.gripper.max_width, spec.gripper.min_width
        block = next(block for block in task.blocks if block.colour == task.goal.target)
        if task.name == "push":
            yield from self._push(block.position, closed)
            return
        turn = (block.yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        rotation = quaternion_product(about_z(turn), self._down)
        up = np.array([0.0, 0.0, CLEARANCE])
        above, at = Pose(block.position + up, rotation), Pose(block.position, rotation)
        yield from ((above, opened), (at, opened), (at, closed), (above, closed))
        if task.name == "pick":
            yield above, closed
            return
        if task.name == "place":
            support, height = task.plates[0].position, PLATE_HEIGHT + 0.5 * BLOCK_SIZE
        else:
            lower = next(block for block in task.blocks if block.colour == task.goal.destination)
            support, height = lower.position, BLOCK_SIZE
        spot = np.array([*support[:2], support[2] + height + 0.002])
        over, down = Pose(spot + up, rotation), Pose(spot, rotation)
        yield from ((over, closed), (down, closed), (down, opened), (over, opened), (over, opened))

    def _push(self, block: Array, closed: float) -> Iterator[tuple[Pose, float]]:
        side = 1.0 if self._world.task.goal.destination == "left" else -1.0
        # The fingers open along y, so one outer face pushes and no corner gets between them.
        rotation = self._down
        low = np.array([0.0, 0.0, 0.005])
        start = block + low - np.array([0.0, side * PUSH_STANDOFF, 0.0])
        end = block + low + np.array([0.0, side * PUSH_LENGTH, 0.0])
        up = np.array([0.0, 0.0, CLEARANCE])
        behind, done = Pose(start, rotation), Pose(end, rotation)
        yield from (
            (Pose(start + up, rotation), closed),
            (behind, closed),
            (done, closed),
            (Pose(end + up, rotation), closed),
        )
        yield Pose(end + up, rotation), closed


def _between(first: Pose, second: Pose, share: float) -> Pose:
    """Straight line and shortest turn (normalised linear interpolation)."""
    sign = 1.0 if float(first.quaternion @ second.quaternion) >= 0.0 else -1.0
    quaternion = (1.0 - share) * sign * first.quaternion + share * second.quaternion
    return Pose(
        (1.0 - share) * first.position + share * second.position, quaternion / np.linalg.norm(quaternion)
    )
