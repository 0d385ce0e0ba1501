"""The scripted expert: the same again from a seed, human variation inside its spans, mistakes put right."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import VlaRosError
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.expert import RECOVERIES, Expert, Plan, ToldScene, Variation, View, disturbed_start, draw
from vla_ros.sim.expert.geometry import apart, between, progress
from vla_ros.sim.expert.phrases import phrase
from vla_ros.sim.goal import TASKS, goal_of
from vla_ros.sim.judge import Outcome
from vla_ros.sim.tasks import resolve_goal
from vla_ros.sim.world import World
from vla_ros.types import Pose

ALWAYS = Variation(recovery=1.0)
NEVER = Variation(recovery=0.0)


@pytest.fixture(scope="module")
def world():
    return World(load_robot("widowx"), "pick", 0, timestep=0.002)


def seed_of(recovery):
    return next(seed for seed in range(100) if draw(ALWAYS, seed).recovery == recovery)


class Closings:
    """Counts how often the fingers are told to close after having been open."""

    def __init__(self, world, monkeypatch):
        self.count, self._open, self._set = 0, True, world.set_gripper
        self._middle = 0.5 * (world.spec.gripper.min_width + world.spec.gripper.max_width)
        monkeypatch.setattr(world, "set_gripper", self)

    def __call__(self, width, *rest):
        self.count += self._open and width < self._middle
        self._open = width >= self._middle
        self._set(width, *rest)


def test_a_seed_gives_the_same_episode_again_and_another_seed_another(world):
    ends = []
    for seed in (3, 3, 4):
        world.reset("pick", 7, keep_arm=False)
        world.task = dataclasses.replace(world.task, seed=seed)
        assert Expert(world, Variation()).run().outcome is Outcome.SUCCESS
        ends.append(np.append(world.data.qpos, world.sim_time))
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("task", ["pick", "push"])
def test_what_goes_wrong_is_put_right(world, monkeypatch, task, recovery):
    seed = seed_of(recovery)
    world.reset(task, seed, keep_arm=False)
    closings = Closings(world, monkeypatch)
    expert = Expert(world, ALWAYS)
    assert expert.run().outcome is Outcome.SUCCESS
    wrong_by_closing = task == "pick" and recovery in ("miss", "drop")
    assert closings.count == (2 if wrong_by_closing else 1)
    retried = recovery == "drop" or (task == "push" and recovery == "miss")
    assert expert.retries == int(retried)


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_that_is_told_is_planned_like_the_world_itself(world, task):
    world.reset(task, 5, keep_arm=False)
    told = ToldScene(world.spec, world.task.instruction, world.task.seed, world.objects())
    kinematics = Kinematics(world.spec)
    home = kinematics.forward(world.spec.home)
    view = View(home, home, world.spec.gripper.max_width)
    plans = [Plan(scene, draw(Variation(), 5), 0.1, kinematics) for scene in (world, told)]
    for step in range(100):
        if step == 20:
            # it looks at where things are now
            world.data.xpos[:, 0] += 0.01
            told.tell(world.objects())
        wishes = [plan.step(view) for plan in plans]
        assert (wishes[0] is None) == (wishes[1] is None)
        if wishes[0] is None:
            break
        np.testing.assert_allclose(wishes[0].pose.position, wishes[1].pose.position, atol=1e-12)
        np.testing.assert_allclose(wishes[0].pose.quaternion, wishes[1].pose.quaternion, atol=1e-12)
        assert wishes[0].width == wishes[1].width
    assert step > 20


@pytest.mark.parametrize(
    ("instruction", "missing", "sentence"),
    [
        ("put the red block on the blue plate", "plate_blue", "has no 'plate_blue'"),
        ("pick up the red block", "block_red", "has no 'block_red'"),
        ("stack the red block on the blue block", "block_blue", "has no 'block_blue'"),
        ("bake a cake", "", "bake a cake"),
    ],
)
def test_a_scene_without_what_is_asked_for_is_a_sentence(instruction, missing, sentence):
    names = {"block_red", "block_blue", "plate_blue"} - {missing}
    objects = {name: Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])) for name in names}
    with pytest.raises(VlaRosError, match=sentence) as refused:
        ToldScene(load_robot("widowx"), instruction, 0, objects)
    assert "\n" not in str(refused.value)
    if missing:
        told = ToldScene(load_robot("widowx"), instruction, 0, {**objects, missing: objects[names.pop()]})
        with pytest.raises(VlaRosError, match=sentence):
            told.tell(objects)


def test_nothing_goes_wrong_when_nothing_is_to(world, monkeypatch):
    for seed in range(4):
        world.reset("pick", seed, keep_arm=False)
        with monkeypatch.context() as patch:
            closings = Closings(world, patch)
            expert = Expert(world, NEVER)
            assert expert.run().outcome is Outcome.SUCCESS
        assert closings.count == 1 and expert.retries == 0


def test_a_block_that_is_pulled_out_of_the_hand_is_fetched_again(world, monkeypatch):
    world.reset("place", 2, keep_arm=False)
    target = world.task.goal.target
    start, step = world.block_pose(target).position.copy(), world.step
    taken = []

    def with_a_thief(count=1):
        step(count)
        lifted = world.block_pose(target).position[2] > start[2] + 0.06
        if lifted and not taken:
            taken.append(world.sim_time)
            joint = world.model.body_jntadr[world._blocks[target]]
            where = world.model.jnt_qposadr[joint]
            world.data.qpos[where : where + 3] = start

    monkeypatch.setattr(world, "step", with_a_thief)
    expert = Expert(world, NEVER)
    assert expert.run().outcome is Outcome.SUCCESS
    assert taken and expert.retries == 1


def test_it_gives_up_after_its_attempts_where_nothing_can_be_grasped(world, monkeypatch):
    world.reset("pick", 0, keep_arm=False)
    monkeypatch.setattr(world, "set_gripper", lambda *_: None)
    expert = Expert(world, dataclasses.replace(NEVER, attempts=2))
    assert expert.run().outcome is Outcome.RUNNING
    assert expert.retries == 1


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_lies_in_its_span(seed):
    variation, manner = Variation(), draw(Variation(), seed)
    for value, span in (
        (manner.speed, variation.speed), (manner.skew, variation.skew), (manner.height, variation.height),
    ):  # fmt: skip
        assert span[0] <= value <= span[1]
    assert manner.recovery in ("", *RECOVERIES)
    assert draw(ALWAYS, seed).recovery and not draw(NEVER, seed).recovery


def test_recoveries_come_as_often_as_asked_for():
    drawn = [draw(Variation(recovery=0.3), seed).recovery for seed in range(2000)]
    assert 0.26 < np.mean([bool(name) for name in drawn]) < 0.34
    assert min(drawn.count(name) for name in RECOVERIES) > 100


@given(st.integers(0, 10**6), st.sampled_from(TASKS))
@settings(max_examples=150, deadline=None)
def test_every_wording_means_its_goal(seed, task):
    goal = resolve_goal(task, "", np.random.default_rng([seed, 0]))
    assert goal_of(phrase(goal, seed)) == goal


def test_wordings_differ():
    goal = goal_of("push the red block to the left")
    assert len({phrase(goal, seed) for seed in range(200)}) > 30


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5", "ur5e", "widowx"])
def test_disturbed_starts_are_inside_and_differ(robot):
    spec = load_robot(robot)
    kinematics, starts = Kinematics(spec), []
    for seed in range(8):
        joints = disturbed_start(kinematics, seed)
        np.testing.assert_array_equal(joints, disturbed_start(kinematics, seed))
        assert np.all(joints >= spec.applied.position_min) and np.all(joints <= spec.applied.position_max)
        tool = kinematics.forward(joints).position
        assert np.all(tool >= spec.workspace.minimum) and np.all(tool <= spec.workspace.maximum)
        starts.append(joints)
    assert np.ptp(starts, axis=0).max() > 0.1


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.7, 1.4))
@settings(max_examples=60, deadline=None)
def test_progress_grows_from_nought_to_one(first, second, skew):
    low, high = sorted((first, second))
    assert progress(0.0, skew) == 0.0 and progress(1.0, skew) == pytest.approx(1.0)
    assert progress(low, skew) <= progress(high, skew) + 1e-12


def test_between_two_poses_is_between_them():
    first = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    second = Pose(np.array([0.3, 0.0, 0.4]), np.array([0.0, 0.0, np.sin(0.5), np.cos(0.5)]))
    half = between(first, second, 0.5)
    assert apart(first, half) == pytest.approx((0.25, 0.5))
    assert apart(half, second) == pytest.approx((0.25, 0.5))
    # a quaternion and its negative are one rotation
    assert apart(between(first, Pose(second.position, -second.quaternion), 0.5), half)[1] < 1e-6
