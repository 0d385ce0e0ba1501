"""Obstacles as messages: standard solids and planes to what the controller keeps away from."""

from __future__ import annotations

from shape_msgs.msg import SolidPrimitive

from vla_ros import msg
from vla_ros.bounds import MAX_NAME, plain
from vla_ros.errors import ConfigurationError
from vla_ros.nodes.conversions import to_pose
from vla_ros.robots.environment import Box, Cylinder, Obstacle, Plane, Sphere

_SIZES = {SolidPrimitive.BOX: 3, SolidPrimitive.SPHERE: 1, SolidPrimitive.CYLINDER: 2}


def to_obstacle(message: msg.Obstacle) -> Obstacle:
    """A received obstacle, in the robot's base frame.  Raises `ConfigurationError`, which names it."""
    name, allowed = plain(message.name, MAX_NAME), tuple(message.allowed_links)
    if len(message.solid) + len(message.plane) != 1:
        raise ConfigurationError(f"obstacle '{name}' must be one solid or one plane")
    if message.plane:
        *normal, offset = (float(value) for value in message.plane[0].coef)
        length = sum(value * value for value in normal) ** 0.5
        # a x + b y + c z + d >= 0 is free; `Plane` takes a unit normal and the offset along it
        return Plane(name=name, normal=normal, offset=-offset / max(length, 1e-12), allowed_links=allowed)  # type: ignore[arg-type]
    solid, pose = message.solid[0], to_pose(message.pose)
    sizes = [float(value) for value in solid.dimensions]
    if _SIZES.get(solid.type) != len(sizes):
        raise ConfigurationError(
            f"obstacle '{name}' is a solid of type {solid.type} with {len(sizes)} dimensions, "
            "but must be a BOX of 3, a SPHERE of 1 or a CYLINDER of 2"
        )
    if solid.type == SolidPrimitive.BOX:
        return Box(name=name, size=sizes, pose=pose, allowed_links=allowed)  # type: ignore[arg-type]
    if solid.type == SolidPrimitive.SPHERE:
        return Sphere(name=name, radius=sizes[0], position=pose.position, allowed_links=allowed)
    length, radius = sizes  # CYLINDER_HEIGHT, CYLINDER_RADIUS
    return Cylinder(name=name, radius=radius, length=length, pose=pose, allowed_links=allowed)
