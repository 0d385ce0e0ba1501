"""The visual servo against the simulator: what it sees, and what it gets done in closed loop."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from closed_loop import observe, rollout

from vla_ros.errors import InstructionError
from vla_ros.policies.registry import make_policy
from vla_ros.policies.visual_servo import models
from vla_ros.policies.visual_servo.camera import view_of
from vla_ros.policies.visual_servo.detection import detect
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim import objects
from vla_ros.sim.objects import block_name
from vla_ros.sim.world import World

ROBOTS = ("panda", "widowx", "ur5")


@pytest.fixture(scope="module", params=ROBOTS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(load_robot(request.param), "pick", 0, timestep=0.002)
    yield world
    world.close()


def run(world: World, task: str, seed: int, delay: float = 0.08, **options: object) -> None:
    world.reset(task, seed, keep_arm=False)
    policy = make_policy("visual_servo", world.spec)
    policy.load()
    policy.reset(world.task.instruction)
    result = rollout(world, policy, delay, **options)  # type: ignore[arg-type]
    assert result.success, (result.reason, result.texts[-3:])
    assert result.terminated, result.texts[-3:]


def test_the_models_have_the_sizes_of_the_things() -> None:
    assert models.BLOCK.height == objects.BLOCK_SIZE
    assert models.PLATE.height == objects.PLATE_HEIGHT
    assert np.hypot(*models.PLATE.outline[0, :2]) == pytest.approx(objects.PLATE_RADIUS)


@pytest.mark.parametrize("renderer", ["auto", "raycast"])
def test_renders_are_read_within_5_mm(world: World, renderer: str) -> None:
    world.reset("place", 3, keep_arm=False)
    other = World(world.spec, world.task, renderer=renderer)
    kinematics = Kinematics(world.spec)
    seen = observe(other, kinematics, 0.0, 0)
    other.close()
    truth = {(b.colour, "block"): b for b in world.task.blocks} | {
        (p.colour, "plate"): p for p in world.task.plates
    }
    for name, camera in world.spec.cameras.items():
        view = view_of(camera, seen.joints, kinematics.forward_frame, world.spec.base_frame)
        found = detect(view, seen.images[name].rgb)
        assert {(d.colour, d.kind) for d in found} <= set(truth)
        assert name != "primary" or len(found) == len(truth)
        for detection in found:
            thing = truth[(detection.colour, detection.kind)]
            assert np.hypot(detection.x - thing.position[0], detection.y - thing.position[1]) < 0.005
            if detection.kind == "block":
                turn = (detection.yaw - thing.yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
                assert abs(turn) < np.radians(6.0)


def test_picks(world: World) -> None:
    run(world, "pick", 11)


@pytest.mark.parametrize(("robot", "task"), [("panda", "place"), ("widowx", "stack"), ("ur5", "push")])
def test_does_the_other_tasks(robot: str, task: str) -> None:
    world = World(load_robot(robot), task, 15, timestep=0.002)
    run(world, task, 15)
    world.close()


def test_answers_300_ms_late_still_pick() -> None:
    world = World(load_robot("widowx"), "pick", 21, timestep=0.002)
    run(world, "pick", 21, delay=0.38)
    world.close()


def test_picks_a_block_that_is_moved_on_the_way() -> None:
    def disturb(world: World, time: float) -> None:
        if abs(time - 1.5) < 1e-6:
            address = world.model.joint(block_name(world.task.goal.target)).qposadr[0]
            middle = 0.5 * (world.spec.workspace.minimum + world.spec.workspace.maximum)
            start = world.data.qpos[address : address + 2]
            # towards the middle of the workspace, 4 cm: no other block is nearer than 10 cm
            world.data.qpos[address : address + 2] += 0.04 * (way := middle[:2] - start) / np.linalg.norm(way)
            mujoco.mj_forward(world.model, world.data)

    world = World(load_robot("panda"), "pick", 23, timestep=0.002)
    run(world, "pick", 23, disturb=disturb)
    world.close()


def test_refuses_what_is_not_in_sight() -> None:
    world = World(load_robot("panda"), "pick", 0)
    policy = make_policy("visual_servo", world.spec)
    policy.load()
    policy.reset("pick up the purple block")
    with pytest.raises(InstructionError, match=r"names a purple block, but in sight are: \w+ block"):
        rollout(world, policy, seconds=5.0)
    world.close()
