"""The section `driver` of a robot's YAML."""

from __future__ import annotations

import re

from vla_ros.robots.fields import Fields
from vla_ros.robots.spec import DriverSpec

COMMAND_TYPES = {
    "franka_ros2": "std_msgs/Float64MultiArray",
    "ur_robot_driver": "std_msgs/Float64MultiArray",
    "interbotix": "interbotix_xs_msgs/JointGroupCommand",
    "ros2_control": "std_msgs/Float64MultiArray",
}
"""Kinds of driver, each with the type of the joint commands that it takes."""
GRIPPER_TYPES = {
    "franka_msgs/action/Move": "action",
    "control_msgs/action/ParallelGripperCommand": "action",
    "control_msgs/action/GripperCommand": "action",
    "interbotix_xs_msgs/JointSingleCommand": "topic",
}
"""Interfaces of grippers that are spoken, with the kind of each."""
TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
"""Full name of a topic, service or action."""
_NAMES = ("_topic", "_service", "_action")


def read_driver(fields: Fields, n: int) -> DriverSpec:
    """Read it, for a robot of n joints.  Raises `ConfigurationError` with file, key and what is wrong."""
    kind, command_type = fields.text("kind"), fields.text("command_type")
    if kind not in COMMAND_TYPES:
        raise fields.error("kind", f"'{kind}' is not one of {', '.join(COMMAND_TYPES)}")
    if command_type not in COMMAND_TYPES.values():
        known = ", ".join(dict.fromkeys(COMMAND_TYPES.values()))
        raise fields.error("command_type", f"'{command_type}' is not one of {known}")
    if command_type != COMMAND_TYPES[kind]:
        wanted = COMMAND_TYPES[kind]
        raise fields.error("command_type", f"'{command_type}' is not what {kind} takes: {wanted}")
    names = fields.texts("joint_names")
    if len(names) != n:
        raise fields.error("joint_names", f"must name {n} joints, got {len(names)}")
    extra = fields.mapping("extra")
    for key, value in extra.items():
        if key.endswith(_NAMES):
            _full_name(fields, f"extra.{key}", str(value))
    spec = DriverSpec(
        kind=kind,
        joint_state_topic=_full_name(fields, "joint_state_topic"),
        joint_state_rate=fields.positive("joint_state_rate"),
        joint_names=names,
        command_topic=_full_name(fields, "command_topic"),
        command_type=command_type,
        command_rate=fields.positive("command_rate"),
        gripper=_gripper(fields.section("gripper")),
        extra=extra,
    )
    fields.finish()
    return spec


def _gripper(fields: Fields) -> dict[str, object]:
    """The keys every gripper interface has are checked; further ones belong to its type."""
    kind, type_name = fields.text("kind"), fields.text("type")
    if kind not in ("action", "topic"):
        raise fields.error("kind", f"'{kind}' is not one of action, topic")
    if type_name not in GRIPPER_TYPES:
        raise fields.error("type", f"'{type_name}' is not one of {', '.join(GRIPPER_TYPES)}")
    if kind != GRIPPER_TYPES[type_name]:
        raise fields.error("kind", f"'{kind}' is not what {type_name} is: {GRIPPER_TYPES[type_name]}")
    known: dict[str, object] = {
        "kind": kind,
        "name": _full_name(fields, "name"),
        "type": type_name,
        "joint_state_topic": _full_name(fields, "joint_state_topic"),
        "joint_state_rate": fields.positive("joint_state_rate"),
        "joint_names": fields.texts("joint_names"),
        "state_at_min_width": fields.number("state_at_min_width"),
        "state_at_max_width": fields.number("state_at_max_width"),
    }
    if known["state_at_min_width"] == known["state_at_max_width"]:
        raise fields.error("state_at_max_width", "must differ from state_at_min_width")
    return known | {key: fields.take(key) for key in fields.names() if key not in known}


def _full_name(fields: Fields, key: str, value: str | None = None) -> str:
    name = fields.text(key) if value is None else value
    if not TOPIC.fullmatch(name):
        raise fields.error(key, f"'{name}' is no full name: it must begin with /, as /arm/joint_states")
    return name
