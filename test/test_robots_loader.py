"""Loading robots: what is shipped is consistent, what is wrong is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_ros.errors import ConfigurationError
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.loader import ALIASES

ROBOTS = ["fr3", "panda", "ur5", "ur5e", "widowx"]


def test_names() -> None:
    assert robot_names() == ROBOTS


@pytest.mark.parametrize("name", ROBOTS)
def test_shipped_robots_are_consistent(name: str) -> None:
    robot = load_robot(name)
    assert robot.name == name
    assert robot.dof == len(robot.home) == len(robot.driver.joint_names) == (6 if name[0] in "uw" else 7)
    for limit in ("velocity", "acceleration", "jerk"):
        assert (getattr(robot.applied, limit) <= getattr(robot.published, limit)).all()
    assert (robot.applied.position_min > robot.published.position_min).all()
    assert (robot.applied.position_max < robot.published.position_max).all()
    assert set(robot.cameras) == {"primary", "wrist"}
    assert robot.cameras["primary"].parent_frame == robot.base_frame
    assert robot.driver.joint_state_rate == robot.driver.command_rate == robot.control_rate
    assert robot.gripper.min_width < robot.gripper.max_width


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_aliases(alias: str) -> None:
    assert load_robot(alias).name == ALIASES[alias]


def test_panda_limits_are_the_published_ones() -> None:
    robot = load_robot("panda")
    np.testing.assert_allclose(robot.published.velocity, [2.175] * 4 + [2.61] * 3)
    np.testing.assert_allclose(robot.applied.velocity, robot.published.velocity * 0.5)
    np.testing.assert_allclose(robot.applied.jerk, robot.published.jerk * 0.3)
    np.testing.assert_allclose(robot.applied.position_max, robot.published.position_max - 0.1)


def test_fr3_has_its_position_dependent_velocity_limits_everywhere_halved() -> None:
    """Upper limits of libfranka for the FR3: min(v, max(0, -offset + sqrt(gain * (limit - q))))."""
    robot = load_robot("fr3")
    offset = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    gain = np.array([12, 5.17, 7, 8, 34, 11, 34])
    limit = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    for share in np.linspace(0.0, 1.0, 50):
        q = robot.applied.position_min + share * (robot.applied.position_max - robot.applied.position_min)
        allowed = np.minimum(robot.published.velocity, -offset + np.sqrt(gain * (limit - q)))
        o, g, _, end = robot.applied.fades
        ours = np.minimum(robot.applied.velocity, np.sqrt(g * (end - q)) - o)
        np.testing.assert_allclose(ours, 0.5 * allowed, atol=1e-9)


def test_widowx_reports_identity_when_pointing_down() -> None:
    down = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(down @ load_robot("widowx").state_rotation, np.eye(3))


def test_unknown_robot_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="did you mean panda.*fr3, panda, ur5, ur5e, widowx"):
        load_robot("pandda")


def _write(tmp_path: Path, content: dict[str, object]) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _panda() -> dict:
    return yaml.safe_load(load_robot("panda").yaml_path.read_text())


def test_a_users_own_file_with_its_urdf_beside_it(tmp_path: Path) -> None:
    shipped = load_robot("panda")
    (tmp_path / "mine.urdf").write_text(shipped.urdf_path.read_text())
    robot = load_robot(_write(tmp_path, _panda() | {"name": "mine", "urdf": "mine.urdf"}))
    assert robot.name == "mine"
    assert robot.urdf_path == (tmp_path / "mine.urdf").resolve()


WRONG = [
    ("unknown", "colour", "blue", "colour: unknown key"),
    ("missing", "home", None, "home: missing"),
    ("short", "home", [0.0] * 6, "home: must be 7 numbers, got 6"),
    ("text", "home", ["a"] * 7, "home: must be 7 numbers"),
    ("outside", "home", [0, -0.2, 0, 0.5, 0, 2.2, 0.8], "home: panda_joint4 at 0.500 rad is outside"),
    ("joint", "joint_names", [f"arm{i}" for i in range(7)], "joint_names: 'arm0' is no joint of panda.urdf"),
    ("twice", "joint_names", ["panda_joint1"] * 7, "joint_names: names a thing twice"),
    ("min above max", "published.position_min", [9.0] * 7, "position_min: must be below position_max"),
    ("nan", "published.velocity", [float("nan")] + [1.0] * 6, "published.velocity: must be finite"),
    ("negative", "published.jerk", [-1.0] * 7, "published.jerk: must be above 0"),
    ("scale", "applied.velocity_scale", 1.5, "applied.velocity_scale: must be at most 1, got 1.5"),
    ("zero", "applied.jerk_scale", 0, "applied.jerk_scale: must be above 0"),
    ("margin", "applied.position_margin", 3.0, "applied.position_margin: leaves panda_joint1 no range"),
    ("infinite", "control_rate", float("inf"), "control_rate: must be a finite number"),
    ("rate", "control_rate", 5000, "control_rate: must be at most 1000"),
    ("bool", "control_rate", True, "control_rate: must be a finite number, got True"),
    ("frame", "tcp_frame", "nowhere", "tcp_frame: 'nowhere' is no link"),
    ("rotation", "state_rotation", [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "state_rotation: must be a rotation"),
    ("mirror", "state_rotation", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], "state_rotation: must be a rotation"),
    ("width", "gripper.max_width", 0.0, "gripper.max_width: must be above 0"),
    ("box", "workspace.minimum", [1.0, 1.0, 1.0], "workspace.minimum: must be below maximum"),
    ("pairs", "collision.excluded", [["panda_link0"]], "collision.excluded: must be a list of pairs"),
    ("pair", "collision.excluded", [["a", "b"]], "collision.excluded: 'a' is no link"),
    ("slow", "collision.slow_distance", 0.001, "collision.slow_distance: must be above 0.01"),
    ("quaternion", "cameras.wrist.quaternion", [0, 0, 0, 2], "cameras.wrist.quaternion: must have unit norm"),
    ("section", "cameras", [1], "cameras: must be a mapping"),
    ("driver", "driver.kind", "kuka", "driver.kind: 'kuka' is not one of"),
    ("command", "driver.command_type", "x", "driver.command_type: 'x' is not one of"),
    ("names", "driver.joint_names", ["a"], "driver.joint_names: must name 7 joints, got 1"),
    ("interface", "driver.gripper.kind", "pipe", "driver.gripper.kind: 'pipe' is not one of"),
    ("same", "driver.gripper.state_at_max_width", 0.0, "must differ from state_at_min_width"),
    ("urdf", "urdf", "no.urdf", "urdf: no.urdf is neither beside"),
    ("flag", "cameras.wrist.compressed", "yes please", "compressed: must be true or false"),
    ("empty", "title", "", "title: must be a text"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_values_are_refused(tmp_path: Path, key: str, value: object, sentence: str) -> None:
    content = _panda()
    section = content
    *parents, last = key.split(".")
    for parent in parents:
        section = section[parent]
    if value is None:
        del section[last]
    else:
        section[last] = value
    path = _write(tmp_path, content)
    with pytest.raises(ConfigurationError) as caught:
        load_robot(path)
    message = str(caught.value)
    assert sentence in message
    assert str(path) in message
    assert "\n" not in message


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_robot(path)
    path.write_text("name: panda\nhome: [1, 2\nx: 1\n")
    with pytest.raises(ConfigurationError, match=r"mine.yaml, line \d+: broken YAML"):
        load_robot(path)
    path.write_text("- a list\n")
    with pytest.raises(ConfigurationError, match="must hold a mapping of keys, got list"):
        load_robot(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_robot(path)


def test_broken_urdf(tmp_path: Path) -> None:
    path = _write(tmp_path, _panda() | {"urdf": "mine.urdf"})
    urdf = tmp_path / "mine.urdf"
    urdf.write_text("<robot>\n<link>\n</robot>")
    with pytest.raises(ConfigurationError, match=r"mine.urdf, line 3: broken XML"):
        load_robot(path)
    urdf.write_text("<mujoco/>")
    with pytest.raises(ConfigurationError, match="its root element is <mujoco>"):
        load_robot(path)
