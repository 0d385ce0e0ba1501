"""The policy `none`: a contract of a graph that a person alone drives."""

from __future__ import annotations

from vla_ros.errors import PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput

_SENTENCE = "Policy 'none' answers nothing: the contract is that of a robot which a person drives."


class Nobody:
    """Asks for nothing and answers nothing, in any action space."""

    def __init__(self, robot: RobotSpec, action_space: str = "delta_tcp", rate: float = 5.0) -> None:
        """`rate` of the actions [Hz]."""
        self.requirements = PolicyRequirements(action_space, rate, 1)

    def load(self) -> None:
        """Raises `PolicyError`: there is nothing to load."""
        raise PolicyError(_SENTENCE)

    def reset(self, instruction: str) -> None:
        """Nothing to do."""

    def infer(self, observation: Observation) -> PolicyOutput:
        """Raises `PolicyError`."""
        raise PolicyError(_SENTENCE)
