"""Looking for the named objects."""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.errors import InstructionError
from vla_ros.policies.visual_servo.motion import Goal
from vla_ros.policies.visual_servo.situation import Body, Command, Phase, Situation
from vla_ros.policies.visual_servo.tracking import Key
from vla_ros.types import NANOSECONDS

PATIENCE = 1.5
"""Seconds of observations after which an object is said not to be in sight."""
LOST_PATIENCE = 6.0
"""The same for an object that was seen before and is perhaps hidden by the arm."""
_STAY = 0.5
_FRESH = 1.0


class Search:
    """Waits for fresh sightings; after a moment takes the arm out of the way to look from home."""

    def __init__(self, body: Body, keys: Sequence[Key]) -> None:
        self._body = body
        self._keys = tuple(keys)
        self._since: int | None = None
        self._ever: set[Key] = set()

    def restart(self) -> None:
        """Search anew."""
        self._since = None

    def update(self, now: Situation, gripper: float) -> Command | None:
        """None when everything named is in sight.  Raises `InstructionError` when something is not."""
        if self._since is None:
            self._since = now.stamp
        missing = []
        for key in self._keys:
            estimate = now.tracker.get(key)
            if estimate is None or estimate.age(now.stamp) > _FRESH:
                missing.append(key)
            else:
                self._ever.add(key)
        if not missing:
            self._since = None
            return None
        searched = (now.stamp - self._since) / NANOSECONDS
        for key in missing:
            if searched > (LOST_PATIENCE if key in self._ever else PATIENCE):
                raise InstructionError(self._not_in_sight(key, now))
        goal = None
        if searched > _STAY:
            tool = self._body.tool
            goal = Goal(tool.home_position, tool.home_quaternion, hover=0.05)
        return Command(goal, gripper, Phase.SEARCH)

    def _not_in_sight(self, key: Key, now: Situation) -> str:
        seen = [e.name for e in now.tracker.confirmed() if e.age(now.stamp) < LOST_PATIENCE]
        listed = f"in sight are: {', '.join(sorted(seen))}" if seen else "nothing known is in sight"
        return f"The instruction names a {' '.join(key)}, but {listed}."
