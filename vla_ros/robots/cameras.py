"""Cameras: those of a robot's description, and what a contract says of them or adds to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.errors import ConfigurationError, ContractError
from vla_ros.robots.driver_fields import TOPIC
from vla_ros.robots.fields import Fields
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.types import Array, Pose

STREAM_KEYS = ("topic", "compressed", "width", "height", "rate")
"""What a camera sends."""
MOUNT_KEYS = ("parent_frame", "position", "quaternion", "fovy")
"""Where it is and how wide it looks."""
LIKE = "like"
"""Of a contract: the camera of the robot whose settings this one has but for those that are given."""
_NUMBERS = {"width": (16, 4096), "height": (16, 4096), "rate": (0.5, 240.0), "fovy": (0.05, 3.1)}


def read_cameras(fields: Fields, links: Set[str]) -> dict[str, CameraSpec]:
    """The section `cameras` of a robot's YAML.  Raises `ConfigurationError`."""
    section = fields.section("cameras")
    return {name: _camera(name, section.section(name), links) for name in section.names()}


def _camera(name: str, fields: Fields, links: Set[str]) -> CameraSpec:
    parent = fields.text("parent_frame")
    if parent not in links:
        raise fields.error("parent_frame", f"'{parent}' is no link of the URDF; it has {_list(links)}")
    camera = CameraSpec(
        name=name,
        parent_frame=parent,
        pose=fields.pose(),
        fovy=fields.positive("fovy", 3.1),
        width=int(fields.number("width", 1)),
        height=int(fields.number("height", 1)),
        rate=fields.positive("rate"),
        topic=fields.text("topic"),
        compressed=fields.flag("compressed", False),
    )
    fields.finish()
    return camera


def contract_cameras(robot: RobotSpec, given: Any, links: Set[str], where: str) -> dict[str, CameraSpec]:
    """The section `cameras` of a contract: those named there, and no other; all of the robot's for None.

    A camera of the robot needs only what differs.  One of another name needs everything, or the name of the
    robot's camera it is like (`like`), and its topic.

    Args:
        robot: with the cameras of its description.
        given: as parsed from YAML.
        links: of the robot's URDF.
        where: the contract, for sentences.

    Raises:
        ConfigurationError: unknown key, value of the wrong type or range.
        ContractError: a camera that is not on the robot and lacks something.
    """
    if given is None:
        return dict(robot.cameras)
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where}: key 'cameras' must be a mapping from camera name to settings")
    cameras = {}
    for name, settings in given.items():
        settings = settings or {}
        if not isinstance(settings, dict) or set(settings) - {*STREAM_KEYS, *MOUNT_KEYS, LIKE}:
            keys = ", ".join((*STREAM_KEYS, *MOUNT_KEYS, LIKE))
            raise ConfigurationError(f"{where}: camera '{name}' may have the keys {keys}")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise ConfigurationError(
                f"{where}: a camera is named {name!r}, but names are letters, digits and underscores"
            )
        cameras[name] = _contract_camera(robot, name, settings, links, f"{where}: camera '{name}'")
    return cameras


def _contract_camera(
    robot: RobotSpec, name: str, settings: Mapping[str, Any], links: Set[str], where: str
) -> CameraSpec:
    checked = {key: _checked(key, settings[key], links, where) for key in settings if key != LIKE}
    base = _base(robot, name, settings, where)
    position, quaternion = checked.pop("position", None), checked.pop("quaternion", None)
    if base is None:
        return CameraSpec(name=name, pose=Pose(position, quaternion), **checked)
    pose = Pose(
        base.pose.position if position is None else position,
        base.pose.quaternion if quaternion is None else quaternion,
    )
    return replace(base, name=name, pose=pose, **checked)


def _base(robot: RobotSpec, name: str, settings: Mapping[str, Any], where: str) -> CameraSpec | None:
    """The robot's camera that this one is like; None where the settings say all."""
    there = ", ".join(robot.cameras) or "none"
    like = settings.get(LIKE, name)
    if LIKE in settings and like not in robot.cameras:
        raise ContractError(
            f"{where} is like '{like}', which is not on robot '{robot.name}'; it has {there}"
        )
    if like in robot.cameras:
        if like != name and "topic" not in settings:
            raise ContractError(f"{where} is like '{like}', but needs a topic of its own")
        return robot.cameras[like]
    missing = [key for key in (*STREAM_KEYS, *MOUNT_KEYS) if key not in settings and key != "compressed"]
    if missing:
        instead = f", or `like: {next(iter(robot.cameras))}` and a topic" if robot.cameras else ""
        raise ContractError(
            f"{where} is not on robot '{robot.name}', which has {there}; so it needs {', '.join(missing)} "
            f"(parent_frame, position and quaternion say where it is, fovy how wide it looks){instead}"
        )
    return None


def _checked(key: str, value: Any, links: Set[str], where: str) -> Any:
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigurationError(
                f"{where}: key '{key}' is {value!r}, but must be a number from {low:g} to {high:g}"
            )
        if key not in ("width", "height"):
            return float(value)
        if int(value) != value:
            raise ConfigurationError(f"{where}: key '{key}' is {value!r}, but pixels are whole")
        return int(value)
    if key == "compressed":
        if not isinstance(value, bool):
            raise ConfigurationError(f"{where}: key 'compressed' is {value!r}, but must be true or false")
        return value
    if key == "position":
        return _vector(key, value, 3, where)
    if key == "quaternion":
        quaternion = _vector(key, value, 4, where)
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > 1e-3:
            raise ConfigurationError(f"{where}: key 'quaternion' must have unit norm, got {norm:.4f}")
        # a unit quaternion is not divided again, so that what is written and read back stays the same
        return quaternion if abs(norm - 1.0) < 1e-12 else quaternion / norm
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: key '{key}' is {value!r}, but must be a name")
    if key == "parent_frame" and value not in links:
        raise ConfigurationError(
            f"{where}: parent_frame '{value}' is no link of the URDF; it has {_list(links)}"
        )
    return value


def _vector(key: str, value: Any, size: int, where: str) -> Array:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ConfigurationError(f"{where}: key '{key}' is {value!r}, but must be {size} finite numbers")
    return array


def cameras_mapping(
    cameras: Mapping[str, CameraSpec], described: Mapping[str, CameraSpec]
) -> dict[str, dict[str, Any]]:
    """What `contract_cameras` reads back; where a camera is, only if its description says otherwise."""
    return {
        name: {
            **{key: getattr(camera, key) for key in STREAM_KEYS},
            **({} if name in described and same_mount(camera, described[name]) else _mount(camera)),
        }
        for name, camera in cameras.items()
    }


def _mount(camera: CameraSpec) -> dict[str, Any]:
    return {
        "parent_frame": camera.parent_frame,
        "position": [float(value) for value in camera.pose.position],
        "quaternion": [float(value) for value in camera.pose.quaternion],
        "fovy": float(camera.fovy),
    }


def same_mount(one: CameraSpec, other: CameraSpec) -> bool:
    """Whether both are at the same place and look as wide."""
    return _mount(one) == _mount(other)


def camera_problems(
    cameras: Mapping[str, CameraSpec], described: Mapping[str, CameraSpec], taken: Set[str], where: str
) -> Iterator[str]:
    """What is wrong with the topics of cameras, a sentence each.

    Args:
        cameras: of a contract.
        described: of its robot's description.
        taken: topics that carry something else.
        where: the contract, for sentences.
    """
    seen: dict[str, str] = {}
    for name, camera in cameras.items():
        topic = camera.topic
        if not TOPIC.fullmatch(topic):
            yield (
                f"camera '{name}' of {where} has the topic '{topic}', which is no full name of a topic: "
                "it must begin with / and have letters, digits and underscores between slashes"
            )
        if topic in taken:
            yield f"camera '{name}' of {where} has the topic {topic}, on which the robot's driver speaks"
        stream = topic.removesuffix("/compressed")
        if stream in seen:
            yield (
                f"cameras '{seen[stream]}' and '{name}' of {where} have the same topic {topic}; "
                "each needs its own"
            )
        seen.setdefault(stream, name)
        for other, theirs in described.items():
            if other != name and other in cameras and topic == theirs.topic != cameras[other].topic:
                yield (
                    f"camera '{name}' of {where} has the topic {topic}, which is that of camera '{other}' "
                    f"in the robot's description, while '{other}' has {cameras[other].topic}; "
                    "are the two swapped?"
                )


def _list(names: Set[str]) -> str:
    return ", ".join(sorted(names))
