"""The expert on a robot that follows exactly: what scene and plan can do, without controller and limits."""

from __future__ import annotations

from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.expert.geometry import between
from vla_ros.sim.expert.plan import Plan, View
from vla_ros.sim.expert.variation import STEADY, Variation, draw
from vla_ros.sim.judge import Outcome, Verdict
from vla_ros.sim.world import World

STEP = 0.1
"""Seconds between two looks of the plan."""


class Expert:
    """Does the task of a world in place of everything between a hand and the servos."""

    def __init__(self, world: World, variation: Variation = STEADY) -> None:
        self._world, self._variation = world, variation
        self._kinematics = Kinematics(world.spec)
        self.retries = 0
        """Tries after the first, of the last run."""

    def run(self) -> Verdict:
        """Do the world's task from where the arm is; answers the judge's verdict.

        Raises `UnreachableError` when the plan leads out of reach.
        """
        world, kinematics = self._world, self._kinematics
        rate = world.spec.simulated_control_rate
        count, steps = round(STEP * rate), round(1.0 / rate / world.model.opt.timestep)
        plan = Plan(world, draw(self._variation, world.task.seed), STEP, kinematics)
        joints = world.joint_positions()
        pose = kinematics.forward(joints)
        while True:
            measured = kinematics.forward(world.joint_positions())
            wish = plan.step(View(measured, pose, world.gripper_width()))
            self.retries = plan.retries
            if wish is None:
                return world.verdict
            world.set_gripper(wish.width)
            for index in range(1, count + 1):
                joints = kinematics.inverse(between(pose, wish.pose, index / count), joints)
                world.set_joint_command(joints)
                world.step(steps)
                if world.verdict.outcome is not Outcome.RUNNING:
                    return world.verdict
            pose = wish.pose
