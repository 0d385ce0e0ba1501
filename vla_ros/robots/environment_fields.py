"""The section `environment` of a robot's YAML and of a contract, read and written."""

from __future__ import annotations

from collections.abc import Iterable

from vla_ros.errors import ConfigurationError
from vla_ros.robots.environment import (
    Box,
    Cylinder,
    EnvironmentSpec,
    Obstacle,
    Plane,
    Sphere,
    check_obstacles,
    merged,
)
from vla_ros.robots.fields import Fields
from vla_ros.types import Pose

TYPES = ("box", "sphere", "cylinder", "plane")


def read_environment(fields: Fields, base: EnvironmentSpec, links: Iterable[str]) -> EnvironmentSpec:
    """`base` with what the section says: other zones, more obstacles, others of the same name.

    Keys, all optional: `stop_distance`, `slow_distance` [m] and `obstacles`, a list.

    Raises:
        ConfigurationError: with file, key and what is wrong.
    """
    stop, slow = base.stop_distance, base.slow_distance
    if "stop_distance" in fields:
        stop = fields.number("stop_distance", 0.0)
    if "slow_distance" in fields:
        slow = fields.number("slow_distance", 0.0)
    if not stop < slow:
        raise fields.error("slow_distance", f"must be above stop_distance {stop:g}, got {slow:g}")
    found = [_obstacle(item) for item in fields.sections("obstacles")] if "obstacles" in fields else []
    fields.finish()
    try:
        check_obstacles(found, links)
        obstacles = merged(base.obstacles, found)
        check_obstacles(obstacles, links)
    except ConfigurationError as error:
        raise fields.error("obstacles", str(error)) from error
    return EnvironmentSpec(obstacles, stop, slow)


def environment_mapping(environment: EnvironmentSpec) -> dict[str, object]:
    """What `read_environment` reads back, in plain lists and numbers for YAML."""
    return {
        "stop_distance": environment.stop_distance,
        "slow_distance": environment.slow_distance,
        "obstacles": [_mapping(item) for item in environment.obstacles],
    }


def _obstacle(fields: Fields) -> Obstacle:
    name, kind = fields.text("name"), fields.text("type")
    if kind not in TYPES:
        raise fields.error("type", f"'{kind}' is not one of {', '.join(TYPES)}")
    links = fields.texts("allowed_links") if "allowed_links" in fields else ()
    made: Obstacle
    try:
        if kind == "box":
            size = fields.array("size", (3,), positive=True)
            made = Box(name=name, allowed_links=links, size=size, pose=fields.pose(upright=True))
        elif kind == "sphere":
            radius, position = fields.positive("radius"), fields.array("position", (3,))
            made = Sphere(name=name, allowed_links=links, radius=radius, position=position)
        elif kind == "cylinder":
            radius, length = fields.positive("radius"), fields.positive("length")
            pose = fields.pose(upright=True)
            made = Cylinder(name=name, allowed_links=links, radius=radius, length=length, pose=pose)
        else:
            normal, offset = fields.array("normal", (3,)), fields.number("offset")
            made = Plane(name=name, allowed_links=links, normal=normal, offset=offset)
    except ConfigurationError as error:
        if str(fields.path) in str(error):
            raise
        raise fields.error("name", str(error)) from error
    fields.finish()
    return made


def _mapping(item: Obstacle) -> dict[str, object]:
    content: dict[str, object] = {"name": item.name, "type": type(item).__name__.lower()}
    if isinstance(item, Box):
        content |= {"size": item.size.tolist(), **_pose(item.pose)}
    elif isinstance(item, Sphere):
        content |= {"radius": item.radius, "position": item.position.tolist()}
    elif isinstance(item, Cylinder):
        content |= {"radius": item.radius, "length": item.length, **_pose(item.pose)}
    else:
        content |= {"normal": item.normal.tolist(), "offset": item.offset}
    return content | ({"allowed_links": list(item.allowed_links)} if item.allowed_links else {})


def _pose(pose: Pose) -> dict[str, object]:
    return {"position": pose.position.tolist(), "quaternion": pose.quaternion.tolist()}
