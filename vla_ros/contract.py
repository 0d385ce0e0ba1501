"""The contract: robot x cameras x action space x policy, in one YAML, validated before anything moves.

The same contract serves live inference, recording and replay, and is embedded in every bag.  A bare robot
name is a contract too: the robot's own cameras and the defaults below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.actions import ActionSpace, get_action_space
from vla_ros.bounds import quoted
from vla_ros.documents import parse_yaml
from vla_ros.errors import ConfigurationError, ContractError, unknown
from vla_ros.robots.cameras import cameras_mapping, contract_cameras, read_cameras
from vla_ros.robots.environment_fields import environment_mapping, read_environment
from vla_ros.robots.fields import Fields
from vla_ros.robots.load import ContactSpec, payload_mapping, read_payload
from vla_ros.robots.loader import embedded, link_names, load_robot, robot_from_mapping, robot_names
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.robots.task_needs import TaskNeeds, needs_mapping, read_needs

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
    "needs",
)


@dataclass(frozen=True)
class Contract:
    """One robot, its cameras, one action space, one policy."""

    robot: RobotSpec
    """With the contract's cameras, obstacles and payload in place of the description's."""
    policy: str
    action_space: ActionSpace
    control_rate: float
    """Rate of the safety controller [Hz], 100 to 1000 (50 for robots whose driver takes no more)."""
    blending: str = "replace"
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    needs: TaskNeeds = TaskNeeds()
    """What the task asks of the policy (`vla_ros.suitability`)."""
    source: str = ""
    """File or name the contract came from, for error sentences."""

    @property
    def cameras(self) -> Mapping[str, CameraSpec]:
        """Those of the robot that are used, by name."""
        return self.robot.cameras

    def to_yaml(self) -> str:
        """The contract as text, to embed in bags and data sets; `load_contract` reads it back.

        It needs no other file: a robot that is not shipped is in it, with its URDF.
        """
        return yaml.dump(
            {
                "robot": embedded(self.robot),
                "policy": self.policy,
                "policy_options": dict(self.policy_options),
                "action_space": self.action_space.name,
                "action_rate": self.action_space.rate,
                "cameras": cameras_mapping(self.cameras, described_cameras(self.robot)),
                "control_rate": self.control_rate,
                "blending": self.blending,
                "environment": environment_mapping(self.robot.environment),
                "payload": payload_mapping(self.robot.payload),
                "contact": self.robot.contact.watched,
                **({"needs": stated} if (stated := needs_mapping(self.needs)) else {}),
            },
            Dumper=_Dumper,
            sort_keys=False,
        )


class _Dumper(yaml.SafeDumper):
    """Texts of several lines, such as a URDF, as they are."""


def _dump_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _dump_text)


def described_cameras(robot: RobotSpec) -> Mapping[str, CameraSpec]:
    """The cameras of the robot's description, whatever the contract made of them."""
    fields = Fields(robot.yaml_path, "", yaml.safe_load(robot.yaml))
    return read_cameras(fields, link_names(robot))


def load_contract(source: str | Path, simulated: bool = False, **overrides: Any) -> Contract:
    """Read a contract from a YAML file, or make one of a robot: its own cameras and the defaults.

    Args:
        source: path ending in .yaml or .yml of a contract or of a robot, or a robot's name.
        simulated: use the robot's simulated control rate where none is given, and watch for contact only
            where `contact: true` is given (late commands shake the simulator's servos as no real arm's).
        overrides: any key of the YAML; None means not given.

    Raises:
        ConfigurationError: broken file, unknown key, value of the wrong type or range.
        ContractError: unknown action space or camera.
    """
    text = str(source)
    folder = None
    if text.endswith((".yaml", ".yml")):
        given, where, folder = _read(Path(text)), text, Path(text).parent
        if "robot" not in given and "urdf" in given:
            given = {"robot": str(Path(text).absolute())}
    else:
        given, where = {"robot": text}, f"robot '{text}'"
    given.update({key: value for key, value in overrides.items() if value is not None})
    strange = sorted(str(key) for key in set(given) - set(_KEYS))
    if strange:
        raise ConfigurationError(unknown(f"{where}: key", strange[0], _KEYS) + _elsewhere(strange[0]))
    robot = _robot(given.get("robot"), folder, where)
    links = link_names(robot)
    robot = replace(robot, cameras=contract_cameras(robot, given.get("cameras"), links, where))
    if given.get("environment") is not None:
        section = Fields(Path(where), "", given).section("environment")
        robot = replace(robot, environment=read_environment(section, robot.environment, links))
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
            f"{where}: contact is watched by the force at the wrist, but the driver in {robot.yaml_path} has "
            "no key 'wrench_topic'; give it, or set 'contact: false'"
        )
    needs = TaskNeeds()
    if given.get("needs") is not None:
        needs = read_needs(Fields(Path(where), "", given).section("needs"))
    space_name = _text(given, "action_space", "delta_tcp", where)
    rate = given.get("action_rate")
    if rate is not None:
        rate = _number(given, "action_rate", 0.5, 200.0, where)
    try:
        space = get_action_space(space_name, robot.dof, rate)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from None
    default_rate = robot.simulated_control_rate if simulated else robot.control_rate
    control_rate = _number({"control_rate": default_rate, **given}, "control_rate", 50.0, 1000.0, where)
    blending = _text(given, "blending", "replace", where)
    if blending not in BLENDINGS:
        raise ConfigurationError(unknown(f"{where}: blending", blending, BLENDINGS))
    options = given.get("policy_options") or {}
    if not isinstance(options, dict):
        raise ConfigurationError(f"{where}: key 'policy_options' must be a mapping")
    return Contract(
        robot=robot,
        policy=_text(given, "policy", "visual_servo", where),
        action_space=space,
        control_rate=control_rate,
        blending=blending,
        policy_options=options,
        needs=needs,
        source=where,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(path.read_text())
    except FileNotFoundError:
        shipped = f"; '{path.stem}' without {path.suffix} is a robot of the package"
        hint = shipped if path.stem in robot_names() else ""
        raise ConfigurationError(f"contract {path} does not exist{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigurationError(f"contract {path} cannot be read: {problem}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", "") or "not readable"
        raise ConfigurationError(f"contract {path} is not valid YAML{line}: {problem}") from None
    if not isinstance(content, dict):
        holds = "is empty" if content is None else f"holds {quoted(content)}"
        raise ConfigurationError(
            f"contract {path} {holds}, but must be a mapping with the key 'robot', such as `robot: panda`"
        )
    return content


def _elsewhere(key: str) -> str:
    """Where a key that no contract has would be at home."""
    if key in Fields(Path(), "", yaml.safe_load(load_robot(robot_names()[0]).yaml)):
        return (
            f" '{key}' is a key of a robot's own YAML file (in m and rad), "
            "which a contract names under 'robot'."
        )
    return ""


def _text(given: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: key '{key}' is {quoted(value)}, but must be a name")
    return value


def _flag(given: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where}: key '{key}' is {quoted(value)}, but must be true or false")
    return value


def _number(given: Mapping[str, Any], key: str, low: float, high: float, where: str) -> float:
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(
            f"{where}: key '{key}' is {quoted(value)}, but must be a number from {low:g} to {high:g}"
        )
    return float(value)


def _robot(given: Any, folder: Path | None, where: str) -> RobotSpec:
    """The robot under the key `robot`: a name, a path, or the description itself."""
    if isinstance(given, dict):
        return robot_from_mapping(given, where)
    if not isinstance(given, str) or not given:
        raise ConfigurationError(
            f"{where}: key 'robot' must name a robot, or the YAML file that describes one"
        )
    return load_robot(given, folder)
