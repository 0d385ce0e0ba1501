"""The simulated world: grasps hold, servos track, sensors read right, scenes change under a standing arm."""

import dataclasses

import numpy as np
import pytest

from vla_ros.errors import ActionError, ConfigurationError, InstructionError
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.expert import Expert
from vla_ros.sim.judge import Outcome
from vla_ros.sim.tasks import make_task
from vla_ros.sim.world import World
from vla_ros.types import Pose

ROBOTS = ("panda", "fr3", "ur5", "ur5e", "widowx")
TRACKING_ERROR = 0.005
"""The arm's distance from a command when the next one arrives, at applied velocities [rad]."""


@pytest.fixture(scope="module", params=ROBOTS)
def world(request):
    return World(load_robot(request.param), "pick", 0, timestep=0.002)


@pytest.mark.parametrize("task", ["pick", "place", "push", "stack"])
def test_the_scripted_expert_succeeds(world, task):
    expert = Expert(world)
    for seed in range(3):
        world.reset(task, seed, keep_arm=False)
        verdict = expert.run()
        assert verdict.outcome is Outcome.SUCCESS, (seed, verdict)


def test_a_held_block_does_not_creep(world):
    world.reset("pick", 0, keep_arm=False)
    Expert(world).run()
    target = world.task.goal.target
    tcp = Kinematics(world.spec, width=world.gripper_width()).forward(world.joint_state()[0]).position
    before = world.block_states()[target].position - tcp
    world.step(round(5.0 / world.model.opt.timestep))
    tcp = Kinematics(world.spec, width=world.gripper_width()).forward(world.joint_state()[0]).position
    after = world.block_states()[target]
    assert after.touched
    assert np.linalg.norm(after.position - tcp - before) < 1e-3


def test_without_the_gripper_nothing_is_picked(world, monkeypatch):
    world.reset("pick", 0, keep_arm=False)
    monkeypatch.setattr(world, "set_gripper", lambda *_: None)
    assert Expert(world).run().outcome is Outcome.RUNNING
    world.step(round(30.0 / world.model.opt.timestep))
    assert world.verdict.outcome is Outcome.FAILURE
    assert "was not lifted above 5 cm within 30 s" in world.verdict.reason


def test_servos_track_at_the_applied_velocities(world):
    world.reset("pick", 0, keep_arm=False)
    spec, limits = world.spec, world.spec.applied
    period = 1.0 / spec.simulated_control_rate
    room = 0.9 * np.minimum(limits.position_max - spec.home, spec.home - limits.position_min)
    swing = np.minimum(0.5, room)
    # sine of the applied peak velocity, or slower where its acceleration would exceed the applied one
    rate = np.minimum(limits.velocity / swing, np.sqrt(limits.acceleration / swing))
    phase, worst, fastest = np.zeros(spec.dof), np.zeros(spec.dof), np.zeros(spec.dof)
    for tick in range(round(3.0 / period)):
        phase += rate * min(1.0, tick * period) * period
        command = spec.home + swing * np.sin(phase)
        world.set_joint_command(command)
        world.step(round(period / world.model.opt.timestep))
        positions, velocities, _ = world.joint_state()
        worst = np.maximum(worst, np.abs(positions - command))
        fastest = np.maximum(fastest, np.abs(velocities))
    assert worst.max() < TRACKING_ERROR
    np.testing.assert_array_less(0.9 * swing * rate, fastest)


def test_at_rest_the_arm_stands_still_and_the_wrench_is_zero(world):
    world.reset("pick", 0, keep_arm=False)
    world.step(500)
    positions, velocities, efforts = world.joint_state()
    np.testing.assert_allclose(positions, world.spec.home, atol=1e-6)
    np.testing.assert_allclose(velocities, 0.0, atol=1e-6)
    np.testing.assert_allclose(world.wrench(), 0.0, atol=1e-3)
    expected = Kinematics(world.spec).torques(
        world.spec.home, np.zeros(world.spec.dof), np.zeros(world.spec.dof)
    )
    np.testing.assert_allclose(efforts, expected, atol=0.02 * np.abs(expected).max() + 1e-3)


def test_pressing_on_the_table_pushes_the_tool_up(world):
    world.reset("pick", 0, keep_arm=False)
    spec, kinematics = world.spec, Kinematics(world.spec)
    blocks = np.array([block.position[:2] for block in world.task.blocks])
    low, high = spec.workspace.minimum[:2] + 0.1, spec.workspace.maximum[:2] - 0.1
    grid = np.array(
        [[x, y] for x in np.linspace(low[0], high[0], 5) for y in np.linspace(low[1], high[1], 5)]
    )
    free = grid[np.argmax(np.linalg.norm(grid[:, None] - blocks, axis=-1).min(axis=1))]
    joints, down = spec.home, kinematics.forward(spec.home)
    above = np.array([*free, down.position[2]])
    for share in np.linspace(0.0, 1.0, 200):
        joints = kinematics.inverse(
            Pose((1 - share) * down.position + share * above, down.quaternion), joints
        )
        world.set_joint_command(joints)
        world.step(10)
    world.step(200)
    for height in np.linspace(down.position[2], 0.0, 200):
        joints = kinematics.inverse(Pose(np.array([*free, height]), down.quaternion), joints)
        world.set_joint_command(joints)
        world.step(10)
        flange = world.data.site_xmat[world.model.site("flange").id].reshape(3, 3)
        if (flange @ world.wrench()[:3])[2] > 5.0:
            break
    assert (flange @ world.wrench()[:3])[2] > 5.0
    assert height < 0.02


def test_the_gripper_opens_closes_and_keeps_its_force(world):
    world.reset("pick", 0, keep_arm=False)
    gripper, steps = world.spec.gripper, round(1.5 / world.model.opt.timestep)
    for width in (gripper.min_width, 0.5 * (gripper.min_width + gripper.max_width), gripper.max_width):
        world.set_gripper(width)
        world.step(steps)
        assert world.gripper_width() == pytest.approx(width, abs=5e-4)
    left, right = world.finger_positions() - gripper.joint_at_max_width
    assert abs(left) == pytest.approx(abs(right), abs=1e-4)
    world.set_gripper(gripper.min_width, speed=0.02)
    world.step(round(0.5 / world.model.opt.timestep))
    assert world.gripper_width() == pytest.approx(gripper.max_width - 0.01, abs=1e-3)


def test_the_force_cap_holds_at_a_block(world):
    world.reset("pick", 0, keep_arm=False)
    Expert(world).run()
    gripper = world.spec.gripper
    for force in (gripper.max_force, 0.5 * gripper.max_force):
        world.set_gripper(gripper.min_width, force)
        world.step(200)
        assert 0.2 * force < world.gripper_force() <= force + 1e-9
    assert 0.038 < world.gripper_width() < 0.041


def test_a_new_scene_leaves_the_arm_alone(world):
    world.reset("pick", 0, keep_arm=False)
    goal = world.spec.home + 0.05
    world.set_joint_command(goal)
    world.step(500)
    before, clock = world.joint_state()[0], world.sim_time
    task = world.reset("place", 7)
    np.testing.assert_array_equal(world.joint_state()[0], before)
    assert world.sim_time == clock and world.verdict.outcome is Outcome.RUNNING
    world.step(250)
    np.testing.assert_allclose(world.joint_state()[0], goal, atol=1e-3)
    for block in task.blocks:
        np.testing.assert_allclose(world.block_states()[block.colour].position, block.position, atol=1e-3)


def test_objects_are_not_put_into_the_arm():
    world = World(load_robot("panda"), "pick", 0, timestep=0.002)
    spec, kinematics = world.spec, Kinematics(world.spec)
    task = make_task("pick", "", 5, spec)
    pose = Pose(task.blocks[0].position, kinematics.forward(spec.home).quaternion)
    world.set_joint_command(kinematics.inverse(pose, spec.home))
    world.step(2000)
    spot = kinematics.forward(world.joint_state()[0]).position
    # a closed gripper stands where the first block would be
    world.set_gripper(0.0)
    world.step(1000)
    present = world.task
    assert not world.adopt(task)
    assert world.task is present
    moved = world.reset("pick", 5)
    assert moved.goal == task.goal
    assert np.linalg.norm(moved.blocks[0].position - spot) > 0.02
    assert not any(state.touched for state in world.block_states().values())


def test_seed_and_commands_decide_everything():
    runs = []
    for _ in range(2):
        world = World(load_robot("widowx"), "push", 4, timestep=0.002)
        Expert(world).run()
        runs.append(np.concatenate([world.data.qpos, world.data.qvel]))
    np.testing.assert_array_equal(*runs)


def test_what_cannot_be_is_refused(world):
    with pytest.raises(ActionError, match="must be numbers"):
        world.set_gripper(float("nan"))
    with pytest.raises(ActionError, match="not a number"):
        world.set_joint_command(np.full(world.spec.dof, np.inf))
    with pytest.raises(InstructionError):
        world.reset("", 0, "sing")
    with pytest.raises(ConfigurationError, match="time step is 0.05 s"):
        World(world.spec, timestep=0.05)
    camera = dataclasses.replace(world.cameras["wrist"], parent_frame="elsewhere")
    with pytest.raises(ConfigurationError, match="'elsewhere'"):
        World(world.spec, cameras={"wrist": camera})
