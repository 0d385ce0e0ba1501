"""Push: come down beside the block with closed fingers, push it to the side, rise, verify how far it went."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.instruction import ParsedInstruction
from vla_ros.policies.visual_servo.models import BLOCK
from vla_ros.policies.visual_servo.motion import Goal
from vla_ros.policies.visual_servo.search import Search
from vla_ros.policies.visual_servo.situation import Body, Command, Phase, Situation, require_reachable
from vla_ros.policies.visual_servo.tracking import Estimate
from vla_ros.types import Array

DISTANCE = 0.11
"""How far a block is pushed [m]."""
ENOUGH = 0.09
"""How far it must have gone for the task to be done [m]."""
FINGER = 0.012
"""Half the thickness of the closed fingers along the push [m]."""
GAP = 0.02
"""Between fingers and block before the push [m]."""
SPEED = 0.07
HOVER = 0.07
RETREAT = 0.12


class PushTask:
    """The phases of a push."""

    def __init__(self, body: Body, instruction: ParsedInstruction) -> None:
        self._body = body
        self._key = instruction.objects[0]
        self._side = 1.0 if instruction.side == "left" else -1.0
        self._search = Search(body, instruction.objects)
        self._phase = Phase.SEARCH
        self._entered = 0
        self._origin: float | None = None
        self._target: Estimate | None = None
        self._yaw = 0.0
        self._rise: Goal | None = None
        self._steps: dict[Phase, Callable[[Situation], Command]] = {
            Phase.SEARCH: self._searching,
            Phase.REACH: self._reaching,
            Phase.PUSH: self._pushing,
            Phase.RETREAT: self._retreating,
            Phase.DONE: self._done,
        }

    def update(self, now: Situation) -> Command:
        """Decide on one observation.

        Raises `InstructionError` when what is named is not in sight, `PolicyError` when it is out of reach.
        """
        return self._steps[self._phase](now)

    def _enter(self, phase: Phase, now: Situation) -> Command:
        self._phase, self._entered = phase, now.stamp
        return self._steps[phase](now)

    def _searching(self, now: Situation) -> Command:
        command = self._search.update(now, 0.0)
        if command is not None:
            return command
        target = now.tracker.get(self._key)
        if target is None:
            return Command(None, 0.0, Phase.SEARCH)
        require_reachable(self._body.workspace, target)
        self._target = target
        if self._origin is None:
            self._origin = target.y
        if self._side * (target.y - self._origin) > ENOUGH:
            return self._enter(Phase.DONE, now)
        self._yaw = self._body.tool.across_yaw(self._side * 0.5 * np.pi, now.yaw)
        return self._enter(Phase.REACH, now)

    def _reaching(self, now: Situation) -> Command:
        seen = now.tracker.get(self._key)
        if seen is None or seen.age(now.stamp) > 5.0:
            self._search.restart()
            return self._enter(Phase.SEARCH, now)
        height = self._body.tool.grasp_height
        if now.pose.position[2] - height > 0.03 or self._target is None:
            self._target = seen
        back = 0.5 * BLOCK.height * (abs(np.cos(seen.yaw)) + abs(np.sin(seen.yaw))) + FINGER + GAP
        goal = self._goal(self._target.x, self._target.y - self._side * back, height, HOVER)
        off = goal.position - now.pose.position
        turn = abs(now.yaw - self._body.tool.yaw_of(goal.quaternion))
        if np.hypot(off[0], off[1]) < 0.008 and abs(off[2]) < 0.008 and turn < 0.1:
            return self._enter(Phase.PUSH, now)
        return Command(goal, 0.0, Phase.REACH)

    def _pushing(self, now: Situation) -> Command:
        target, origin = self._target, self._origin
        if target is None or origin is None:
            return self._enter(Phase.SEARCH, now)
        end = origin + self._side * (DISTANCE - 0.5 * BLOCK.height - FINGER)
        remaining = self._side * (end - now.pose.position[1])
        if remaining < 0.006:
            p = now.pose.position
            self._rise = self._goal(float(p[0]), float(p[1]), float(p[2]) + RETREAT, 0.0)
            now.tracker.forget(self._key)
            return self._enter(Phase.RETREAT, now)
        goal = self._goal(target.x, end, self._body.tool.grasp_height, 0.0)
        return Command(Goal(goal.position, goal.quaternion, 0.0, SPEED), 0.0, Phase.PUSH)

    def _retreating(self, now: Situation) -> Command:
        rise = self._rise
        if rise is not None and now.pose.position[2] < rise.position[2] - 0.03:
            return Command(rise, 0.0, Phase.RETREAT)
        self._search.restart()
        return self._enter(Phase.SEARCH, now)

    def _done(self, now: Situation) -> Command:
        return Command(None, 0.0, Phase.DONE, done=True)

    def _goal(self, x: float, y: float, z: float, hover: float) -> Goal:
        box = self._body.workspace
        position: Array = np.clip(np.array([x, y, z]), box.minimum + 0.001, box.maximum - 0.005)
        return Goal(position, self._body.tool.orientation(self._yaw), hover)
