"""The controller under measurement: everything on, its tool going round in a circle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.contract import load_contract
from vla_ros.control.controller import SafetyController, Tick
from vla_ros.robots.environment import Box, Cylinder, Plane
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.load import Payload
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, JointState, Pose

CHUNK_PERIOD, STEP, HORIZON, AGE = 0.2, 0.2, 8, 0.1
"""Seconds between chunks and between steps, steps, age of a chunk's observation [s]."""
RADIUS, TURN = 0.05, 6.0
"""The motion: circles of this radius [m], one in so many seconds."""
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


class Subject:
    """A controller with obstacles, payload, torques and a force at the wrist, ticked by whoever measures."""

    def __init__(self, robot: str, rate: float = 0.0, radius: float = RADIUS, turn: float = TURN) -> None:
        """`rate`: ticks a second [Hz]; 0: the robot's own.  Circles of a `radius` [m], a `turn` [s] each."""
        self._radius, self._turn = radius, turn
        contract = load_contract(robot)
        spec = replace(contract.robot, payload=Payload(0.3, np.array([0.0, 0.0, 0.05])))
        self.spec, self.rate = spec, rate or contract.control_rate
        self.period = 1.0 / self.rate
        self.controller = SafetyController(replace(contract, robot=spec), self.period)
        self._torques = Kinematics(spec)
        scale = spec.contact.torque_per_effort
        self._scale = np.ones(spec.dof) if scale is None else scale
        tool = self._torques.forward(spec.home).position
        around = [
            Box(name="bin", size=np.array([0.3, 0.2, 0.2]), pose=Pose(tool + [0.0, 0.3, -0.15], UPRIGHT)),
            Cylinder(name="post", radius=0.04, length=0.6, pose=Pose(tool + [0.15, -0.25, 0.0], UPRIGHT)),
            Plane(name="wall", normal=np.array([-1.0, 0.0, 0.0]), offset=-float(tool[0]) - 0.35),
        ]
        self.controller.surround(self.controller.environment.prepare(around))
        self._sequence, self._due, self._number = 0, CHUNK_PERIOD, 0
        self._measure(spec.home, np.zeros(spec.dof), np.zeros(spec.dof), NANOSECONDS)
        self.controller.activate(self._measured, spec.gripper.max_width, 0.0)

    def describe(self) -> dict[str, Any]:
        """What is looked at in every cycle."""
        collision = self.controller.environment._collision
        return {
            "joints": self.spec.dof,
            "self_collision_pairs": len(collision.pairs),
            "floor_bodies": len(collision.floor_links),
            "obstacle_pairs": len(collision.obstacle_pairs),
        }

    def prepare(self) -> None:
        """What the next tick needs and is none of its work: a chunk when one is due."""
        moment = (self._number + 1) * self.period
        if moment >= self._due:
            self._sequence, self._due = self._sequence + 1, self._due + CHUNK_PERIOD
            stamp = NANOSECONDS + round(moment * NANOSECONDS)
            self.controller.submit(self._circle(stamp, moment), moment, stamp)

    def tick(self) -> Tick:
        """One cycle, from the joint state that came to the setpoint."""
        self._number += 1
        moment = self._number * self.period
        self.controller.observe([self._measured])
        self.controller.feel(np.zeros(3), moment)
        now = NANOSECONDS + round(moment * NANOSECONDS)
        self._newest = self.controller.update(moment, now, self._measured, self.period)
        return self._newest

    def follow(self) -> None:
        """The robot is where it was told to be, and feels what its motion takes."""
        point = self._newest.setpoint
        self._measure(point.positions, point.velocities, point.accelerations, point.stamp)

    def _measure(self, q: Any, velocity: Any, acceleration: Any, stamp: int) -> None:
        efforts = self._torques.torques(q, velocity, acceleration) / self._scale
        self._measured = JointState(stamp, q, velocity, efforts)

    def _circle(self, now: int, moment: float) -> ActionChunk:
        """The next steps of a circle in the y-z plane, below the home pose."""
        angles = 2.0 * np.pi / self._turn * (moment - AGE + STEP * np.arange(HORIZON + 1))
        ways = self._radius * np.column_stack([np.zeros(HORIZON + 1), np.sin(angles), np.cos(angles)])
        return ActionChunk(
            stamp=now - round(AGE * NANOSECONDS),
            sequence=self._sequence,
            kind=ActionKind.CARTESIAN_DELTA,
            period=STEP,
            gripper_width=np.full(HORIZON, self.spec.gripper.max_width),
            translation=np.diff(ways, axis=0),
            quaternion=np.tile(UPRIGHT, (HORIZON, 1)),
        )
