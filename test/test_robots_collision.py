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
from vla_ros.robots.bodies import sweep
from vla_ros.robots.collision import FLOOR_WITHIN, CollisionModel
from vla_ros.robots.distances import PairDistances
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.model import finger_positions, joint_indices

ROBOTS = ["fr3", "panda", "ur5", "ur5e", "widowx"]


@cache
def _collision(name: str) -> CollisionModel:
    return CollisionModel(load_robot(name))


@cache
def _full(name: str) -> CollisionModel:
    """Another one, whose distances are all computed at every posture."""
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
    shapes = [type(item.geometry) for item in _collision("panda").bodies]
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
    distances = model.least_distances(q, width)
    pair = int(np.argmin(distances))
    assume(distances[pair] > 1e-3)
    gradient = model.gradient(pair)
    step = 2e-4  # coal's distances are good to about 1e-6
    for joint in range(len(q)):
        nudge = np.zeros(len(q))
        nudge[joint] = step
        right = (model.least_distances(q + nudge, width)[pair] - distances[pair]) / step
        left = (distances[pair] - model.least_distances(q - nudge, width)[pair]) / step
        slack = 1e-2 + 2.0 * abs(right - left)
        assert min(left, right) - slack <= gradient[joint] <= max(left, right) + slack


def _placement(model: CollisionModel, body: int, q: np.ndarray, width: float) -> pin.SE3:
    """Of a body in the base frame."""
    full, spec, item = model.model, model.spec, model.bodies[body]
    data, configuration = full.createData(), pin.neutral(full)
    for names, values in (
        (spec.joint_names, q),
        (spec.gripper.joint_names, finger_positions(spec.gripper, width)),
    ):
        configuration[joint_indices(full, names)] = values
    pin.forwardKinematics(full, data, configuration)
    return data.oMi[item.parentJoint] * item.placement


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
        placement = _placement(model, body, q, width)
        lowest = _lowest(model.bodies[body].geometry, placement.translation, placement.rotation)
        assert height == pytest.approx(lowest - model.spec.workspace.floor, abs=1e-9)


@given(_sample())
@settings(max_examples=30, deadline=None)
def test_floor_gradient_equals_finite_differences(
    sample: tuple[CollisionModel, np.ndarray, float],
) -> None:
    model, q, width = sample
    heights = model.least_floor_heights(q, width)
    gradients = np.array([model.floor_gradient(body) for body in range(len(heights))])
    step = 1e-6
    for joint in range(len(q)):
        nudge = np.zeros(len(q))
        nudge[joint] = step
        right = (model.least_floor_heights(q + nudge, width) - heights) / step
        left = (heights - model.least_floor_heights(q - nudge, width)) / step
        slack = 1e-4 + np.abs(right - left)
        assert (np.minimum(left, right) - slack <= gradients[:, joint]).all()
        assert (gradients[:, joint] <= np.maximum(left, right) + slack).all()


def test_results_follow_every_change_of_joints_and_width() -> None:
    model, fresh = _collision("panda"), CollisionModel(load_robot("panda"))
    home = model.spec.home
    for q, width in ((home, 0.08), (home, 0.0), (home + 0.1, 0.0), (home, 0.08)):
        heights = model.floor_heights(q, width)
        # coal starts from the previous answer: equal to its tolerance, not to the last bit.
        np.testing.assert_allclose(model.distances(q, width), fresh.distances(q, width), atol=1e-9)
        np.testing.assert_allclose(heights, fresh.floor_heights(q, width), atol=1e-9)
        fresh.distances(home - 0.2, 0.04)


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_least_floor_heights_hold_at_every_opening(robot: str, seed: int) -> None:
    """Opening or closing the gripper, whichever finger sinks, never gets lower than was said before."""
    spec = load_robot(robot)
    model = _collision(robot)
    random = np.random.default_rng(seed)
    q = random.uniform(spec.applied.position_min, spec.applied.position_max)
    low, high = spec.gripper.min_width, spec.gripper.max_width
    least = model.least_floor_heights(q, float(random.uniform(low, high)))
    heights = np.array([model.floor_heights(q, width) for width in np.linspace(low, high, 5)])
    assert (heights >= least - 1e-9).all()
    np.testing.assert_allclose(heights.min(axis=0), least, atol=1e-9)


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_least_distances_hold_at_every_opening(robot: str, seed: int) -> None:
    """No motion of the gripper brings a finger nearer to the arm's own bodies than was said before."""
    spec = load_robot(robot)
    model = _collision(robot)
    random = np.random.default_rng(seed)
    q = random.uniform(spec.applied.position_min, spec.applied.position_max)
    low, high = spec.gripper.min_width, spec.gripper.max_width
    least = model.least_distances(q, float(random.uniform(low, high)))
    distances = np.array([model.distances(q, width) for width in np.linspace(low, high, 5)])
    apart = least > 0.0
    assert (distances >= least - 1e-6)[:, apart].all()
    fingers = {i for i, pair in enumerate(model.pairs) if "finger" in "".join(pair)}
    others = [i for i in np.flatnonzero(apart) if i not in fingers]
    np.testing.assert_allclose(distances[:, others], np.tile(least[others], (5, 1)), atol=1e-6)


def _walk(model: CollisionModel, seed: int, steps: int) -> list[tuple[np.ndarray, float]]:
    """Postures a millisecond apart with a jump now and then, as between a command and the end of its stop."""
    spec, random = model.spec, np.random.default_rng(seed)
    low, high = spec.applied.position_min, spec.applied.position_max
    q, velocity, width = random.uniform(low, high), np.zeros(spec.dof), 0.5 * spec.gripper.max_width
    walk = []
    for _ in range(steps):
        velocity = 0.99 * velocity + 0.1 * random.normal(size=spec.dof) * spec.applied.velocity
        q = np.clip(q + velocity * (0.1 if random.random() < 0.05 else 0.001), low, high)
        width = float(np.clip(width + 0.0002 * random.normal(), 0.0, spec.gripper.max_width))
        walk.append((q, width))
    return walk


@pytest.mark.parametrize("robot", ROBOTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_bounds_are_exact_in_the_zones_and_never_too_high(robot: str, seed: int) -> None:
    model, full = _collision(robot), _full(robot)
    for q, width in _walk(model, seed, 120):
        for bounds, distances, zone in (
            (
                model.distance_bounds(q, width),
                full.least_distances(q, width),
                model.spec.collision.slow_distance,
            ),
            (model.floor_bounds(q, width), full.least_floor_heights(q, width), FLOOR_WITHIN),
        ):
            # of bodies in one another only the sign counts: coal's depth depends on where its search began
            apart = distances > 0.0
            assert (bounds[~apart] < 1e-9).all()
            assert (bounds <= distances + 1e-9)[apart].all()
            near = apart & (distances < zone)
            np.testing.assert_allclose(bounds[near], distances[near], atol=1e-9)
            assert (bounds[apart & ~near] >= zone - 1e-9).all()


@pytest.mark.parametrize("robot", ROBOTS)
def test_most_pairs_are_left_at_their_bounds(robot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CollisionModel(load_robot(robot))
    computed: list[int] = []
    compute = PairDistances._compute
    monkeypatch.setattr(
        PairDistances, "_compute", lambda self, rows: (computed.append(len(rows)), compute(self, rows))
    )
    q = model.spec.home.copy()
    for _ in range(500):
        q = q + 0.0005
        model.distance_bounds(q, 0.02)
    assert sum(computed) / 500 < 0.2 * (len(model.pairs) + len(model.floor_links))


def test_positions_that_are_not_finite_are_near_everything() -> None:
    model = _collision("panda")
    q = model.spec.home.copy()
    for bad in (np.nan, np.inf):
        q[2] = bad
        assert (model.distance_bounds(q, 0.05) == -np.inf).all()
        assert (model.distances(q, 0.05) == -np.inf).all()
    assert model.distances(model.spec.home, 0.05).min() > 0.0


def test_a_depth_coal_cannot_find_is_that_of_the_bounding_spheres(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers the largest double then, which would be the safest distance of all."""
    q = np.array([0.0, 0.6, 0.0, -3.0, 0.0, 2.5, 0.8])
    true = _collision("panda").distances(q, 0.08)
    failed = type("Failed", (), {"min_distance": np.finfo(float).max})()
    model = CollisionModel(load_robot("panda"))
    monkeypatch.setattr(model._tests_now, "_results", [failed] * len(model._tests_now._results))
    other = model.distances(q, 0.08)
    assert true.min() < 0.0
    assert (other <= true + 1e-9).all()


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_finger_swept_is_its_hull(robot: str) -> None:
    """Every shipped finger is a box that slides along an edge: exact, nothing to spare."""
    model = _collision(robot)
    fingers = {model.model.getJointId(name) for name in model.spec.gripper.joint_names}
    bodies = [item for item in model.bodies if item.parentJoint in fingers]
    assert len(bodies) == 2
    for item in bodies:
        swept = sweep(model.model, model.spec, item)
        assert swept.spare == 0.0 and swept.item.parentJoint == model.model.parents[item.parentJoint]


def test_a_finger_that_is_no_sliding_box_is_given_room() -> None:
    model = _collision("panda")
    item = model.bodies[model.links.index("panda_leftfinger")].copy()
    item.geometry = coal.Sphere(0.01)
    swept = sweep(model.model, model.spec, item)
    assert swept.spare == pytest.approx(0.02) and isinstance(swept.item.geometry, coal.Sphere)
