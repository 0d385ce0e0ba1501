"""A reader of URDF and its forward kinematics in plain numpy: the judge's own, used by nothing that moves.

Conventions: wiki.ros.org/urdf/XML (rpy about fixed axes: R = Rz(yaw) Ry(pitch) Rx(roll)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import Array


@dataclass(frozen=True)
class Joint:
    """A URDF joint; `origin` (4, 4) is its frame in the parent link, `axis` (3,) in the joint frame."""

    name: str
    kind: str
    parent: str
    child: str
    origin: Array
    axis: Array

    @property
    def moves(self) -> bool:
        """Whether it has a degree of freedom."""
        return self.kind != "fixed"


@dataclass(frozen=True)
class Shape:
    """A collision primitive of a link: box (half sizes), cylinder (radius, half length), sphere (radius)."""

    link: str
    kind: str
    size: tuple[float, ...]
    origin: Array
    """(4, 4) in the link."""

    @property
    def radius(self) -> float:
        """Radius of the bounding sphere [m]."""
        return float(np.linalg.norm(self.size))


@dataclass(frozen=True)
class UrdfChain:
    """The tree of a URDF; joints by the link they carry."""

    path: Path
    joints: Mapping[str, Joint]
    shapes: tuple[Shape, ...]

    def poses(self, link: str, values: Mapping[str, Array]) -> Array:
        """Poses (N, 4, 4) of a link in the root link.

        `values`: positions (N,) of the movable joints on the way, by name [rad] or [m].
        """
        way: list[Joint] = []
        while link in self.joints:
            way.append(self.joints[link])
            link = way[-1].parent
        count = max((len(v) for v in values.values()), default=1)
        pose = np.broadcast_to(np.eye(4), (count, 4, 4))
        for joint in reversed(way):
            pose = pose @ joint.origin
            if joint.moves:
                pose = pose @ _motion(joint, values[joint.name])
        return np.asarray(pose)

    def group(self, link: str) -> str:
        """Name of the movable joint that carries a link; empty for what stands on the base."""
        while link in self.joints:
            joint = self.joints[link]
            if joint.moves:
                return joint.name
            link = joint.parent
        return ""

    def ancestors(self, link: str) -> list[str]:
        """Movable joints from the one that carries a link down to the base."""
        found = []
        while link in self.joints:
            joint = self.joints[link]
            if joint.moves:
                found.append(joint.name)
            link = joint.parent
        return found


def read_urdf(text: str, path: Path) -> UrdfChain:
    """Joints and collision primitives of a URDF that came from `path`.  Raises `ConfigurationError`."""
    try:
        root = ElementTree.fromstring(text)
        joints = [_joint(node) for node in root.findall("joint")]
        shapes = [
            _shape(link.get("name", ""), node)
            for link in root.findall("link")
            for node in link.findall("collision")
        ]
    except (ElementTree.ParseError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read as URDF: {error}.") from error
    return UrdfChain(path, {joint.child: joint for joint in joints}, tuple(shapes))


def joint_values(
    names: tuple[str, ...], positions: Array, gripper: GripperSpec, widths: Array
) -> dict[str, Array]:
    """Positions by joint name: arm joints (N, n) as they are, finger joints from opening widths (N,) [m]."""
    values = {name: positions[:, i] for i, name in enumerate(names)}
    share = np.clip((widths - gripper.min_width) / (gripper.max_width - gripper.min_width), 0.0, 1.0)
    for name, low, high in zip(
        gripper.joint_names, gripper.joint_at_min_width, gripper.joint_at_max_width, strict=True
    ):
        values[name] = low + (high - low) * share
    return values


def rpy_matrix(roll: float, pitch: float, yaw: float) -> Array:
    """Rotation (3, 3) of fixed-axis roll, pitch, yaw [rad]."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _motion(joint: Joint, values: Array) -> Array:
    motion = np.tile(np.eye(4), (len(values), 1, 1))
    if joint.kind == "prismatic":
        motion[:, :3, 3] = values[:, None] * joint.axis
        return motion
    x, y, z = joint.axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine, cosine = np.sin(values)[:, None, None], np.cos(values)[:, None, None]
    # Rodrigues' formula
    motion[:, :3, :3] += sine * cross + (1.0 - cosine) * (cross @ cross)
    return motion


def _joint(node: ElementTree.Element) -> Joint:
    kind = node.get("type", "")
    if kind not in ("fixed", "revolute", "continuous", "prismatic"):
        raise ValueError(f"joint {node.get('name')} is of type '{kind}'")
    if node.find("mimic") is not None:
        raise ValueError(f"joint {node.get('name')} mimics another")
    parent, child, axis = node.find("parent"), node.find("child"), node.find("axis")
    if parent is None or child is None:
        raise ValueError(f"joint {node.get('name')} lacks parent or child")
    direction = _numbers(axis.get("xyz", "1 0 0")) if axis is not None else np.array([1.0, 0.0, 0.0])
    return Joint(
        node.get("name", ""),
        kind,
        parent.get("link", ""),
        child.get("link", ""),
        _origin(node),
        direction / np.linalg.norm(direction),
    )


def _shape(link: str, node: ElementTree.Element) -> Shape:
    geometry = node.find("geometry")
    for shape in geometry if geometry is not None else ():
        if shape.tag == "box":
            return Shape(link, "box", tuple(0.5 * _numbers(shape.get("size", ""))), _origin(node))
        if shape.tag == "cylinder":
            size = (float(shape.get("radius", "")), 0.5 * float(shape.get("length", "")))
            return Shape(link, "cylinder", size, _origin(node))
        if shape.tag == "sphere":
            return Shape(link, "sphere", (float(shape.get("radius", "")),), _origin(node))
    raise ValueError(f"a collision body of link {link} is no box, cylinder or sphere")


def _origin(node: ElementTree.Element) -> Array:
    pose = np.eye(4)
    origin = node.find("origin")
    if origin is not None:
        pose[:3, 3] = _numbers(origin.get("xyz", "0 0 0"))
        pose[:3, :3] = rpy_matrix(*_numbers(origin.get("rpy", "0 0 0")))
    return pose


def _numbers(text: str) -> Array:
    numbers = np.array([float(word) for word in text.split()])
    if numbers.shape != (3,):
        raise ValueError(f"'{text}' is not three numbers")
    return numbers
