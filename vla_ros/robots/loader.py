"""Loads and validates a robot: `config/robots/<name>.yaml` and its URDF become a `RobotSpec`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_ros.errors import ConfigurationError
from vla_ros.resources import resource_path
from vla_ros.robots.cameras import read_cameras
from vla_ros.robots.driver_fields import read_driver
from vla_ros.robots.environment import EnvironmentSpec
from vla_ros.robots.environment_fields import read_environment
from vla_ros.robots.fields import Fields, read_yaml
from vla_ros.robots.load import ContactSpec, read_contact
from vla_ros.robots.spec import (
    CollisionSpec,
    GripperSpec,
    JointLimits,
    RobotSpec,
    TcpLimits,
    Workspace,
)
from vla_ros.robots.urdf import Urdf, parse_urdf, read_urdf_file
from vla_ros.types import Array

ALIASES = {"franka": "panda", "wx250s": "widowx"}
LEAST_JOINTS = 6
"""A pose of the tool has as many degrees of freedom."""
FARTHEST = 10.0
"""No arm on a table reaches as far [m]: more in its description is another unit."""


def robot_names() -> list[str]:
    """Names of the robots that come with the package, sorted."""
    return sorted(path.stem for path in resource_path("config", "robots").glob("*.yaml"))


def load_robot(name_or_path: str | Path, folder: Path | None = None) -> RobotSpec:
    """A robot of the package by name or alias, or a user's own from a YAML file.

    `folder`: where a relative path is looked for first; then in the working directory.

    Raises:
        ConfigurationError: unknown name, or the YAML or its URDF is missing, broken or inconsistent.
    """
    path = _find(str(name_or_path), folder)
    fields = read_yaml(path)
    if "robot" in fields and "urdf" not in fields:
        raise ConfigurationError(f"{path} is a contract, but the YAML file of a robot is wanted here")
    text = path.read_text(encoding="utf-8")
    return _robot(fields, text, path.parent == resource_path("config", "robots").resolve())


def robot_from_mapping(content: Mapping[str, Any], where: str) -> RobotSpec:
    """A robot from what `embedded` gave, which is a robot's YAML with the URDF itself under `urdf`.

    `where` it stands, for sentences.  Raises `ConfigurationError` as `load_robot` does.
    """
    text = yaml.safe_dump(dict(content), sort_keys=False, width=110)
    return _robot(Fields(Path(where), "robot.", content), text, shipped=False)


def embedded(spec: RobotSpec) -> str | dict[str, Any]:
    """What a contract says of the robot: a shipped one's name, else all of its description with its URDF."""
    return spec.name if spec.shipped else {**yaml.safe_load(spec.yaml), "urdf": spec.urdf}


def _robot(fields: Fields, text: str, shipped: bool) -> RobotSpec:
    urdf = _urdf(fields)
    joints, links = urdf.joints, urdf.links
    names = fields.texts("joint_names")
    _known(fields, "joint_names", names, joints, f"joint of {urdf.path.name}")
    if len(names) < LEAST_JOINTS:
        raise fields.error(
            "joint_names",
            f"names {len(names)} joints, but arms are moved by the pose of their tool, which takes at least "
            f"{LEAST_JOINTS}",
        )
    published = _published(fields.section("published"), len(names))
    applied = _applied(fields.section("applied"), published, names)
    spec = RobotSpec(
        name=fields.text("name"),
        title=fields.text("title"),
        yaml_path=fields.path,
        urdf_path=urdf.path,
        yaml=text,
        urdf=urdf.text,
        shipped=shipped,
        base_frame=_frame(fields, "base_frame", links),
        tcp_frame=_frame(fields, "tcp_frame", links),
        elbow_frame=_frame(fields, "elbow_frame", links),
        joint_names=names,
        published=published,
        applied=applied,
        home=_home(fields, applied, names),
        state_rotation=_rotation(fields, "state_rotation"),
        gripper=_gripper(fields.section("gripper"), joints, links),
        tcp=_tcp(fields.section("tcp")),
        workspace=_workspace(fields.section("workspace")),
        collision=_collision(fields.section("collision"), links),
        cameras=read_cameras(fields, links),
        driver=read_driver(fields.section("driver"), len(names)),
        control_rate=fields.positive("control_rate", 1000.0),
        simulated_control_rate=fields.positive("simulated_control_rate", 1000.0),
        simulated_joint_state_rate=fields.positive("simulated_joint_state_rate", 1000.0),
        environment=_environment(fields, links),
        contact=read_contact(fields.section("contact"), len(names)) if "contact" in fields else ContactSpec(),
    )
    fields.finish()
    return spec


def link_names(spec: RobotSpec) -> set[str]:
    """Names of all links of the robot's URDF."""
    return set(parse_urdf(spec.urdf, spec.urdf_path).links)


def _find(text: str, folder: Path | None) -> Path:
    if text.endswith((".yaml", ".yml")):
        given = Path(text).expanduser()
        for path in (given if folder is None else folder / given, given):
            if path.is_file():
                return path.resolve()
        beside = "" if folder is None or given.is_absolute() else f", neither in {folder} nor here"
        raise ConfigurationError(f"robot file {text} does not exist{beside}")
    names = robot_names()
    name = ALIASES.get(text.lower(), text.lower())
    if name not in names:
        near = difflib.get_close_matches(name, [*names, *ALIASES], 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        aliases = ", ".join(f"{alias} = {target}" for alias, target in ALIASES.items())
        raise ConfigurationError(
            f"unknown robot '{text}'{hint}; known: {', '.join(names)} ({aliases}),"
            " or the path of a robot's .yaml file"
        )
    return resource_path("config", "robots", f"{name}.yaml").resolve()


def _urdf(fields: Fields) -> Urdf:
    """The URDF that the key `urdf` names, or holds."""
    name = fields.text("urdf")
    if name.lstrip().startswith("<"):
        # the file it once was has a name for sentences only
        return parse_urdf(name, Path(f"{fields.text('name')}.urdf"))
    beside = fields.path.parent / Path(name).expanduser()
    if beside.is_file():
        return read_urdf_file(beside.resolve())
    shipped = resource_path("urdf") / name
    if shipped.is_file():
        return read_urdf_file(shipped)
    raise fields.error("urdf", f"{name} is neither beside the YAML file nor in {shipped.parent}")


def _known(fields: Fields, key: str, names: tuple[str, ...], known: Set[str], kind: str) -> None:
    for name in names:
        if name not in known:
            raise fields.error(key, f"'{name}' is no {kind}; it has {', '.join(sorted(known))}")


def _frame(fields: Fields, key: str, links: Set[str]) -> str:
    name = fields.text(key)
    _known(fields, key, (name,), links, "link of the URDF")
    return name


def _published(fields: Fields, n: int) -> JointLimits:
    limits = JointLimits(
        position_min=fields.array("position_min", (n,)),
        position_max=fields.array("position_max", (n,)),
        velocity=fields.array("velocity", (n,), positive=True),
        acceleration=fields.array("acceleration", (n,), positive=True),
        jerk=fields.array("jerk", (n,), positive=True),
        torque=fields.array("torque", (n,), positive=True),
        fade=_fade(fields.section("velocity_fade"), n) if "velocity_fade" in fields else None,
    )
    if not (limits.position_min < limits.position_max).all():
        raise fields.error("position_min", "must be below position_max for every joint")
    fields.finish()
    return limits


def _fade(fields: Fields, n: int) -> Array:
    """`JointLimits.fade`."""
    rows = [fields.array(key, (n,)) for key in ("offset", "gain", "lower", "upper")]
    if (np.array(rows[:2]) < 0.0).any():
        raise fields.error("gain", "and offset must be at least 0 for every joint")
    fields.finish()
    return np.array(rows)


def _applied(fields: Fields, published: JointLimits, names: tuple[str, ...]) -> JointLimits:
    """Scaled published limits; optional absolute position and velocity limits win where they are tighter."""
    n = len(names)
    limits = published.scaled(
        fields.positive("velocity_scale", 1.0),
        fields.positive("acceleration_scale", 1.0),
        fields.positive("jerk_scale", 1.0),
        fields.number("position_margin", 0.0),
    )
    low, high, velocity = limits.position_min, limits.position_max, limits.velocity
    if "position_min" in fields:
        low = np.maximum(low, fields.array("position_min", (n,)))
    if "position_max" in fields:
        high = np.minimum(high, fields.array("position_max", (n,)))
    if "velocity" in fields:
        velocity = np.minimum(velocity, fields.array("velocity", (n,), positive=True))
    for name, a, b in zip(names, low, high, strict=True):
        if not a < b:
            raise fields.error("position_margin", f"leaves {name} no range ({a:.3f} to {b:.3f} rad)")
    fields.finish()
    return JointLimits(low, high, velocity, limits.acceleration, limits.jerk, limits.torque, limits.fade)


def _home(fields: Fields, applied: JointLimits, names: tuple[str, ...]) -> Array:
    home = fields.array("home", (len(names),))
    for name, q, low, high in zip(names, home, applied.position_min, applied.position_max, strict=True):
        if not low <= q <= high:
            limits = f"{low:.3f} to {high:.3f}"
            degrees = "; is it in degrees?" if abs(q) > 2.0 * np.pi else ""
            raise fields.error(
                "home", f"{name} at {q:.3f} rad is outside the applied limits {limits}{degrees}"
            )
    return home


def _rotation(fields: Fields, key: str) -> Array:
    matrix = fields.array(key, (3, 3))
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6) or np.linalg.det(matrix) < 0.0:
        raise fields.error(key, "must be a rotation matrix")
    return matrix


def _gripper(fields: Fields, joints: Set[str], links: Set[str]) -> GripperSpec:
    names = fields.texts("joint_names")
    _known(fields, "joint_names", names, joints, "joint of the URDF")
    frames = fields.texts("finger_frames")
    _known(fields, "finger_frames", frames, links, "link of the URDF")
    low = fields.number("min_width", 0.0)
    gripper = GripperSpec(
        max_width=fields.number("max_width", low, open_low=True),
        min_width=low,
        speed=fields.positive("speed"),
        max_force=fields.positive("max_force"),
        joint_names=names,
        joint_at_min_width=fields.array("joint_at_min_width", (len(names),)),
        joint_at_max_width=fields.array("joint_at_max_width", (len(names),)),
        finger_frames=frames,
    )
    fields.finish()
    return gripper


def _tcp(fields: Fields) -> TcpLimits:
    keys = ("speed", "acceleration", "jerk", "angular_speed", "angular_acceleration", "angular_jerk")
    limits = TcpLimits(**{key: fields.positive(key) for key in keys})
    fields.finish()
    return limits


def _workspace(fields: Fields) -> Workspace:
    box = Workspace(fields.array("minimum", (3,)), fields.array("maximum", (3,)), fields.number("floor"))
    for key, corner in (("minimum", box.minimum), ("maximum", box.maximum)):
        if np.abs(corner).max() > FARTHEST:
            text = ", ".join(f"{value:g}" for value in corner)
            raise fields.error(key, f"must be within {FARTHEST:g} m of the base, got [{text}]; is it in mm?")
    if not (box.minimum < box.maximum).all():
        raise fields.error("minimum", "must be below maximum on every axis")
    fields.finish()
    return box


def _collision(fields: Fields, links: Set[str]) -> CollisionSpec:
    pairs = fields.take("excluded")
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise fields.error("excluded", "must be a list of pairs of links, or []")
    for pair in pairs:
        _known(fields, "excluded", tuple(pair), links, "link of the URDF")
    stop = fields.number("stop_distance", 0.0)
    spec = CollisionSpec(
        excluded=tuple((a, b) for a, b in pairs),
        stop_distance=stop,
        slow_distance=fields.number("slow_distance", stop, open_low=True),
    )
    fields.finish()
    return spec


def _environment(fields: Fields, links: Set[str]) -> EnvironmentSpec:
    if "environment" not in fields:
        return EnvironmentSpec()
    return read_environment(fields.section("environment"), EnvironmentSpec(), links)
