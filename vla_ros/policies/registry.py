"""Policies by name.  A family is imported only when asked for: none pays for another's libraries."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from vla_ros.actions.normalization import Normalization
from vla_ros.actions.tokens import TokenCodec
from vla_ros.bounds import quoted
from vla_ros.errors import PolicyError, did_you_mean, unknown
from vla_ros.policies.base import Policy, PolicyRequirements
from vla_ros.robots.spec import CameraSpec, RobotSpec


@dataclass(frozen=True)
class Family:
    """Where a kind of policy is, and how it is run."""

    module: str
    factory: str
    """Takes the robot and keyword options; reads configuration and statistics, no weights."""
    title: str = ""
    libraries: tuple[str, ...] = ()
    """Modules it imports when it is loaded."""
    isolated: bool = True
    """Whether it runs in a process of its own.  One that does not is light, and answers physical values."""
    needs: str = ""
    """What must be given to it, and what else it depends on; a sentence."""
    tabletop: bool = False
    """Whether it understands the grammar of `vla_ros.instruction` and nothing else."""

    @property
    def missing(self) -> list[str]:
        """Those of its libraries that are not installed; imports nothing."""
        return [name for name in self.libraries if find_spec(name) is None]


_CHECKPOINT = (
    "Understands English as far as its training data went; needs `checkpoint`, a folder or a name on the hub"
)
_KEY = "`normalization_key` where it was trained on several data sets"
_FAMILIES = {
    "visual_servo": Family(
        "vla_ros.policies.visual_servo",
        "VisualServoPolicy",
        "blocks and plates by colour",
        isolated=False,
        needs="Needs no weights; one calibrated camera at least, and an action space of base-frame deltas.",
        tabletop=True,
    ),
    "replay": Family(
        "vla_ros.policies.replay",
        "make_replay",
        "recorded actions",
        isolated=False,
        needs="Needs `path`, an .npz file with `actions`; plays them whatever instruction and cameras say.",
    ),
    "openvla": Family(
        "vla_ros.policies.openvla",
        "make_openvla",
        "OpenVLA, which answers action tokens",
        ("torch", "PIL"),
        needs=f"{_CHECKPOINT}, {_KEY}, and one camera.",
    ),
    "openvla_oft": Family(
        "vla_ros.policies.openvla.oft",
        "make_openvla_oft",
        "OpenVLA-OFT, a chunk of actions at once",
        ("torch", "PIL"),
        needs=f"{_CHECKPOINT}, {_KEY}, and the cameras and the state it was trained with.",
    ),
    "octo": Family(
        "vla_ros.policies.octo",
        "make_octo",
        "Octo, with a diffusion head",
        ("torch", "msgpack"),
        needs=f"{_CHECKPOINT}, {_KEY}, and one camera; it takes an instruction or a goal image.",
    ),
    "rt2": Family(
        "vla_ros.policies.rt2",
        "make_rt2",
        "RT-2's recipe on any vision-language model",
        ("torch", "transformers"),
        needs=f"{_CHECKPOINT} with `dataset_statistics.json` in it, and one camera.",
    ),
    "remote": Family(
        "vla_ros.policies.remote",
        "make_remote",
        "a policy on another machine, in openpi's wire form",
        ("msgpack", "websockets"),
        isolated=False,
        needs="Needs `url` of a server that runs; what it understands is the server's matter.",
    ),
    "custom": Family(
        "vla_ros.policies.custom",
        "make_custom",
        "a factory of your own",
        needs="Needs `factory` as package.module:function, importable from the working folder or PYTHONPATH.",
    ),
    "none": Family(
        "vla_ros.policies.nobody",
        "Nobody",
        "nobody: a person drives",
        isolated=False,
        needs="Answers nothing; it is the policy of `vla-ros teleop`.",
    ),
}
"""Every policy by its name."""


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

    @property
    def dimension(self) -> int:
        """Length of an action vector."""
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


def family(name: str) -> Family:
    """How the named policy is run.  Raises `PolicyError` for an unknown name."""
    if name not in _FAMILIES:
        raise PolicyError(unknown("Policy", name, policy_names()))
    return _FAMILIES[name]


def make_policy(name: str, robot: RobotSpec, **options: Any) -> Policy:
    """The named policy for a robot; nothing is loaded yet.

    Raises `PolicyError` for an unknown name, an option the policy does not have or a library that is missing.
    """
    kind = family(name)
    try:
        factory = getattr(import_module(kind.module), kind.factory)
    except ImportError as error:
        raise PolicyError(f"Policy '{name}' needs a library that is not installed: {error}.") from error
    allowed = _options(factory)
    for key in options:
        if allowed is not None and key not in allowed:
            raise PolicyError(
                f"Policy '{name}' has no option '{key}', its options are {', '.join(allowed)}."
                f"{did_you_mean(key, allowed)}"
            )
        if allowed is not None:
            _check_kind(name, key, options[key], allowed[key])
    return cast(Policy, factory(robot, **options))


def _check_kind(name: str, key: str, value: object, default: object) -> None:
    """Refuse a value of another kind than the option's default; None as default: any."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        kind, fits = "true or false", isinstance(value, bool)
    elif isinstance(default, int):
        kind, fits = "a whole number", number and float(cast(float, value)).is_integer()
    elif isinstance(default, float):
        kind, fits = "a finite number", number and math.isfinite(cast(float, value))
    elif isinstance(default, str):
        quotes = f""", in quotes: {key}='"{value}"'""" if number else ""
        kind, fits = f"a text{quotes}", isinstance(value, (str, os.PathLike))
    else:
        return
    if not fits:
        raise PolicyError(f"The option '{key}' of policy '{name}' is {quoted(value)}, but must be {kind}.")


def policy_options(name: str) -> dict[str, Any] | None:
    """The options of a policy and their defaults; None: any.  Raises `PolicyError`."""
    kind = family(name)
    try:
        return _options(getattr(import_module(kind.module), kind.factory))
    except ImportError as error:
        raise PolicyError(f"Policy '{name}' needs a library that is not installed: {error}.") from error


def _options(factory: Any) -> dict[str, Any] | None:
    parameters = inspect.signature(factory).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return None
    return {key: one.default for key, one in parameters.items() if key not in ("robot", "frame")}


def contract_policy(contract: PolicyContract) -> Policy:
    """The policy a contract names, speaking the contract's action space.  Raises `PolicyError`."""
    space = {"action_space": contract.action_space.name, "rate": contract.action_space.rate}
    return make_policy(contract.policy, contract.robot, **{**space, **contract.policy_options})


def policy_requirements(contract: PolicyContract) -> PolicyRequirements:
    """What the policy a contract names asks for; loads nothing.  Raises `PolicyError`."""
    return contract_policy(contract).requirements


def policy_scaling(contract: PolicyContract) -> tuple[Normalization | None, TokenCodec | None]:
    """How the answers of the contract's policy are scaled, and its tokens; loads nothing.

    A policy that runs in the node's process answers physical values: its module is not even imported.
    Raises `PolicyError`.
    """
    if not family(contract.policy).isolated:
        return None, None
    needs = policy_requirements(contract)
    return needs.normalization, needs.codec
