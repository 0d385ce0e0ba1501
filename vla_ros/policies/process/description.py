"""What a process must be told to make the same policy again: names and numbers, no objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from vla_ros.policies.registry import PolicyContract
from vla_ros.robots.loader import robot_from_mapping
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.types import Pose


@dataclass(frozen=True)
class _Steps:
    name: str
    rate: float
    dimension: int


@dataclass(frozen=True)
class _Contract:
    robot: RobotSpec
    cameras: Mapping[str, CameraSpec]
    policy: str
    policy_options: Mapping[str, Any]
    action_space: _Steps


def describe(contract: PolicyContract) -> dict[str, Any]:
    """The part of a contract that names a policy, as a map of plain values and arrays."""
    space = contract.action_space
    return {
        "robot": contract.robot.yaml,
        "urdf": contract.robot.urdf,
        "cameras": [
            {
                "name": camera.name,
                "parent_frame": camera.parent_frame,
                "pose": [camera.pose.position, camera.pose.quaternion],
                "fovy": float(camera.fovy),
                "width": int(camera.width),
                "height": int(camera.height),
                "rate": float(camera.rate),
                "topic": camera.topic,
                "compressed": bool(camera.compressed),
            }
            for camera in contract.cameras.values()
        ],
        "policy": contract.policy,
        "policy_options": dict(contract.policy_options),
        "action_space": [space.name, float(space.rate), int(space.dimension)],
    }


def described(description: Mapping[str, Any]) -> PolicyContract:
    """What `describe` was given, as far as policies are concerned.  Raises `ConfigurationError`."""
    cameras = [CameraSpec(**{**camera, "pose": Pose(*camera["pose"])}) for camera in description["cameras"]]
    content = {**yaml.safe_load(description["robot"]), "urdf": description["urdf"]}
    robot = robot_from_mapping(content, "the robot of the policy")
    named = {camera.name: camera for camera in cameras}
    return _Contract(
        replace(robot, cameras=named),
        named,
        description["policy"],
        description["policy_options"],
        _Steps(*description["action_space"]),
    )
