"""A robot's URDF as text: what is checked before anything is built of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.errors import ConfigurationError

_XACRO = "{http://www.ros.org/wiki/xacro}"


@dataclass(frozen=True)
class Urdf:
    """A URDF that needs no other file."""

    path: Path
    """Where it came from, for sentences."""
    text: str
    """Without the visual meshes, which only a viewer needs."""
    joints: frozenset[str]
    """Names of the joints that move."""
    links: frozenset[str]


def read_urdf_file(path: Path) -> Urdf:
    """Read a file.  Raises `ConfigurationError` as `parse_urdf` does, and when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    return parse_urdf(text, path)


def parse_urdf(text: str, path: Path) -> Urdf:
    """Check a URDF.

    Raises:
        ConfigurationError: not XML (with the line), not a URDF, still a xacro, or with meshes for collision.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ConfigurationError(f"{path}, line {error.position[0]}: broken XML: {error}") from error
    if root.tag != "robot":
        raise ConfigurationError(f"{path} is not a URDF: its root element is <{root.tag}>, not <robot>")
    if any(str(element.tag).startswith(_XACRO) for element in root.iter()):
        raise ConfigurationError(f"{path} is a xacro, not a URDF; `xacro {path.name} > robot.urdf` makes one")
    _refuse_collision_meshes(root, path)
    joints = frozenset(j.get("name", "") for j in root.findall("joint") if j.get("type") != "fixed")
    links = frozenset(link.get("name", "") for link in root.findall("link"))
    return Urdf(path, _without_visual_meshes(root, text), joints, links)


def _refuse_collision_meshes(root: ElementTree.Element, path: Path) -> None:
    for link in root.findall("link"):
        mesh = link.find("collision/geometry/mesh")
        if mesh is not None:
            raise ConfigurationError(
                f"{path}: the collision shape of link '{link.get('name')}' is the mesh "
                f"'{mesh.get('filename')}', but distances are kept between boxes, cylinders and spheres; "
                "describe the link by these, a little larger than it is"
            )


def _without_visual_meshes(root: ElementTree.Element, text: str) -> str:
    """The text as it is, where it has none."""
    found = False
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            if visual.find("geometry/mesh") is not None:
                link.remove(visual)
                found = True
    return ElementTree.tostring(root, encoding="unicode") if found else text
