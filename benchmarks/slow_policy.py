"""A policy of one's own that takes long to load; lies in the working folder of the launch that names it."""

from __future__ import annotations

import time
from typing import Any

from vla_ros.policies.visual_servo import VisualServoPolicy
from vla_ros.robots.spec import RobotSpec


class SlowToLoad(VisualServoPolicy):
    """Loads as a large model does, as far as the graph can tell."""

    def __init__(self, robot: RobotSpec, load_seconds: float, **options: Any) -> None:
        super().__init__(robot, **options)
        self._load_seconds = load_seconds

    def load(self) -> None:
        """Take `load_seconds`, then load."""
        time.sleep(self._load_seconds)
        super().load()


def make(robot: RobotSpec, load_seconds: float = 20.0, **options: Any) -> SlowToLoad:
    """The factory; `load_seconds` is how long loading takes at least [s]."""
    return SlowToLoad(robot, float(load_seconds), **options)
