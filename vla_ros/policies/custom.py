"""A policy of the user's own, named by its factory: nothing is imported that was not asked for by name."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from vla_ros.errors import PolicyError
from vla_ros.policies.base import Policy
from vla_ros.robots.spec import RobotSpec

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def make_custom(
    robot: RobotSpec, factory: str = "", action_space: str = "", rate: float = 0.0, **options: Any
) -> Policy:
    """What `factory`, "package.module:function", makes of the robot and the options left over.

    The module must be on the Python path.  It is called as `function(robot, action_space=..., rate=...,
    **options)` in two processes: once for what the policy asks for, once for the policy that is loaded.
    Raises `PolicyError` when the name is no such name, or what it names makes no policy.
    """
    if not isinstance(factory, str) or not _NAME.fullmatch(factory):
        raise PolicyError(
            f"Policy 'custom' needs the option 'factory' as package.module:function, but it is {factory!r}."
        )
    module, _, attribute = factory.partition(":")
    try:
        make = getattr(import_module(module), attribute)
    except ImportError as error:
        raise PolicyError(f"The factory {factory} of policy 'custom' cannot be imported: {error}.") from error
    except AttributeError:
        raise PolicyError(f"The module {module} has no '{attribute}' for policy 'custom'.") from None
    try:
        policy = make(robot, action_space=action_space, rate=rate, **options)
    except TypeError as error:
        raise PolicyError(f"The factory {factory} of policy 'custom' was refused: {error}.") from error
    if not isinstance(policy, Policy):
        raise PolicyError(
            f"The factory {factory} of policy 'custom' made a {type(policy).__name__}, "
            "but a policy has requirements, load, reset and infer."
        )
    return policy
