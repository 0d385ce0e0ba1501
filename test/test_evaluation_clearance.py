"""The judge's own kinematics and distances, against pinocchio and coal (which it does not use)."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.clearance import floor_shapes, lowest, pair_distances, shape_pairs, sparse_samples
from vla_ros.evaluation.urdf_chain import Shape, joint_values, read_urdf
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.kinematics import Kinematics


@pytest.mark.parametrize("name", robot_names())
def test_forward_kinematics_agree_with_pinocchio(name: str) -> None:
    robot = load_robot(name)
    rng = np.random.default_rng(0)
    q = rng.uniform(robot.applied.position_min, robot.applied.position_max, (20, robot.dof))
    widths = rng.uniform(robot.gripper.min_width, robot.gripper.max_width, 20)
    chain = read_urdf(robot.urdf, robot.urdf_path)
    poses = chain.poses(robot.tcp_frame, joint_values(robot.joint_names, q, robot.gripper, widths))
    kinematics = Kinematics(robot)
    for row, pose in zip(q, poses, strict=True):
        position, rotation = kinematics.placement(row)
        np.testing.assert_allclose(pose[:3, 3], position, atol=1e-9)
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-9)


@pytest.mark.parametrize("name", robot_names())
def test_distances_and_heights_agree_with_coal(name: str) -> None:
    robot = load_robot(name)
    rng = np.random.default_rng(1)
    around = 0.5 * np.pi
    low = np.maximum(robot.applied.position_min, robot.home - around)
    q = rng.uniform(low, np.minimum(robot.applied.position_max, robot.home + around), (12, robot.dof))
    widths = np.full(12, robot.gripper.max_width)
    chain, model = read_urdf(robot.urdf, robot.urdf_path), CollisionModel(robot)
    values = joint_values(robot.joint_names, q, robot.gripper, widths)
    poses = {link: chain.poses(link, values) for link in {shape.link for shape in chain.shapes}}
    ours = np.min([pair_distances(a, b, poses, np.inf) for a, b in shape_pairs(chain, robot)], axis=0)
    theirs = np.array([model.minimum_distance(row, robot.gripper.max_width)[0] for row in q])
    apart = theirs > 1e-3
    np.testing.assert_allclose(ours[apart], theirs[apart], atol=2e-4)
    assert (ours[~apart] < 2e-3).all()
    heights = [lowest(shape, poses[shape.link]) for shape in floor_shapes(chain, robot.elbow_frame)]
    wanted = [model.floor_heights(row, robot.gripper.max_width).min() + robot.workspace.floor for row in q]
    np.testing.assert_allclose(np.min(heights, axis=0), wanted, atol=1e-6)


def _at(x: float, y: float, z: float) -> np.ndarray:
    pose = np.eye(4)[None].copy()
    pose[0, :3, 3] = x, y, z
    return pose


@pytest.mark.parametrize(
    ("a", "b", "offset", "distance"),
    [
        (("box", (0.5, 0.5, 0.5)), ("box", (0.5, 0.5, 0.5)), (1.25, 0.2, 0.0), 0.25),
        (("box", (0.5, 0.5, 0.5)), ("sphere", (0.25,)), (1.5, 1.5, 0.0), np.sqrt(2) - 0.25),
        (("cylinder", (0.5, 1.0)), ("cylinder", (0.5, 1.0)), (0.0, 0.0, 2.5), 0.5),
        (("cylinder", (0.5, 1.0)), ("sphere", (0.1,)), (0.8, 0.0, 1.4), 0.4),
        (("sphere", (0.5,)), ("sphere", (0.5,)), (0.9, 0.0, 0.0), 0.0),
    ],
)
def test_distances_of_simple_bodies(a: tuple, b: tuple, offset: tuple, distance: float) -> None:
    first = Shape("a", a[0], a[1], np.eye(4))
    second = Shape("b", b[0], b[1], np.eye(4))
    found = pair_distances(first, second, {"a": _at(0, 0, 0), "b": _at(*offset)}, np.inf)
    assert found[0] == pytest.approx(distance, abs=1e-4)
    far = pair_distances(first, second, {"a": _at(0, 0, 0), "b": _at(50, 0, 0)}, 0.1)
    assert np.isinf(far[0])


def test_sparse_samples_keep_ends_and_spacing() -> None:
    q = np.cumsum(np.full((100, 2), 0.003), axis=0)
    chosen = sparse_samples(q, 0.01)
    assert chosen[0] == 0 and chosen[-1] == 99
    assert np.abs(np.diff(q[chosen], axis=0)).max() <= 0.0121


def test_a_broken_urdf_is_a_sentence(tmp_path) -> None:
    path = tmp_path / "x.urdf"
    for text in (
        "<robot",
        "<robot><joint name='j' type='floating'/></robot>",
        "<robot><link name='a'><collision><geometry><mesh/></geometry></collision></link></robot>",
    ):
        with pytest.raises(ConfigurationError, match="cannot be read as URDF"):
            read_urdf(text, path)
