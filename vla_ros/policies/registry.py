"""Policies by name.  A family is imported only when asked for: none pays for another's libraries."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol, cast

from vla_ros.errors import PolicyError
from vla_ros.policies.base import Policy, PolicyRequirements
from vla_ros.robots.spec import CameraSpec, RobotSpec

_FAMILIES = {
    "visual_servo": ("vla_ros.policies.visual_servo", "VisualServoPolicy"),
    "replay": ("vla_ros.policies.replay", "make_replay"),
}
"""Name to module and factory; a factory takes the robot and keyword options."""


class ActionSteps(Protocol):
    """The part of an action space that a policy must know of."""

    @property
    def name(self) -> str:
        """Name of the action space."""
        ...

    @property
    def rate(self) -> float:
        """Steps per second [Hz]."""
        ...


class PolicyContract(Protocol):
    """The part of a contract that names a policy (`vla_ros.contract.Contract` is one)."""

    @property
    def robot(self) -> RobotSpec:
        """The robot."""
        ...

    @property
    def cameras(self) -> Mapping[str, CameraSpec]:
        """The cameras the policy will be shown."""
        ...

    @property
    def policy(self) -> str:
        """Name of the policy."""
        ...

    @property
    def policy_options(self) -> Mapping[str, Any]:
        """Options of the policy."""
        ...

    @property
    def action_space(self) -> ActionSteps:
        """The action space of the contract."""
        ...


def policy_names() -> list[str]:
    """Names `make_policy` knows."""
    return list(_FAMILIES)


def make_policy(name: str, robot: RobotSpec, **options: Any) -> Policy:
    """The named policy for a robot; nothing is loaded yet.

    Raises `PolicyError` for an unknown name, an option the policy does not have or a library that is missing.
    """
    if name not in _FAMILIES:
        raise PolicyError(f"Policy '{name}' is unknown, known are {', '.join(policy_names())}.")
    module, attribute = _FAMILIES[name]
    try:
        factory = getattr(import_module(module), attribute)
    except ImportError as error:
        raise PolicyError(f"Policy '{name}' needs a library that is not installed: {error}.") from error
    allowed = [key for key in inspect.signature(factory).parameters if key not in ("robot", "frame")]
    for key in options:
        if key not in allowed:
            raise PolicyError(f"Policy '{name}' has no option '{key}', its options are {', '.join(allowed)}.")
    return cast(Policy, factory(robot, **options))


def contract_policy(contract: PolicyContract) -> Policy:
    """The policy a contract names, speaking the contract's action space.  Raises `PolicyError`."""
    robot = replace(contract.robot, cameras=dict(contract.cameras))
    space = {"action_space": contract.action_space.name, "rate": contract.action_space.rate}
    return make_policy(contract.policy, robot, **{**space, **contract.policy_options})


def policy_requirements(contract: PolicyContract) -> PolicyRequirements:
    """What the policy a contract names asks for; loads nothing.  Raises `PolicyError`."""
    return contract_policy(contract).requirements
