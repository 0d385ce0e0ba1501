"""The contract: robot x cameras x action space x policy, in one YAML, validated before anything moves.

The same contract serves live inference, recording and replay, and is embedded in every bag.  A bare robot
name is a contract too: the robot's own cameras and the defaults below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.actions import ActionSpace, get_action_space
from vla_ros.errors import ConfigurationError, ContractError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.robots import load_robot
from vla_ros.robots.environment_fields import environment_mapping, read_environment
from vla_ros.robots.fields import Fields
from vla_ros.robots.load import ContactSpec, payload_mapping, read_payload
from vla_ros.robots.loader import link_names
from vla_ros.robots.spec import CameraSpec, RobotSpec

BLENDINGS = ("replace", "temporal_ensemble", "rtc")
_KEYS = (
    "robot",
    "policy",
    "policy_options",
    "action_space",
    "action_rate",
    "cameras",
    "control_rate",
    "blending",
    "environment",
    "payload",
    "contact",
)
_CAMERA_KEYS = ("topic", "compressed", "width", "height", "rate")


@dataclass(frozen=True)
class Contract:
    """One robot, its cameras, one action space, one policy."""

    robot: RobotSpec
    policy: str
    action_space: ActionSpace
    cameras: Mapping[str, CameraSpec]
    control_rate: float
    """Rate of the safety controller [Hz], 100 to 1000 (50 for robots whose driver takes no more)."""
    blending: str = "replace"
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    """File or name the contract came from, for error sentences."""

    def to_yaml(self) -> str:
        """The contract as text, to embed in bags and data sets; `load_contract` reads it back."""
        cameras = {
            name: {key: getattr(camera, key) for key in _CAMERA_KEYS} for name, camera in self.cameras.items()
        }
        return yaml.safe_dump(
            {
                "robot": self.robot.name,
                "policy": self.policy,
                "policy_options": dict(self.policy_options),
                "action_space": self.action_space.name,
                "action_rate": self.action_space.rate,
                "cameras": cameras,
                "control_rate": self.control_rate,
                "blending": self.blending,
                "environment": environment_mapping(self.robot.environment),
                "payload": payload_mapping(self.robot.payload),
                "contact": self.robot.contact.watched,
            },
            sort_keys=False,
        )


def load_contract(source: str | Path, simulated: bool = False, **overrides: Any) -> Contract:
    """Read a contract from a YAML file, or make one from a robot's name.

    Args:
        source: path ending in .yaml or .yml, or a robot name.
        simulated: use the robot's simulated control rate where none is given, and watch for contact only
            where `contact: true` is given (late commands shake the simulator's servos as no real arm's).
        overrides: any key of the YAML; None means not given.

    Raises:
        ConfigurationError: broken file, unknown key, value of the wrong type or range.
        ContractError: unknown action space or camera.
    """
    text = str(source)
    if text.endswith((".yaml", ".yml")):
        given, where = _read(Path(text)), text
    else:
        given, where = {"robot": text}, f"robot '{text}'"
    given.update({key: value for key, value in overrides.items() if value is not None})
    unknown = sorted(set(given) - set(_KEYS))
    if unknown:
        raise ConfigurationError(f"{where}: key '{unknown[0]}' is unknown, known are {', '.join(_KEYS)}")
    if not isinstance(given.get("robot"), str):
        raise ConfigurationError(f"{where}: key 'robot' must name a robot")
    robot = load_robot(given["robot"])
    if given.get("environment") is not None:
        robot = _with_environment(robot, given, where)
    if given.get("payload") is not None:
        section = Fields(Path(where), "", given).section("payload")
        robot = replace(robot, payload=read_payload(section))
    if not _flag(given, "contact", not simulated, where):
        robot = replace(robot, contact=ContactSpec())
    elif given.get("contact") and not robot.contact.watched:
        raise ConfigurationError(
            f"{where}: key 'contact' is true, but {robot.yaml_path} has no section 'contact' with thresholds"
        )
    if robot.contact.force is not None and "wrench_topic" not in robot.driver.extra:
        raise ConfigurationError(
            f"{where}: contact is watched by the force at the wrist, but the driver in {robot.yaml_path} has no "
            "key 'wrench_topic'; give it, or set 'contact: false'"
        )
    space_name = _text(given, "action_space", "delta_tcp", where)
    rate = given.get("action_rate")
    if rate is not None:
        rate = _number(given, "action_rate", 0.5, 200.0, where)
    space = get_action_space(space_name, robot.dof, rate)
    default_rate = robot.simulated_control_rate if simulated else robot.control_rate
    control_rate = _number({"control_rate": default_rate, **given}, "control_rate", 50.0, 1000.0, where)
    blending = _text(given, "blending", "replace", where)
    if blending not in BLENDINGS:
        raise ConfigurationError(
            f"{where}: blending '{blending}' is unknown, known are {', '.join(BLENDINGS)}"
        )
    options = given.get("policy_options") or {}
    if not isinstance(options, dict):
        raise ConfigurationError(f"{where}: key 'policy_options' must be a mapping")
    return Contract(
        robot=robot,
        policy=_text(given, "policy", "visual_servo", where),
        action_space=space,
        cameras=_cameras(robot, given.get("cameras"), where),
        control_rate=control_rate,
        blending=blending,
        policy_options=options,
        source=where,
    )


def preflight(contract: Contract, requirements: PolicyRequirements) -> None:
    """Compare what the policy needs with what the contract offers; `ContractError` names both sides."""
    for sentence in preflight_problems(contract, requirements):
        raise ContractError(sentence)


def preflight_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    """Everything in which the two do not fit, a sentence each that names both sides."""
    robot, policy = contract.robot.name, contract.policy
    if requirements.robots and robot not in requirements.robots:
        yield (
            f"policy '{policy}' is for {', '.join(requirements.robots)}, "
            f"but the contract's robot is '{robot}'"
        )
    yield from _scaling_problems(contract, requirements)
    if requirements.action_space != contract.action_space.name:
        scaled = requirements.normalization
        by = f" (of data set '{scaled.key}')" if scaled is not None and scaled.key else ""
        yield (
            f"policy '{policy}' answers in action space '{requirements.action_space}'{by}, "
            f"but the contract of {contract.source} says '{contract.action_space.name}'"
        )
    yield from _camera_problems(contract, requirements)
    yield from _rate_problems(contract, requirements)


def _scaling_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    asked, scaled = contract.policy_options.get("normalization_key") or "", requirements.normalization
    if asked and asked != (scaled.key if scaled is not None else ""):
        does = f"normalises by '{scaled.key}'" if scaled is not None else "answers physical values"
        yield (
            f"policy '{contract.policy}' {does}, "
            f"but the contract of {contract.source} asks for normalisation key '{asked}'"
        )
    if requirements.codec is not None and scaled is None:
        yield (
            f"policy '{contract.policy}' answers tokens without saying by which data set they are "
            f"normalised, so they mean nothing in the contract's action space '{contract.action_space.name}'"
        )
    space = contract.action_space
    if scaled is not None and scaled.statistics.dimension != space.dimension:
        yield (
            f"policy '{contract.policy}' normalises by '{scaled.key}', whose actions have "
            f"{scaled.statistics.dimension} dimensions, but action space '{space.name}' of "
            f"{contract.source} has {space.dimension}: {', '.join(space.dimensions)}"
        )


def _camera_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    policy = contract.policy
    for need in requirements.cameras:
        camera = contract.cameras.get(need.name)
        if camera is None and need.required:
            yield (
                f"policy '{policy}' needs camera '{need.name}', but {contract.source} "
                f"has {', '.join(contract.cameras) or 'none'}"
            )
        if camera is None:
            continue
        if 2 * camera.width < (need.width or 0) or 2 * camera.height < (need.height or 0):
            yield (
                f"policy '{policy}' looks at {need.width or 'any'} x {need.height or 'any'} pixels of camera "
                f"'{need.name}', but {contract.source} gives {camera.width} x {camera.height}, "
                "less than half as many a side"
            )
        if requirements.observation_window > 1 and camera.rate < 0.99 * requirements.rate:
            yield (
                f"policy '{policy}' looks at the last {requirements.observation_window} frames "
                f"{requirements.rate:g} times a second, but camera '{need.name}' of {contract.source} "
                f"gives {camera.rate:g} frames a second"
            )


def _rate_problems(contract: Contract, requirements: PolicyRequirements) -> Iterator[str]:
    policy, space = contract.policy, contract.action_space
    trained = requirements.action_rate
    if trained is not None and abs(space.rate / trained - 1.0) > 0.01:
        yield (
            f"policy '{policy}' was trained with {trained:g} steps a second, "
            f"but the contract of {contract.source} plays {space.rate:g} a second"
        )
    if contract.control_rate < space.rate:
        yield (
            f"policy '{policy}' answers {space.rate:g} steps a second, "
            f"but the controller of {contract.source} runs at {contract.control_rate:g} Hz"
        )
    horizon_seconds = requirements.horizon * space.period
    if requirements.rate <= 0.0 or horizon_seconds * requirements.rate < 1.0 - 1e-9:
        yield (
            f"policy '{policy}' answers {requirements.rate:g} times a second with chunks of "
            f"{horizon_seconds:g} s, so the robot would starve between chunks"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigurationError(f"contract {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"contract {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"contract {path} is not valid YAML{line}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"contract {path} must be a mapping with the key 'robot'")
    return content


def _text(given: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: key '{key}' is {value!r}, but must be a name")
    return value


def _flag(given: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where}: key '{key}' is {value!r}, but must be true or false")
    return value


def _number(given: Mapping[str, Any], key: str, low: float, high: float, where: str) -> float:
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(
            f"{where}: key '{key}' is {value!r}, but must be a number from {low:g} to {high:g}"
        )
    return float(value)


def _with_environment(robot: RobotSpec, given: Mapping[str, Any], where: str) -> RobotSpec:
    """The robot among the contract's obstacles besides its own; those of the same name replace its own."""
    section, links = Fields(Path(where), "", given).section("environment"), link_names(robot.urdf_path)
    return replace(robot, environment=read_environment(section, robot.environment, links))


def _cameras(robot: RobotSpec, given: Any, where: str) -> Mapping[str, CameraSpec]:
    if given is None:
        return robot.cameras
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where}: key 'cameras' must be a mapping from camera name to settings")
    cameras = {}
    for name, settings in given.items():
        if name not in robot.cameras:
            raise ContractError(
                f"{where}: camera '{name}' is not on robot '{robot.name}', "
                f"which has {', '.join(robot.cameras)}"
            )
        settings = settings or {}
        if not isinstance(settings, dict) or set(settings) - set(_CAMERA_KEYS):
            raise ConfigurationError(f"{where}: camera '{name}' may have the keys {', '.join(_CAMERA_KEYS)}")
        for key, low, high in (("width", 16, 4096), ("height", 16, 4096), ("rate", 0.5, 240.0)):
            if key in settings:
                _number(settings, key, low, high, f"{where}: camera '{name}'")
        if "topic" in settings:
            _text(settings, "topic", "", f"{where}: camera '{name}'")
        cameras[name] = replace(robot.cameras[name], **settings)
    return cameras
