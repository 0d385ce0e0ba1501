"""The robot's collision bodies: capsules made of the URDF's primitives, fingers swept over their travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import coal
import numpy as np
import pinocchio as pin

from vla_ros.robots.model import finger_positions, joint_indices
from vla_ros.robots.reach import chain, point_reach
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array


def read_bodies(model: pin.Model, spec: RobotSpec) -> list[pin.GeometryObject]:
    """Collision bodies of the URDF in its order.

    URDF knows no capsule: every cylinder between two spheres of its radius becomes one.  One exact shape in
    place of three is faster and has smoother gradients.
    """
    objects = list(pin.buildGeomFromUrdfString(model, spec.urdf, pin.COLLISION).geometryObjects)
    used: set[int] = set()
    for index, item in enumerate(objects):
        if isinstance(item.geometry, coal.Cylinder):
            ends = _end_spheres(objects, index)
            if ends is not None:
                item.geometry = coal.Capsule(item.geometry.radius, 2.0 * item.geometry.halfLength)
                used.update(ends)
    return [item for index, item in enumerate(objects) if index not in used]


def body_reach(model: pin.Model, item: pin.GeometryObject) -> Array:
    """(nv,) bound on the speed of any point of a body per speed of each joint [m/rad]."""
    item.geometry.computeLocalAABB()
    centre = item.placement.translation + item.placement.rotation @ item.geometry.aabb_center
    extent = float(np.linalg.norm(centre)) + float(item.geometry.aabb_radius)
    return point_reach(model, int(item.parentJoint), extent)


@dataclass(frozen=True)
class Swept:
    """A body that stands for all a finger's body can be at, whatever the opening; it hangs on the hand."""

    item: pin.GeometryObject
    spare: float
    """What it lacks of that on every side [m]."""


def sweep(model: pin.Model, spec: RobotSpec, item: pin.GeometryObject) -> Swept:
    """The swept form of a body; one that is on no finger stays what it is.

    A box that slides along an edge becomes the longer box, which is exact.  Anything else is taken at half
    opening, with the most it can move from there to spare.
    """
    fingers = {model.getJointId(name) for name in spec.gripper.joint_names}
    joint = int(item.parentJoint)
    moving = [index for index in chain(model, joint) if index in fingers]
    if not moving:
        return Swept(item, 0.0)
    carrier = int(model.parents[moving[-1]])
    closed, half, opened = (
        _placement(model, spec, item, carrier, width)
        for width in np.linspace(spec.gripper.min_width, spec.gripper.max_width, 3)
    )
    shape, spare = item.geometry, 0.0
    way = closed.rotation.T @ (opened.translation - closed.translation)
    along = int(np.argmax(np.abs(way)))
    slides = len(moving) == 1 and model.joints[moving[0]].shortname().startswith("JointModelP")
    if slides and isinstance(shape, coal.Box) and np.abs(np.delete(way, along)).max() < 1e-9:
        size = 2.0 * np.array(shape.halfSide)
        size[along] += abs(way[along])
        shape = coal.Box(*size)
    else:
        reach = body_reach(model, item)
        gripper = spec.gripper
        travel = np.abs(gripper.joint_at_max_width - gripper.joint_at_min_width)
        spare = 0.5 * float(reach[joint_indices(model, gripper.joint_names)] @ travel)
    name = f"{item.name} swept"
    return Swept(pin.GeometryObject(name, carrier, item.parentFrame, half, shape), spare)


def _placement(
    model: pin.Model, spec: RobotSpec, item: pin.GeometryObject, carrier: int, width: float
) -> pin.SE3:
    """Of a finger's body in the joint frame the finger hangs on, at one opening."""
    data, q = model.createData(), pin.neutral(model)
    q[joint_indices(model, spec.gripper.joint_names)] = finger_positions(spec.gripper, width)
    pin.forwardKinematics(model, data, q)
    placement: pin.SE3 = data.oMi[carrier].actInv(data.oMi[item.parentJoint]) * item.placement
    return placement


def _end_spheres(objects: Sequence[pin.GeometryObject], index: int) -> tuple[int, int] | None:
    cylinder = objects[index]
    axis = cylinder.placement.rotation[:, 2] * cylinder.geometry.halfLength
    found = []
    for end in (cylinder.placement.translation - axis, cylinder.placement.translation + axis):
        for other, item in enumerate(objects):
            if (
                item.parentFrame == cylinder.parentFrame
                and isinstance(item.geometry, coal.Sphere)
                and abs(item.geometry.radius - cylinder.geometry.radius) < 1e-6
                and np.linalg.norm(item.placement.translation - end) < 1e-4
            ):
                found.append(other)
                break
    return (found[0], found[1]) if len(found) == 2 else None
