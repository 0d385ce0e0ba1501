"""The judge's own distances to obstacles, against coal (which it does not use), and what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_run import START, motion

from vla_ros.actions import rotations
from vla_ros.evaluation.judge import judge_setpoints
from vla_ros.evaluation.run_data import Setpoints
from vla_ros.evaluation.surroundings import moving_shapes, obstacle_distances
from vla_ros.evaluation.urdf_chain import joint_values, read_urdf
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.collision import CollisionModel
from vla_ros.robots.environment import Box, Cylinder, Plane, Sphere
from vla_ros.types import Pose

TURN = rotations.exp(np.array([0.3, -0.4, 0.8]))
THINGS = (
    Box(name="box", size=np.array([0.2, 0.1, 0.3]), pose=Pose(np.array([0.4, 0.3, 0.2]), TURN)),
    Sphere(name="ball", radius=0.1, position=np.array([0.5, -0.3, 0.3])),
    Cylinder(name="post", radius=0.05, length=0.4, pose=Pose(np.array([0.2, 0.4, 0.3]), TURN)),
    Plane(name="wall", normal=np.array([0.3, -1.0, 0.2]), offset=-0.7),
)


@pytest.mark.parametrize("name", robot_names())
def test_distances_to_obstacles_agree_with_coal(name: str) -> None:
    robot, random = load_robot(name), np.random.default_rng(2)
    q = robot.home + random.uniform(-0.6, 0.6, (8, robot.dof))
    q = np.clip(q, robot.applied.position_min, robot.applied.position_max)
    width = robot.gripper.max_width
    model, chain = CollisionModel(robot, THINGS), read_urdf(robot.urdf, robot.urdf_path)
    values = joint_values(robot.joint_names, q, robot.gripper, np.full(8, width))
    shapes = moving_shapes(chain)
    poses = {link: chain.poses(link, values) for link in {shape.link for shape in shapes}}
    for thing in THINGS:
        ours = np.min([obstacle_distances(s, thing, poses, np.inf) for s in shapes], axis=0)
        rows = [i for i, (_, other) in enumerate(model.obstacle_pairs) if other == thing.name]
        # coal's are those of the worst opening, so never larger
        theirs = np.array([model.obstacle_distances(row, width)[rows].min() for row in q])
        apart = theirs > 1e-3
        assert (ours[apart] >= theirs[apart] - 2e-4).all()
        assert (ours[apart] <= theirs[apart] + 0.06).all(), "a finger's travel at most"


def test_a_robot_that_comes_too_near_is_found_and_one_that_stays_away_is_not() -> None:
    robot = load_robot("panda")
    q = motion(robot, 6.0)
    count, nothing = len(q), np.zeros_like(q)
    ticks = np.arange(1, count + 1)
    stamps = START + ticks * round(1e9 / robot.simulated_control_rate)
    width = np.full(count, robot.gripper.max_width)
    points = Setpoints(
        stamps, stamps, ticks, q, nothing, nothing, width, np.ones(count, int), np.zeros(count, int)
    )
    assert not judge_setpoints(points, robot).violations
    ball = Sphere(name="mug", radius=0.05, position=np.array([0.45, 0.14, 0.3]))
    around = replace(robot, environment=replace(robot.environment, obstacles=(ball,)))
    found = judge_setpoints(points, around).violations
    assert {v.kind for v in found} == {"environment"}
    assert all(v.subject.endswith("- mug") for v in found)
    away = replace(ball, position=np.array([0.42, -0.3, 0.3]))
    around = replace(robot, environment=replace(robot.environment, obstacles=(away,)))
    assert not judge_setpoints(points, around).violations
