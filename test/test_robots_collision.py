"""Self-collision and floor distances: against exact geometry and finite differences."""

from __future__ import annotations

from functools import cache

import coal
import numpy as np
import pinocchio as pin
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_ros.robots import load_robot
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.kinematics import Kinematics

ROBOTS = ["fr3", "panda", "ur5", "ur5e", "widowx"]


@cache
def _collision(name: str) -> CollisionModel:
    return CollisionModel(load_robot(name))


@st.composite
def _sample(draw: st.DrawFn) -> tuple[CollisionModel, np.ndarray, float]:
    model = _collision(draw(st.sampled_from(ROBOTS)))
    robot = model.spec
    share = draw(st.lists(st.floats(0.0, 1.0), min_size=robot.dof, max_size=robot.dof))
    low, high = robot.applied.position_min, robot.applied.position_max
    width = draw(st.floats(robot.gripper.min_width, robot.gripper.max_width))
    return model, low + (high - low) * np.array(share), width


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("opened", [False, True])
def test_home_is_free_of_collision_and_slow_down(name: str, opened: bool) -> None:
    model = _collision(name)
    robot = model.spec
    width = robot.gripper.max_width if opened else robot.gripper.min_width
    distance, links = model.minimum_distance(robot.home, width)
    assert distance > robot.collision.slow_distance, links
    assert model.floor_heights(robot.home, width).min() > 0.1


@pytest.mark.parametrize("name", ROBOTS)
def test_pairs_are_of_bodies_that_could_touch(name: str) -> None:
    model = _collision(name)
    robot = model.spec
    assert 20 <= len(model.pairs) <= 100
    excluded = {frozenset(pair) for pair in robot.collision.excluded}
    for pair in model.pairs:
        assert pair[0] != pair[1]
        assert frozenset(pair) not in excluded
    assert not {frozenset(pair) for pair in excluded} & {frozenset(pair) for pair in model.pairs}
    hand = robot.gripper.finger_frames[0].removesuffix("_tip")
    assert any(hand in (link.removesuffix("_link"), link) for pair in model.pairs for link in pair)


@pytest.mark.parametrize("name", ROBOTS)
def test_excluded_pairs_never_touch(name: str) -> None:
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    geometry = pin.buildGeomFromUrdf(kinematics.model, str(robot.urdf_path), pin.COLLISION)
    links = [kinematics.model.frames[item.parentFrame].name for item in geometry.geometryObjects]
    excluded = {frozenset(pair) for pair in robot.collision.excluded}
    for a, first in enumerate(links):
        for b in range(a + 1, len(links)):
            if frozenset((first, links[b])) in excluded:
                geometry.addCollisionPair(pin.CollisionPair(a, b))
    assert {frozenset((links[p.first], links[p.second])) for p in geometry.collisionPairs} == excluded
    data, geometry_data = kinematics.model.createData(), pin.GeometryData(geometry)
    low, high = robot.published.position_min, robot.published.position_max
    for q in np.random.default_rng(5).uniform(low, high, (3000, robot.dof)):
        assert not pin.computeCollisions(kinematics.model, data, geometry, geometry_data, q, True)


def test_folded_panda_hits_itself() -> None:
    model = _collision("panda")
    distance, links = model.minimum_distance(np.array([0.0, 0.6, 0.0, -3.0, 0.0, 2.5, 0.8]), 0.08)
    assert distance < 0.0
    assert links == ("panda_link0", "panda_hand")


def test_cylinders_between_spheres_become_capsules() -> None:
    shapes = [type(item.geometry) for item in _collision("panda").geometry.geometryObjects]
    assert coal.Sphere not in shapes
    assert shapes.count(coal.Capsule) >= 10
    assert shapes.count(coal.Box) == 3  # base plate and two fingers


@given(_sample())
@settings(max_examples=60, deadline=None)
def test_witness_points_are_the_distance_apart(sample: tuple[CollisionModel, np.ndarray, float]) -> None:
    model, q, width = sample
    distances = model.distances(q, width)
    assert distances.shape == (len(model.pairs),)
    for pair, distance in enumerate(distances):
        if distance > 1e-3:
            first, second = model.witness(pair)
            assert np.linalg.norm(first - second) == pytest.approx(distance, abs=1e-5)


@given(_sample())
@settings(max_examples=60, deadline=None)
def test_gradient_equals_finite_differences(sample: tuple[CollisionModel, np.ndarray, float]) -> None:
    """For the nearest pair; where the distance has a kink (box edges), the two one-sided slopes differ."""
    model, q, width = sample
    distances = model.distances(q, width)
    pair = int(np.argmin(distances))
    assume(distances[pair] > 1e-3)
    gradient = model.gradient(pair)
    step = 2e-4  # coal's distances are good to about 1e-6
    for joint in range(len(q)):
        nudge = np.zeros(len(q))
        nudge[joint] = step
        right = (model.distances(q + nudge, width)[pair] - distances[pair]) / step
        left = (distances[pair] - model.distances(q - nudge, width)[pair]) / step
        slack = 1e-2 + 2.0 * abs(right - left)
        assert min(left, right) - slack <= gradient[joint] <= max(left, right) + slack


def _lowest(shape: object, position: np.ndarray, rotation: np.ndarray) -> float:
    """Height of the lowest point, by elementary geometry."""
    axis = abs(rotation[2, 2])
    if isinstance(shape, coal.Capsule):
        return position[2] - axis * shape.halfLength - shape.radius
    if isinstance(shape, coal.Box):
        return position[2] - np.abs(rotation[2]) @ shape.halfSide
    assert isinstance(shape, coal.Cylinder)
    return position[2] - axis * shape.halfLength - np.sqrt(max(0.0, 1.0 - axis**2)) * shape.radius


@given(_sample())
@settings(max_examples=60, deadline=None)
def test_floor_heights_are_of_the_lowest_points(sample: tuple[CollisionModel, np.ndarray, float]) -> None:
    model, q, width = sample
    heights = model.floor_heights(q, width)
    bodies = [i for i, link in enumerate(model.links) if link in model.floor_links]
    assert len(bodies) == len(heights)
    for height, body in zip(heights, bodies, strict=True):
        placement = model._geometry_data.oMg[body]
        shape = model.geometry.geometryObjects[body].geometry
        lowest = _lowest(shape, placement.translation, placement.rotation)
        assert height == pytest.approx(lowest - model.spec.workspace.floor, abs=1e-6)


@given(_sample())
@settings(max_examples=30, deadline=None)
def test_floor_gradient_equals_finite_differences(
    sample: tuple[CollisionModel, np.ndarray, float],
) -> None:
    model, q, width = sample
    heights = model.floor_heights(q, width)
    gradients = np.array([model.floor_gradient(body) for body in range(len(heights))])
    step = 1e-6
    for joint in range(len(q)):
        nudge = np.zeros(len(q))
        nudge[joint] = step
        right = (model.floor_heights(q + nudge, width) - heights) / step
        left = (heights - model.floor_heights(q - nudge, width)) / step
        slack = 1e-4 + np.abs(right - left)
        assert (np.minimum(left, right) - slack <= gradients[:, joint]).all()
        assert (gradients[:, joint] <= np.maximum(left, right) + slack).all()


def test_results_follow_every_change_of_joints_and_width() -> None:
    model, fresh = _collision("panda"), CollisionModel(load_robot("panda"))
    home = model.spec.home
    for q, width in ((home, 0.08), (home, 0.0), (home + 0.1, 0.0), (home, 0.08)):
        heights = model.floor_heights(q, width)
        # coal starts from the previous answer: equal to its tolerance, not to the last bit.
        np.testing.assert_allclose(model.distances(q, width), fresh.distances(q, width), atol=1e-5)
        np.testing.assert_allclose(heights, fresh.floor_heights(q, width), atol=1e-5)
        fresh.distances(home - 0.2, 0.04)


def test_opening_moves_the_fingers() -> None:
    model = _collision("panda")
    q = model.spec.home
    left = model.links.index("panda_leftfinger")
    model.floor_heights(q, 0.0)
    closed = model._geometry_data.oMg[left].translation.copy()
    model.floor_heights(q, 0.08)
    opened = model._geometry_data.oMg[left].translation.copy()
    assert np.linalg.norm(opened - closed) == pytest.approx(0.04, abs=1e-9)


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_least_floor_heights_hold_at_every_opening(robot: str, seed: int) -> None:
    """Opening or closing the gripper, whichever finger sinks, never gets lower than was said before."""
    spec = load_robot(robot)
    model = CollisionModel(spec)
    random = np.random.default_rng(seed)
    q = random.uniform(spec.applied.position_min, spec.applied.position_max)
    low, high = spec.gripper.min_width, spec.gripper.max_width
    least = model.least_floor_heights(q, float(random.uniform(low, high)))
    heights = np.array([model.floor_heights(q, width) for width in np.linspace(low, high, 5)])
    assert (heights >= least - 1e-5).all()
    np.testing.assert_allclose(heights.min(axis=0), least, atol=1e-4)
