"""From what a person asks for to actions of the contract's space: what a policy would have to output.

Readings come often and are summed up; an action is made once a period.  The sum is what was asked for in the
period, so that a short tap of a key moves by as much as it lasted.
"""

from __future__ import annotations

import numpy as np

from vla_ros.actions import decode, rotations
from vla_ros.actions.encode import encode
from vla_ros.actions.gripper import GripperState
from vla_ros.contract import Contract
from vla_ros.robots.kinematics import Kinematics
from vla_ros.teleop.command import Command, Press
from vla_ros.teleop.posture import follow
from vla_ros.types import ActionKind, Array, Composition, PolicyOutput, Pose, Source

LEVELS = (0.01, 0.03, 0.06, 0.12, 0.2)
"""Speed of the tool at full deflection [m/s]."""
ANGULAR = tuple(5.0 * speed for speed in LEVELS)
"""Likewise about the base axes [rad/s]: a tool 0.2 m long turns as fast as it moves."""
DEFAULT_LEVEL = 2
LENGTH, ANGLE = 0.08, 0.35
"""Leash of integrated targets to the measured pose [m], [rad], as the controller's own."""
LONGEST = 0.05
"""Longest time one reading may stand for [s]: after a stall nothing is made up for."""


class Motion:
    """Sums up commands; answers with actions.  One instance drives one robot."""

    def __init__(self, contract: Contract, level: int = DEFAULT_LEVEL) -> None:
        """Rests until `anchor` says where the robot is."""
        self._space, self._spec = contract.action_space, contract.robot
        self._kinematics = Kinematics(contract.robot)
        self.level = level
        self.width = contract.robot.gripper.max_width
        """Wanted opening [m]."""
        self._sum = np.zeros(6)
        self._leader: Array | None = None
        self._goal: Pose | None = None
        self._still = True
        self._settled = GripperState(self.width)
        self.anchor(self._kinematics.forward(self._spec.home), self._spec.home, self.width)

    @property
    def moving(self) -> bool:
        """Whether anything is asked for that no action has said yet."""
        return bool(self._sum.any()) or not self._still or self._settled.width != self.width

    @property
    def speed(self) -> float:
        """Of the tool at full deflection [m/s]."""
        return LEVELS[self.level]

    @property
    def closed(self) -> bool:
        """Whether the gripper is wanted closed."""
        gripper = self._spec.gripper
        return self.width < 0.5 * (gripper.min_width + gripper.max_width)

    def anchor(self, target: Pose, joints: Array, width: float) -> None:
        """The robot is asked to be here (base frame, [rad], [m]): actions go on from there.

        A gripper that was toggled and has not been told yet stays so.
        """
        self._target = Pose(
            np.array(target.position, dtype=float), rotations.normalize(np.asarray(target.quaternion))
        )
        self._joints = np.array(joints, dtype=float)
        if self._settled.width == self.width:
            self.width = float(width)
        self._settled = GripperState(float(width))
        self._still = True

    def forget(self) -> None:
        """Drop what was asked for and not yet sent."""
        self._sum[:] = 0.0
        self._leader = self._goal = None
        self._still = True

    def add(self, command: Command, seconds: float, dead_man: bool = True) -> None:
        """Take one reading that stands for the last `seconds`.

        `dead_man`: a switch is held; let go, what is not yet sent is forgotten.
        """
        for press in command.presses:
            if press is Press.GRIPPER:
                gripper = self._spec.gripper
                self.width = gripper.max_width if self.closed else gripper.min_width
            elif press in (Press.FASTER, Press.SLOWER):
                step = 1 if press is Press.FASTER else -1
                self.level = min(max(self.level + step, 0), len(LEVELS) - 1)
        if command.level is not None:
            self.level = min(max(command.level, 0), len(LEVELS) - 1)
        if not command.engaged:
            if dead_man:
                self.forget()
            return
        if command.width is not None and np.isfinite(command.width):
            gripper = self._spec.gripper
            self.width = float(np.clip(command.width, gripper.min_width, gripper.max_width))
        if command.joints is not None:
            self._leader = np.array(command.joints, dtype=float)
            return
        if command.pose is not None:
            finite = np.isfinite(command.pose.position).all() and np.isfinite(command.pose.quaternion).all()
            self._goal = command.pose if finite else None
            return
        motion = np.concatenate([command.linear, command.angular])
        if not np.isfinite(motion).all():
            return
        if not command.physical:
            motion = motion * np.repeat([LEVELS[self.level], ANGULAR[self.level]], 3)
        self._sum += motion * min(max(seconds, 0.0), LONGEST)

    def action(self, stamp: int, sequence: int, measured: Pose) -> PolicyOutput:
        """The action of one period, as a person's output of horizon 1; null when nothing was asked for.

        Args:
            stamp: of the grid [ns].
            sequence: number of the action.
            measured: pose of the tool now, in the base frame.
        """
        space, period = self._space, self._space.period
        translation, turn = self._asked(period, measured)
        self._sum[:] = 0.0
        self._still = not (translation.any() or turn.any())
        before, after = self._target, self._moved(translation, turn, measured)
        if space.kind is ActionKind.CARTESIAN_DELTA:
            row = encode(
                space, self._spec.gripper, self.width, translation=translation, rotation=turn,
                before=self._settled,
            )  # fmt: skip
        else:
            if space.kind is ActionKind.JOINT_POSITION:
                self._follow(after, period)
            # a pose that is not to change is said in the same numbers
            self._target = before if self._still else after
            row = encode(space, self._spec.gripper, self.width, pose=self._target, joints=self._joints)
        output = PolicyOutput(stamp, sequence, space.name, row[None], source=Source.PERSON)
        chunk = decode(output, space, self._spec.gripper, before=self._settled)
        if space.kind is ActionKind.CARTESIAN_DELTA and chunk.translation is not None:
            # what the numbers say after rounding, so that nothing adds up
            base = measured if space.composition is Composition.MEASURED else before
            delta = chunk.quaternion[0] if chunk.quaternion is not None else rotations.IDENTITY
            self._target = Pose(
                base.position + chunk.translation[0],
                rotations.normalize(rotations.multiply(delta, base.quaternion)),
            )
        self._settled = GripperState(self.width)
        self._leader = self._goal = None
        return output

    def _asked(self, period: float, measured: Pose) -> tuple[Array, Array]:
        """Translation (3,) [m] and rotation vector (3,) [rad] of this period, within the space's clips."""
        space, there = self._space, self._goal
        if self._leader is not None and space.kind is not ActionKind.JOINT_POSITION:
            there = self._kinematics.forward(self._leader)
        if there is not None:
            base = measured if space.composition is Composition.MEASURED else self._target
            moved = there.position - base.position
            turned = rotations.log(rotations.multiply(there.quaternion, rotations.conjugate(base.quaternion)))
        else:
            moved, turned = self._sum[:3].copy(), self._sum[3:].copy()
        limits = self._spec.tcp
        most = min(space.step_translation or np.inf, LEVELS[-1] * period, 0.9 * limits.speed * period)
        turn = min(space.step_rotation or np.inf, ANGULAR[-1] * period, 0.9 * limits.angular_speed * period)
        return _within(moved, most), _within(turned, 0.98 * turn)

    def _moved(self, translation: Array, turn: Array, measured: Pose) -> Pose:
        """The integrated target after a step, in the workspace and on its leash to the measured pose."""
        box = self._spec.workspace
        position = np.clip(self._target.position + translation, box.minimum, box.maximum)
        away = position - measured.position
        position = measured.position + _within(away, LENGTH)
        quaternion = rotations.multiply(rotations.exp(turn), self._target.quaternion)
        turned = rotations.log(rotations.multiply(quaternion, rotations.conjugate(measured.quaternion)))
        quaternion = rotations.multiply(rotations.exp(_within(turned, ANGLE)), measured.quaternion)
        return Pose(position, rotations.normalize(quaternion))

    def _follow(self, target: Pose, period: float) -> None:
        """Joint positions for the next step: the leader's, or those that bring the tool to the target."""
        limits = self._spec.applied
        most = 0.5 * limits.velocity * period
        if self._leader is not None:
            step = np.clip(self._leader - self._joints, -most, most)
            self._still = not step.any()
            self._joints = np.clip(self._joints + step, limits.position_min, limits.position_max)
            self._target = self._kinematics.forward(self._joints)
        elif not self._still:
            self._joints = follow(self._kinematics, self._joints, target, most)


def _within(vector: Array, most: float) -> Array:
    """The vector, shortened to `most` where it is longer; its direction stays."""
    length = float(np.linalg.norm(vector))
    return vector if length <= most else vector * (most / length)
