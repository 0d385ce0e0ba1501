"""Whether episodes can be carried out, as far as that is known before anything is started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vla_ros.contract import Contract
from vla_ros.errors import InstructionError
from vla_ros.policies.base import GrammarPolicy
from vla_ros.policies.registry import contract_policy


class Asked(NamedTuple):
    """What an episode is to be about."""

    task: str
    """Of the simulator; empty: the instruction's."""
    instruction: str
    """Empty: the task's own."""
    seed: int = 0
    """Of the scene, which decides what a task without an instruction is about."""


def check_episodes(contract: Contract, episodes: Iterable[Asked], simulated: bool = True) -> None:
    """Refuse what the simulated scene does not have, and what the policy does not understand.

    Args:
        contract: names the policy; where a person drives alone, that is `none`.
        episodes: what is to be done.
        simulated: whether MuJoCo lays the scene and judges.

    Raises `InstructionError`, or `ConfigurationError` for an unknown task.
    """
    policy = contract_policy(contract)
    for task, instruction, seed in episodes:
        words = instruction.strip()
        if simulated:
            from vla_ros.sim.tasks import resolve_goal

            # the same draw as `make_task`
            goal = resolve_goal(task, words, np.random.default_rng([seed, 0]))
            words = words or goal.instruction
        if not words:
            raise InstructionError("The instruction is empty.")
        if isinstance(policy, GrammarPolicy):
            policy.check_instruction(words)
