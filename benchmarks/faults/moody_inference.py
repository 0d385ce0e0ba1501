"""Node `inference` with a recording as its policy that can be told, through a file, to take its time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from vla_ros.nodes.inference import main
from vla_ros.policies import registry
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.replay import make_replay
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput


class MoodyPolicy:
    """Replays, and reads before each answer how many seconds that shall take."""

    def __init__(self, policy: Any, mood: Path) -> None:
        self._policy, self._mood = policy, mood

    @property
    def requirements(self) -> PolicyRequirements:
        """Those of the replay."""
        needs: PolicyRequirements = self._policy.requirements
        return needs

    def load(self) -> None:
        """Load the replay."""
        self._policy.load()

    def reset(self, instruction: str) -> None:
        """Begin anew."""
        self._policy.reset(instruction)

    def infer(self, observation: Observation) -> PolicyOutput:
        """The replay's answer, when the mood allows it."""
        begun = time.monotonic()
        while self._mood.exists() and time.monotonic() - begun < float(self._mood.read_text() or "0"):
            time.sleep(0.02)
        output: PolicyOutput = self._policy.infer(observation)
        return output


def make_moody(
    robot: RobotSpec, path: str = "", action_space: str = "", rate: float = 0.0, horizon: int = 8
) -> MoodyPolicy:
    """A moody replay of the .npz file at `path`, whose mood is in the file `mood` beside it."""
    return MoodyPolicy(make_replay(robot, path, action_space, rate, horizon), Path(path).with_name("mood"))


if __name__ == "__main__":
    moody = registry.Family("benchmarks.faults.moody_inference", "make_moody", isolated=False)
    registry._FAMILIES["replay"] = moody
    sys.exit(main())
