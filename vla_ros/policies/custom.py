"""A policy of the user's own, named by its factory: nothing is imported that was not asked for by name."""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from vla_ros.errors import PolicyError, VlaRosError, did_you_mean
from vla_ros.policies.base import ActionPrefix, GrammarPolicy, Policy, PolicyRequirements, PrefixPolicy
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

_GIVEN = ("action_space", "rate")
"""What every factory is given, whether it was typed or not."""


class OwnPolicy:
    """Around a policy of the user's own: says of its answers which observation they belong to."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def requirements(self) -> PolicyRequirements:
        """Those of the policy inside."""
        return self._policy.requirements

    @property
    def grammar(self) -> str:
        """See `GrammarPolicy`."""
        return self._policy.grammar if isinstance(self._policy, GrammarPolicy) else "any instruction"

    def check_instruction(self, instruction: str) -> None:
        """See `GrammarPolicy`."""
        if isinstance(self._policy, GrammarPolicy):
            self._policy.check_instruction(instruction)

    def load(self) -> None:
        """Load the policy inside."""
        self._policy.load()

    def reset(self, instruction: str) -> None:
        """Reset the policy inside."""
        self._policy.reset(instruction)

    def infer(self, observation: Observation) -> PolicyOutput:
        """The answer of the policy inside, with stamp, number and action space where it leaves them out."""
        return self._belonging(self._policy.infer(observation), observation)

    def _belonging(self, output: PolicyOutput, observation: Observation) -> PolicyOutput:
        if not isinstance(output, PolicyOutput):
            # refused where every policy's answers are screened
            return output
        stamp = output.stamp or observation.stamp
        return replace(
            output,
            stamp=stamp,
            # the stamp alone says which observation is meant; its number is the house's own count
            sequence=observation.sequence if stamp == observation.stamp else output.sequence,
            action_space=output.action_space or self.requirements.action_space,
        )


class OwnPrefixPolicy(OwnPolicy):
    """The same for a policy whose answers can be conditioned on what the robot will do anyway."""

    _policy: PrefixPolicy

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        """Like `infer`, with an answer that goes on from `prefix`."""
        return self._belonging(self._policy.infer_after(observation, prefix), observation)


def make_custom(
    robot: RobotSpec, factory: str = "", action_space: str = "", rate: float = 0.0, **options: Any
) -> Policy:
    """What `factory`, "package.module:function", makes of the robot and the options left over.

    The module is looked for on the Python path, then in the working folder.  It is called as
    `function(robot, action_space=..., rate=..., **options)` in two processes: once for what the policy asks
    for, once for the policy that is loaded.
    Raises `PolicyError` when the name is no such name, or what it names makes no policy.
    """
    if not isinstance(factory, str) or not _NAME.fullmatch(factory):
        raise PolicyError(
            f"Policy 'custom' needs the option 'factory' as package.module:function, but it is {factory!r}."
        )
    make = _imported(factory)
    _check_options(make, factory, options)
    try:
        policy = make(robot, action_space=action_space, rate=rate, **options)
    except TypeError as error:
        raise PolicyError(f"The factory {factory} of policy 'custom' was refused: {error}.") from error
    except VlaRosError:
        raise
    except Exception as error:
        raise PolicyError(
            f"The factory {factory} of policy 'custom' failed with {type(error).__name__}: {error}."
        ) from error
    if not isinstance(policy, Policy):
        raise PolicyError(
            f"The factory {factory} of policy 'custom' made a {type(policy).__name__}, "
            "but a policy has requirements, load, reset and infer."
        )
    _check_requirements(policy.requirements, factory)
    return OwnPrefixPolicy(policy) if isinstance(policy, PrefixPolicy) else OwnPolicy(policy)


def _check_options(make: Callable[..., Any], factory: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the factory does not take.  Raises `PolicyError`."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        # of a kind that does not tell, such as one written in C
        return
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return
    known = [
        one.name
        for one in parameters
        if one.kind is not inspect.Parameter.POSITIONAL_ONLY and one.name not in ("robot", *_GIVEN)
    ]
    for key in options:
        if key not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise PolicyError(
                f"The factory {factory} of policy 'custom' has no option '{key}', {has}."
                f"{did_you_mean(key, known)}"
            )


def _imported(factory: str) -> Callable[..., Any]:
    module, _, attribute = factory.partition(":")
    folder = os.getcwd()
    if not {folder, ""} & set(sys.path):
        # last, so that no file beside the user's own takes a library's place
        sys.path.append(folder)
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        hint = ""
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            hint = f" in {folder} or on PYTHONPATH"
        raise PolicyError(
            f"The factory {factory} of policy 'custom' cannot be imported: {error}{hint}."
        ) from error
    except ImportError as error:
        raise PolicyError(f"The factory {factory} of policy 'custom' cannot be imported: {error}.") from error
    except AttributeError as error:
        if getattr(error, "name", attribute) != attribute:
            raise PolicyError(f"The module {module} of policy 'custom' fails: {error}.") from error
        raise PolicyError(f"The module {module} has no '{attribute}' for policy 'custom'.") from None
    except Exception as error:
        raise PolicyError(
            f"The module {module} of policy 'custom' fails with {type(error).__name__}: {error}."
        ) from error


def _check_requirements(needs: object, factory: str) -> None:
    """Refuse requirements that are none, before anything computes with them.  Raises `PolicyError`."""
    if not isinstance(needs, PolicyRequirements):
        raise PolicyError(
            f"The policy of {factory} has requirements of type {type(needs).__name__}, "
            "but they must be PolicyRequirements."
        )
    if not isinstance(needs.horizon, int) or needs.horizon < 1:
        raise PolicyError(
            f"The policy of {factory} has the horizon {needs.horizon!r}, but it must be 1 or more."
        )
    rate = needs.rate
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 < rate < math.inf:
        raise PolicyError(f"The policy of {factory} has the rate {rate!r}, but it must be above 0 [Hz].")
