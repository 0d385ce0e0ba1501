"""Obstacles: what is refused and in which words, YAML of robots and contracts, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError
from vla_ros.robots import load_robot
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.environment import (
    MOST_OBSTACLES,
    Box,
    Cylinder,
    EnvironmentSpec,
    Obstacle,
    Plane,
    Sphere,
    check_obstacles,
    merged,
)
from vla_ros.robots.environment_fields import environment_mapping, read_environment
from vla_ros.robots.fields import Fields
from vla_ros.types import Pose

NOTHING = EnvironmentSpec()
BENCH = {"name": "bench", "type": "box", "size": [0.5, 1.0, 0.1], "position": [0.6, 0.0, -0.05]}
WALL = {
    "name": "wall",
    "type": "plane",
    "normal": [0, 2, 0],
    "offset": -0.5,
    "allowed_links": ["panda_link1"],
}
POST = {"name": "post", "type": "cylinder", "radius": 0.05, "length": 1.0, "position": [0.5, 0.5, 0.5]}
BALL = {"name": "ball", "type": "sphere", "radius": 0.05, "position": [0.5, -0.5, 0.5]}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sphere(name=" ", radius=0.1, position=np.zeros(3)), "no name"),
        (lambda: Sphere(name="a", radius=0.0, position=np.zeros(3)), "obstacle 'a': radius is 0.0.*above 0"),
        (lambda: Sphere(name="a", radius=np.nan, position=np.zeros(3)), "radius is nan"),
        (lambda: Sphere(name="a", radius=0.1, position=np.zeros(2)), r"position is \[0.0, 0.0\].*3 finite"),
        (lambda: Sphere(name="a", radius=0.1, position=np.full(3, 500.0)), "within 100 m of the base"),
        (lambda: Box(name="a", size=np.array([1.0, 0.0, 1.0])), "size is .* above 0 m along every axis"),
        (lambda: Box(name="a", size=np.ones(3), pose=Pose(np.zeros(3), np.ones(4))), "unit norm, not 2.0000"),
        (lambda: Cylinder(name="a", radius=0.1, length=-1.0), "length is -1.0"),
        (lambda: Plane(name="a", normal=np.zeros(3), offset=0.0), "a direction, not zero"),
        (lambda: Plane(name="a", normal=np.ones(3), offset=np.inf), "offset is inf"),
    ],
)
def test_what_is_no_obstacle_is_refused_in_a_sentence(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_a_plane_has_a_unit_normal_and_a_quaternion_is_rounded_to_one() -> None:
    plane = Plane(name="a", normal=np.array([0.0, 3.0, 4.0]), offset=0.5)
    np.testing.assert_allclose(plane.normal, [0.0, 0.6, 0.8])
    box = Box(name="b", size=np.ones(3), pose=Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0005])))
    assert np.linalg.norm(box.pose.quaternion) == pytest.approx(1.0, abs=1e-12)


def test_an_obstacle_does_not_change_behind_ones_back() -> None:
    position = np.array([0.1, 0.2, 0.3])
    ball = Sphere(name="a", radius=0.1, position=position)
    position[0] = 5.0
    assert ball.position[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        ball.position[0] = 5.0


def test_sets_of_obstacles_are_checked_and_merged() -> None:
    ball, other = (Sphere(name="a", radius=r, position=np.zeros(3)) for r in (0.1, 0.2))
    box = Box(name="b", size=np.ones(3), allowed_links=("hand",))
    check_obstacles([ball, box], ["hand"])
    assert merged([ball, box], [other]) == (other, box)
    with pytest.raises(ConfigurationError, match="'a' was given twice"):
        check_obstacles([ball, other], [])
    with pytest.raises(ConfigurationError, match="allowed link 'hand' is no link of the robot; it has foot"):
        check_obstacles([box], ["foot"])
    many = [Sphere(name=str(i), radius=0.1, position=np.zeros(3)) for i in range(MOST_OBSTACLES + 1)]
    with pytest.raises(ConfigurationError, match="65 obstacles were given, at most 64"):
        check_obstacles(many, [])


def _read(content: dict[str, Any], base: EnvironmentSpec = NOTHING) -> EnvironmentSpec:
    return read_environment(Fields(Path("my.yaml"), "environment.", content), base, ["panda_link1"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"obstacles": BENCH}, "my.yaml: environment.obstacles: must be a list of mappings"),
        ({"obstacles": [BENCH, BENCH]}, "environment.obstacles: obstacle 'bench' was given twice"),
        ({"obstacles": [BENCH | {"type": "cone"}]}, r"obstacles\[0\].type: 'cone' is not one of box, sphere"),
        ({"obstacles": [BALL, BENCH | {"size": [1, 1]}]}, r"obstacles\[1\].size: must be 3 numbers, got 2"),
        ({"obstacles": [BENCH | {"radius": 1}]}, r"obstacles\[0\].radius: unknown key; known here: .*size"),
        ({"obstacles": [BALL | {"position": [0, 0, 1e9]}]}, "my.yaml: .*obstacle 'ball': position"),
        ({"obstacles": [POST | {"quaternion": [0, 0, 0, 2]}]}, "quaternion: must have unit norm"),
        ({"obstacles": [BENCH | {"allowed_links": ["x"]}]}, "environment.obstacles: .*allowed link 'x'"),
        ({"stop_distance": 0.1}, "slow_distance: must be above stop_distance 0.1, got 0.1"),
        ({"obstacle": []}, "environment.obstacle: unknown key"),
    ],
)
def test_errors_in_yaml_name_file_and_key(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        _read(content)


def test_a_section_changes_what_it_names_and_nothing_else() -> None:
    base = _read({"obstacles": [BENCH, BALL], "slow_distance": 0.2})
    assert (base.stop_distance, base.slow_distance) == (0.02, 0.2)
    changed = _read({"stop_distance": 0.05, "obstacles": [WALL, BALL | {"radius": 0.5}]}, base)
    assert (changed.stop_distance, changed.slow_distance) == (0.05, 0.2)
    assert [item.name for item in changed.obstacles] == ["bench", "ball", "wall"]
    ball, wall = changed.obstacles[1:]
    assert isinstance(ball, Sphere) and ball.radius == 0.5
    assert isinstance(wall, Plane) and wall.normal.tolist() == [0, 1, 0]
    assert wall.allowed_links == ("panda_link1",)


TEXTS = ("name", "type", "allowed_links")
numbers = st.floats(-2.0, 2.0)
sizes = st.floats(0.001, 2.0)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)


@st.composite
def _obstacles(draw: st.DrawFn) -> Obstacle:
    quaternion = np.array(draw(st.lists(st.floats(0.1, 1.0), min_size=4, max_size=4)))
    pose = Pose(draw(vectors), quaternion / np.linalg.norm(quaternion))
    name = draw(st.text(min_size=1).filter(lambda text: bool(text.strip()) and text.isprintable()))
    kind = draw(st.sampled_from([Box, Sphere, Cylinder, Plane]))
    if kind is Box:
        return Box(name=name, size=np.array([draw(sizes) for _ in range(3)]), pose=pose)
    if kind is Sphere:
        return Sphere(name=name, radius=draw(sizes), position=draw(vectors), allowed_links=("panda_link1",))
    if kind is Cylinder:
        return Cylinder(name=name, radius=draw(sizes), length=draw(sizes), pose=pose)
    return Plane(name=name, normal=draw(vectors) + np.array([0.0, 0.0, 3.0]), offset=draw(numbers))


@given(st.lists(_obstacles(), max_size=4, unique_by=lambda item: item.name))
@settings(max_examples=50, deadline=None)
def test_written_and_read_back_it_is_the_same(obstacles: list[Obstacle]) -> None:
    spec = EnvironmentSpec(tuple(obstacles), 0.03, 0.07)
    read = _read(yaml.safe_load(yaml.safe_dump(environment_mapping(spec))))
    assert (read.stop_distance, read.slow_distance) == (0.03, 0.07)
    for ours, theirs in zip(obstacles, read.obstacles, strict=True):
        assert type(ours) is type(theirs)
        before, after = (
            environment_mapping(EnvironmentSpec((item,)))["obstacles"] for item in (ours, theirs)
        )
        for key, value in before[0].items():
            # unit vectors are made so once more
            same = value if key in TEXTS else pytest.approx(value, abs=1e-12)
            assert after[0][key] == same


def test_a_contract_adds_to_the_robots_environment(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    shipped = load_robot("panda")
    content = yaml.safe_load(shipped.yaml_path.read_text())
    content |= {"urdf": str(shipped.urdf_path), "environment": {"obstacles": [BENCH, BALL]}}
    own.write_text(yaml.safe_dump(content))
    assert [item.name for item in load_robot(own).environment.obstacles] == ["bench", "ball"]
    path = tmp_path / "contract.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "robot": str(own),
                "environment": {"slow_distance": 0.3, "obstacles": [WALL, BALL | {"radius": 0.01}]},
            }
        )
    )
    contract = load_contract(path)
    environment = contract.robot.environment
    assert [item.name for item in environment.obstacles] == ["bench", "ball", "wall"]
    assert environment.slow_distance == 0.3
    model = CollisionModel(contract.robot)
    assert {name for _, name in model.obstacle_pairs} == {"bench", "ball", "wall"}
    assert ("panda_link1", "bench") in model.obstacle_pairs
    assert ("panda_link1", "wall") not in model.obstacle_pairs
    assert not any(link == "panda_link0" for link, _ in model.obstacle_pairs)
    embedded = yaml.safe_load(contract.to_yaml())
    assert [item["name"] for item in embedded["environment"]["obstacles"]] == ["bench", "ball", "wall"]


def test_a_contract_with_a_broken_obstacle_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(yaml.safe_dump({"robot": "panda", "environment": {"obstacles": [BALL | {"radius": -1}]}}))
    with pytest.raises(
        ConfigurationError, match=r"contract.yaml: environment.obstacles\[0\].radius: must be above 0"
    ):
        load_contract(path)
    with pytest.raises(ConfigurationError, match="environment: must be a mapping, got 5"):
        load_contract("panda", environment=5)


def test_robots_stand_among_nothing_until_told() -> None:
    assert load_contract("panda").robot.environment == EnvironmentSpec()
    assert CollisionModel(load_robot("panda")).obstacle_pairs == ()
