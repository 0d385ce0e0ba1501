"""A table with a perfect actuator: deltas move the tool, fingers hold what is between them, images are drawn.

Stands in for simulator and safety controller where the decisions of a policy are tested, not the physics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from synthetic_table import Thing, draw

from vla_ros.actions import rotations
from vla_ros.policies.visual_servo import VisualServoPolicy
from vla_ros.policies.visual_servo.camera import view_of
from vla_ros.policies.visual_servo.models import BLOCK, PLATE
from vla_ros.policies.visual_servo.tool import tool_of
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, CameraImage, JointState, Observation, PolicyOutput, Pose

TICK = 0.1
START = 1_000_000_000


class ToyTable:
    """Things, one tool, two cameras; time advances by `TICK`."""

    def __init__(self, robot: RobotSpec, things: Sequence[Thing], slippery: int = 0) -> None:
        """`slippery` closings of the gripper let the block escape by 4 cm."""
        kinematics = Kinematics(robot)
        self.robot = robot
        self.home = kinematics.forward(robot.home)
        self._frames = {
            c.parent_frame: kinematics.forward_frame(robot.home, c.parent_frame)
            for c in robot.cameras.values()
        }
        self._frame_at_home = kinematics.forward_frame
        self.tool = tool_of(robot, kinematics.forward_frame)
        self.pose = self.home
        self.width = self._command = robot.gripper.max_width
        self.things = list(things)
        self.held: int | None = None
        self.slippery = slippery
        self.stamp = START
        self.blind: set[str] = set()
        self._sequence = 0
        self._targets: list[tuple[int, Array, Array, float]] = []
        self._history: list[tuple[int, Pose]] = [(START, self.pose)]

    def frame(self, q: Array, name: str) -> Pose:
        """Frames at home by kinematics; camera frames rigid with the tool otherwise."""
        if np.array_equal(q, self.robot.home):
            return self._frame_at_home(q, name)
        back = rotations.conjugate(self.home.quaternion)
        offset = rotations.rotate(back, self._frames[name].position - self.home.position)
        turn = rotations.multiply(back, self._frames[name].quaternion)
        return Pose(
            self.pose.position + rotations.rotate(self.pose.quaternion, offset),
            rotations.multiply(self.pose.quaternion, turn),
        )

    def policy(self, instruction: str, **options: object) -> VisualServoPolicy:
        """A loaded policy that sees this table."""
        policy = VisualServoPolicy(self.robot, frame=self.frame, **options)  # type: ignore[arg-type]
        policy.load()
        policy.reset(instruction)
        return policy

    def observe(self) -> Observation:
        """What the cameras and encoders say now."""
        self._sequence += 1
        joints = JointState(self.stamp, self.robot.home + 1e-3, np.zeros(0), np.zeros(0))
        images = {}
        for name, camera in self.robot.cameras.items():
            view = view_of(camera, joints, self.frame, self.robot.base_frame)
            images[name] = CameraImage(self.stamp, draw(view, [] if name in self.blind else self.things))
        return Observation(self.stamp, self._sequence, images, joints, self.width, self.pose)

    def execute(self, output: PolicyOutput) -> None:
        """Take over a chunk: deltas composed on the tool's pose at the chunk's stamp."""
        assert output.values is not None
        base = next(pose for stamp, pose in reversed(self._history) if stamp <= output.stamp)
        position, quaternion = base.position, base.quaternion
        self._targets = []
        for step, row in enumerate(output.values):
            position = position + row[:3]
            quaternion = rotations.multiply(rotations.from_euler_xyz(row[3:6]), quaternion)
            self._targets.append((output.stamp + round((step + 1) * 2e8), position, quaternion, row[6]))

    def advance(self) -> None:
        """One tick: towards the newest step due, then physics."""
        before = self.pose
        self.stamp += round(TICK * 1e9)
        ahead = [target for target in self._targets if target[0] >= self.stamp]
        if ahead:
            due, position, quaternion, gripper = ahead[0]
            share = TICK / max(TICK, (due - self.stamp) / 1e9 + TICK)
            turn = rotations.log(rotations.multiply(quaternion, rotations.conjugate(before.quaternion)))
            self.pose = Pose(
                before.position + share * (position - before.position),
                rotations.normalize(rotations.multiply(rotations.exp(share * turn), before.quaternion)),
            )
            g = self.robot.gripper
            self._command = g.min_width + gripper * (g.max_width - g.min_width)
        self._move_fingers()
        self._move_things(self.pose.position - before.position)
        self._history.append((self.stamp, self.pose))

    def run(
        self,
        policy: VisualServoPolicy,
        seconds: float,
        delay_ticks: int = 0,
        disturb: Callable[[ToyTable, float], None] | None = None,
    ) -> PolicyOutput:
        """Closed loop until the policy terminates; answers arrive `delay_ticks` late.  The last answer."""
        waiting: list[tuple[int, PolicyOutput]] = []
        for tick in range(round(seconds / TICK)):
            if tick % 2 == 0:
                output = policy.infer(self.observe())
                if output.terminate:
                    return output
                waiting.append((tick + delay_ticks, output))
            while waiting and waiting[0][0] <= tick:
                self.execute(waiting.pop(0)[1])
            self.advance()
            if disturb is not None:
                disturb(self, (self.stamp - START) / 1e9)
        return output

    def thing(self, colour: str, kind: str = "block") -> Thing:
        """By name."""
        return next(t for t in self.things if (t.colour, t.kind) == (colour, kind))

    def drop(self) -> None:
        """Let the held block fall."""
        if self.held is not None:
            index, self.held = self.held, None
            self.things[index] = replace(self.things[index], support=self._support_below(index))

    def _move_fingers(self) -> None:
        step = self.robot.gripper.speed * TICK
        wanted = self.width + float(np.clip(self._command - self.width, -step, step))
        index = self.held if self.held is not None else self._between_fingers()
        if index is None or wanted > BLOCK.height:
            if self.held is not None:
                self.drop()
            self.width = wanted
            return
        if self.held is None and self.slippery > 0:
            self.slippery -= 1
            self.things[index] = replace(self.things[index], x=self.things[index].x + 0.04)
            self.width = wanted
            return
        self.held, self.width = index, BLOCK.height

    def _between_fingers(self) -> int | None:
        angle = self.tool.closing_angle + self.tool.yaw_of(self.pose.quaternion)
        for index, thing in enumerate(self.things):
            off = np.array([thing.x, thing.y]) - self.pose.position[:2]
            skew = abs((thing.yaw - angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
            level = abs(self.pose.position[2] - thing.support - 0.5 * BLOCK.height)
            if thing.kind == "block" and np.hypot(*off) < 0.012 and skew < 0.2 and level < 0.015:
                return index
        return None

    def _move_things(self, motion: Array) -> None:
        if self.held is not None:
            thing = self.things[self.held]
            self.things[self.held] = replace(
                thing,
                x=thing.x + motion[0],
                y=thing.y + motion[1],
                support=max(0.0, thing.support + motion[2]),
            )
            return
        for index, thing in enumerate(self.things):
            off = np.array([thing.x, thing.y]) - self.pose.position[:2]
            low = self.pose.position[2] < thing.support + BLOCK.height
            if (
                thing.kind == "block"
                and low
                and np.hypot(*off) < 0.03
                and self.width < 0.5 * self.robot.gripper.max_width
            ):
                self.things[index] = replace(thing, x=thing.x + motion[0], y=thing.y + motion[1])

    def _support_below(self, index: int) -> float:
        thing, height = self.things[index], 0.0
        for other in self.things:
            shape, reach = (PLATE, 0.06) if other.kind == "plate" else (BLOCK, 0.02)
            if other is not thing and np.hypot(other.x - thing.x, other.y - thing.y) < reach:
                height = max(height, other.support + shape.height)
        return height
