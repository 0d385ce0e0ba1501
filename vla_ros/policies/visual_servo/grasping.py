"""Pick, place and stack: reach above, descend, close, verify by the width, carry, open, retreat, verify."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.instruction import ParsedInstruction, Verb
from vla_ros.policies.visual_servo.models import BLOCK, PLATE
from vla_ros.policies.visual_servo.motion import Goal
from vla_ros.policies.visual_servo.search import Search
from vla_ros.policies.visual_servo.situation import (
    Body,
    Command,
    GripperWatch,
    Phase,
    Situation,
    neighbours,
    require_reachable,
)
from vla_ros.policies.visual_servo.tracking import Estimate
from vla_ros.types import NANOSECONDS, Array, Pose

REACH_HOVER = 0.09
CARRY_HOVER = 0.10
LIFT = 0.12
RETREAT = 0.10
"""Heights above the goal [m]."""
RELEASE_GAP = 0.004
"""Height above its support at which a block is let go [m]."""
_NEAR = 0.05
"""Closer than this above the grasp the fingers hide the block and its estimate stands still [m]."""
_DROPPED = 2
"""Consecutive observations of a width that holds nothing."""


class GraspTask:
    """The phases of pick, place and stack."""

    def __init__(self, body: Body, instruction: ParsedInstruction) -> None:
        self._body = body
        self._key, *destination = instruction.objects
        self._destination = destination[0] if destination else None
        self._support = PLATE.height if instruction.verb is Verb.PLACE else BLOCK.height
        self._search = Search(body, instruction.objects)
        self._watch = GripperWatch(body.gripper, BLOCK.height)
        self._phase = Phase.SEARCH
        self._entered = 0
        self._target: Estimate | None = None
        self._place: Estimate | None = None
        self._yaw: float | None = None
        self._goal: Goal | None = None
        self._arrived_since: int | None = None
        self._dropped = 0
        self._steps: dict[Phase, Callable[[Situation], Command]] = {
            Phase.SEARCH: self._searching,
            Phase.REACH: self._reaching,
            Phase.CLOSE: self._closing,
            Phase.CARRY: self._carrying,
            Phase.OPEN: self._opening,
            Phase.RETREAT: self._retreating,
            Phase.DONE: self._done,
        }

    def update(self, now: Situation) -> Command:
        """Decide on one observation.

        Raises `InstructionError` when what is named is not in sight, `PolicyError` when it is out of reach.
        """
        return self._steps[self._phase](now)

    def _enter(self, phase: Phase, now: Situation) -> Command:
        self._phase, self._entered, self._arrived_since = phase, now.stamp, None
        self._watch.restart(now)
        return self._steps[phase](now)

    def _searching(self, now: Situation) -> Command:
        command = self._search.update(now, 1.0)
        if command is not None:
            return command
        for key in (self._key, self._destination):
            if key is not None and (seen := now.tracker.get(key)) is not None:
                require_reachable(self._body.workspace, seen)
        self._yaw = None
        return self._enter(Phase.REACH, now)

    def _reaching(self, now: Situation) -> Command:
        tool = self._body.tool
        near = (
            self._target is not None
            and self._goal is not None
            and now.pose.position[2] - self._goal.position[2] < _NEAR
            and _lateral(now.pose, self._goal) < 0.03
        )
        seen = now.tracker.get(self._key)
        if seen is None or (not near and seen.age(now.stamp) > 5.0):
            return self._enter(Phase.SEARCH, now)
        if not near or self._target is None or self._yaw is None:
            self._target = seen
            self._yaw = self._grasp_yaw(now, seen)
        goal = self._goal_at(self._target.x, self._target.y, tool.grasp_height, self._yaw, REACH_HOVER)
        self._goal = goal
        if self._arrived(now, goal):
            return self._enter(Phase.CLOSE, now)
        return Command(goal, 1.0, Phase.REACH)

    def _grasp_yaw(self, now: Situation, seen: Estimate) -> float:
        """Chosen once per attempt; afterwards only followed modulo a quarter turn."""
        tool = self._body.tool
        if self._yaw is None:
            return tool.grasp_yaw(seen.yaw, now.yaw, neighbours(now.tracker, seen))
        quarter = 0.5 * np.pi
        error = (seen.yaw - tool.closing_angle - self._yaw + 0.5 * quarter) % quarter - 0.5 * quarter
        return float(self._yaw + error)

    def _closing(self, now: Situation) -> Command:
        elapsed = (now.stamp - self._entered) / NANOSECONDS
        moved = not self._watch.is_open(now.width)
        if (moved and self._watch.at_rest(now, 0.35)) or elapsed > 4.0:
            if self._watch.holds(now.width):
                self._dropped = 0
                self._goal = None
                return self._enter(Phase.CARRY, now)
            return self._retry(now)
        return Command(None, 0.0, Phase.CLOSE)

    def _retry(self, now: Situation) -> Command:
        """Missed or dropped: let go, rise, look again."""
        now.tracker.forget(self._key)
        self._target, self._yaw = None, None
        self._goal = self._above(now, REACH_HOVER)
        return self._enter(Phase.RETREAT, now)

    def _carrying(self, now: Situation) -> Command:
        self._dropped = 0 if self._watch.holds(now.width) else self._dropped + 1
        if self._dropped >= _DROPPED:
            return self._retry(now)
        if self._destination is None:
            if self._goal is None:
                self._goal = self._above(now, LIFT)
            if self._arrived(now, self._goal, height=0.03):
                return self._enter(Phase.DONE, now)
            return Command(self._goal, 0.0, Phase.CARRY)
        place = now.tracker.get(self._destination)
        if self._goal is None or _lateral(now.pose, self._goal) > 0.10:
            self._place = place or self._place
        if self._place is None:
            raise PolicyError(f"The {' '.join(self._destination)} went out of sight before it was reached.")
        yaw = self._yaw if self._yaw is not None else now.yaw
        if self._destination[1] == BLOCK.kind:
            quarter = 0.5 * np.pi
            target = self._place.yaw - self._body.tool.closing_angle
            yaw += float((target - yaw + 0.5 * quarter) % quarter - 0.5 * quarter)
        height = self._body.tool.grasp_height + self._support + RELEASE_GAP
        self._goal = self._goal_at(self._place.x, self._place.y, height, yaw, CARRY_HOVER)
        if self._arrived(now, self._goal):
            return self._enter(Phase.OPEN, now)
        return Command(self._goal, 0.0, Phase.CARRY)

    def _opening(self, now: Situation) -> Command:
        elapsed = (now.stamp - self._entered) / NANOSECONDS
        if (self._watch.is_open(now.width) and elapsed > 0.3) or elapsed > 3.0:
            now.tracker.forget(self._key)
            self._goal = self._above(now, RETREAT)
            return self._enter(Phase.RETREAT, now)
        return Command(None, 1.0, Phase.OPEN)

    def _retreating(self, now: Situation) -> Command:
        goal = self._goal
        if goal is not None and not self._arrived(now, goal, height=0.03):
            return Command(goal, 1.0, Phase.RETREAT)
        if self._target is None or self._place is None:
            self._search.restart()
            return self._enter(Phase.SEARCH, now)
        # A block that lies on the table away from its destination missed it: on top of the destination it is
        # either not seen standing on the table, or seen close by, displaced along the line of sight.
        seen = now.tracker.get(self._key)
        if seen is not None and np.hypot(seen.x - self._place.x, seen.y - self._place.y) > 0.08:
            self._target = self._place = self._goal = None
            self._search.restart()
            return self._enter(Phase.SEARCH, now)
        if (now.stamp - self._entered) / NANOSECONDS > 1.5:
            return self._enter(Phase.DONE, now)
        return Command(None, 1.0, Phase.RETREAT)

    def _done(self, now: Situation) -> Command:
        return Command(None, 0.0 if self._destination is None else 1.0, Phase.DONE, done=True)

    def _arrived(self, now: Situation, goal: Goal, height: float = 0.006) -> bool:
        """Near enough; after a second within a wider margin that has to do."""
        turn = abs(now.yaw - self._body.tool.yaw_of(goal.quaternion))
        lateral = _lateral(now.pose, goal)
        above = abs(float(now.pose.position[2] - goal.position[2]))
        if lateral < 0.006 and above < height and turn < 0.08:
            return True
        if lateral < 0.012 and above < height + 0.006 and turn < 0.15:
            if self._arrived_since is None:
                self._arrived_since = now.stamp
            return (now.stamp - self._arrived_since) / NANOSECONDS > 1.0
        self._arrived_since = None
        return False

    def _above(self, now: Situation, rise: float) -> Goal:
        """Straight up from here."""
        p = now.pose.position
        return self._goal_at(float(p[0]), float(p[1]), float(p[2]) + rise, now.yaw, 0.0)

    def _goal_at(self, x: float, y: float, z: float, yaw: float, hover: float) -> Goal:
        box = self._body.workspace
        position: Array = np.clip(np.array([x, y, z]), box.minimum + 0.001, box.maximum - 0.005)
        return Goal(position, self._body.tool.orientation(yaw), hover)


def _lateral(pose: Pose, goal: Goal) -> float:
    return float(np.hypot(*(goal.position[:2] - pose.position[:2])))
