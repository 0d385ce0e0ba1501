"""Whether two contracts give the numbers and pictures of a data set the same meaning."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import yaml

from vla_ros.documents import parse_yaml

MEANING = ("robot", "action_space", "action_rate", "cameras")
"""Keys of a contract that must be the same; who answered, and how the robot was controlled and limited, may
differ: a person's demonstrations, an expert's and corrections of a policy make one data set."""
ROBOT_MEANING = ("name", "base_frame", "tcp_frame", "joint_names", "state_rotation", "gripper", "urdf")
"""Likewise of a robot that stands in the contract with its description; of its URDF, the joints."""
_STREAM = ("width", "height", "rate")
"""Of a camera; by which topic and form its pictures came does not count, nor its calibration, which is done
again and again."""
_PLACES = ("origin", "axis", "parent", "child", "mimic")


def contract_meaning(text: str) -> str:
    """What counts of a contract in YAML, in one form; the text itself where it is no mapping."""
    given = _mapping(text)
    if given is None:
        return text
    return json.dumps(given, sort_keys=True, default=str)


def contract_difference(one: str, other: str) -> str:
    """In what they differ, as the end of a sentence; empty: nothing that counts."""
    if contract_meaning(one) == contract_meaning(other):
        return ""
    a, b = _mapping(one), _mapping(other)
    if a is None or b is None:
        return "one of them has none" if not one or not other else "one of them is no mapping"
    for key in MEANING:
        if a.get(key) != b.get(key):
            if key == "robot":
                return _robot_difference(a.get(key), b.get(key))
            return f"'{key}' is {a.get(key)} and {b.get(key)}"
    return "they are written differently"


def _robot_difference(one: Any, other: Any) -> str:
    names = [robot.get("name") if isinstance(robot, dict) else robot for robot in (one, other)]
    if names[0] != names[1]:
        return f"'robot' is {names[0]} and {names[1]}"
    if not isinstance(one, dict) or not isinstance(other, dict):
        return f"'robot' is {names[0]} in both, but one of them is described in its contract"
    keys = [key for key in ROBOT_MEANING if one.get(key) != other.get(key)]
    return f"the descriptions of robot '{names[0]}' differ in {', '.join(keys)}"


def _mapping(text: str) -> dict[str, Any] | None:
    """What counts of it."""
    try:
        given = parse_yaml(text)
    except yaml.YAMLError:
        return None
    if not isinstance(given, dict):
        return None
    counts = {key: given.get(key) for key in MEANING}
    if isinstance(counts["robot"], dict):
        robot = {key: counts["robot"].get(key) for key in ROBOT_MEANING}
        counts["robot"] = {**robot, "urdf": _joints(str(robot["urdf"]))}
    if isinstance(counts["cameras"], dict):
        counts["cameras"] = {
            name: {key: camera.get(key) for key in _STREAM} if isinstance(camera, dict) else camera
            for name, camera in counts["cameras"].items()
        }
    return counts


def _joints(urdf: str) -> list[Any] | str:
    """Where the joints of a URDF are and how they turn, by name; the text where it is no XML."""
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError:
        return urdf
    return sorted(
        [str(joint.get("name")), str(joint.get("type"))]
        + [json.dumps([part.tag, part.attrib], sort_keys=True) for part in joint if part.tag in _PLACES]
        for joint in root.findall("joint")
    )
