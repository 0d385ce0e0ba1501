"""A policy for the tests of open-loop comparisons: the recorded actions, changed in a known way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Observation, PolicyOutput


class Changed:
    """Answers `horizon` recorded steps from the observation's on, plus `offset` times steps ahead + 1."""

    def __init__(
        self, actions: Sequence[str] | str, space: str, rate: float, horizon: int = 1, offset: float = 0.0,
        late: int = 0, wrong: int = -1, camera: str = "",
    ) -> None:  # fmt: skip
        self._paths = [actions] if isinstance(actions, str) else list(actions)
        self._space, self._rate, self._horizon = space, rate, horizon
        self._offset, self._late, self._wrong = offset, late, wrong
        cameras = (CameraNeed(camera, 32, 24),) if camera else ()
        self.requirements = PolicyRequirements(space, rate, horizon, cameras=cameras)
        self._episode = -1

    def load(self) -> None:
        """All is in memory."""

    def reset(self, instruction: str) -> None:
        self._episode += 1
        self._actions = np.load(self._paths[self._episode])

    def infer(self, observation: Observation) -> PolicyOutput:
        step = round((observation.stamp / NANOSECONDS - 1.0) * self._rate)
        for image in observation.images.values():
            assert image.rgb.shape == (24, 32, 3)
        rows = np.arange(step, step + self._horizon) - self._late
        values = self._actions[np.clip(rows, 0, len(self._actions) - 1)].copy()
        values[:, 0] += self._offset * (1 + np.arange(self._horizon))
        if step == self._wrong:
            values[0, 1] = np.nan
        return PolicyOutput(observation.stamp, observation.sequence, self._space, values=values)


def make(robot: RobotSpec, action_space: str = "", rate: float = 0.0, **options: object) -> Changed:
    """Factory of policy `custom`."""
    return Changed(space=action_space, rate=rate, **options)  # type: ignore[arg-type]
