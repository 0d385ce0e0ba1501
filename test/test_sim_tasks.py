"""Random scenes: the same for the same seed, never overlapping, in reach and in sight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ConfigurationError, InstructionError
from vla_ros.robots import load_robot
from vla_ros.sim.goal import TASKS, Goal, goal_of
from vla_ros.sim.objects import BLOCK_SIZE, COLOURS, PLATE_RADIUS
from vla_ros.sim.projection import project
from vla_ros.sim.tasks import PUSH_GAP, make_task, placement_region

ROBOTS = {name: load_robot(name) for name in ("panda", "fr3", "ur5", "ur5e", "widowx")}
robots = st.sampled_from(sorted(ROBOTS))
seeds = st.integers(0, 2**31 - 1)


def corners(block):
    """The four corners (4, 2) of a block's footprint."""
    c, s = np.cos(block.yaw), np.sin(block.yaw)
    square = 0.5 * BLOCK_SIZE * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return square @ np.array([[c, s], [-s, c]]) + block.position[:2]


def separated(first, second):
    """Whether two convex polygons are apart, by the separating axis theorem."""
    for polygon in (first, second):
        for edge in np.roll(polygon, -1, axis=0) - polygon:
            normal = np.array([-edge[1], edge[0]])
            a, b = first @ normal, second @ normal
            if a.max() < b.min() or b.max() < a.min():
                return True
    return False


@settings(max_examples=60, deadline=None)
@given(robots, st.sampled_from(TASKS), seeds)
def test_scenes_do_not_overlap_and_lie_in_the_middle_of_the_workspace(robot, name, seed):
    spec = ROBOTS[robot]
    task = make_task(name, "", seed, spec)
    assert 3 <= len(task.blocks) <= 4
    assert len({block.colour for block in task.blocks}) == len(task.blocks)
    low, high = placement_region(spec)
    for thing in (*task.blocks, *task.plates):
        assert np.all(thing.position[:2] >= low) and np.all(thing.position[:2] <= high)
    shapes = [corners(block) for block in task.blocks]
    for index, shape in enumerate(shapes):
        for other in shapes[:index]:
            assert separated(shape, other)
        for plate in task.plates:
            assert np.linalg.norm(task.blocks[index].position[:2] - plate.position[:2]) > PLATE_RADIUS + 0.029


@settings(max_examples=30, deadline=None)
@given(robots, st.sampled_from(TASKS), seeds)
def test_everything_is_in_the_primary_image(robot, name, seed):
    spec = ROBOTS[robot]
    camera = spec.cameras["primary"]
    task = make_task(name, "", seed, spec)
    points = [[*corner, z] for block in task.blocks for corner in corners(block) for z in (0.0, BLOCK_SIZE)]
    points += [[*(plate.position[:2] + PLATE_RADIUS * np.array([np.cos(a), np.sin(a)])), 0.0]
               for plate in task.plates for a in np.linspace(0, 6, 12)]  # fmt: skip
    pixels = project(camera, np.array(points))
    assert np.all(pixels >= 0) and np.all(pixels <= [camera.width - 1, camera.height - 1])


@settings(max_examples=30, deadline=None)
@given(robots, st.sampled_from(TASKS), seeds)
def test_the_same_seed_gives_the_same_scene(robot, name, seed):
    first, second = (make_task(name, "", seed, ROBOTS[robot]) for _ in range(2))
    assert first.goal == second.goal
    assert [(b.colour, b.yaw, *b.position) for b in first.blocks] == [
        (b.colour, b.yaw, *b.position) for b in second.blocks
    ]
    other = make_task(name, "", seed + 1, ROBOTS[robot])
    assert not np.array_equal(first.blocks[0].position, other.blocks[0].position)


@settings(max_examples=30, deadline=None)
@given(robots, seeds)
def test_the_way_of_a_push_is_free(robot, seed):
    task = make_task("push", "", seed, ROBOTS[robot])
    side = 1.0 if task.goal.destination == "left" else -1.0
    target, *others = task.blocks
    assert target.colour == task.goal.target
    for other in others:
        across, along = (other.position - target.position)[:2] * [1.0, side]
        assert np.hypot(across, along) >= PUSH_GAP
        assert not (abs(across) < 0.06 and 0.0 < along < 0.2)


@pytest.mark.parametrize(
    "text, goal",
    [
        ("pick up the red block", Goal("pick", "red")),
        ("Put the blue block on the green plate.", Goal("place", "blue", "green")),
        ("push the yellow block to the left", Goal("push", "yellow", "left")),
        ("stack the red block on the blue block", Goal("stack", "red", "blue")),
    ],
)
def test_instructions_fix_the_goal_and_read_back(text, goal):
    task = make_task("", text, 5, ROBOTS["panda"])
    assert task.goal == goal
    assert task.instruction == text
    assert goal_of(goal.instruction) == goal
    assert goal.target in {block.colour for block in task.blocks}
    assert [plate.colour for plate in task.plates] == ([goal.destination] if goal.task == "place" else [])


def test_a_plate_and_a_block_share_a_colour_only_when_told_to():
    plain = [make_task("place", "", seed, ROBOTS["panda"]) for seed in range(20)]
    assert all(task.goal.destination not in {block.colour for block in task.blocks} for task in plain)
    told = make_task("", "put the green block on the green plate", 0, ROBOTS["panda"])
    assert (told.blocks[0].colour, told.plates[0].colour) == ("green", "green")


def test_another_attempt_keeps_the_goal_and_moves_the_objects():
    first, second = (make_task("stack", "", 3, ROBOTS["ur5"], attempt) for attempt in (0, 1))
    assert first.goal == second.goal
    assert not np.array_equal(first.blocks[0].position, second.blocks[0].position)


def test_seeds_reach_every_colour():
    assert {make_task("pick", "", seed, ROBOTS["widowx"]).goal.target for seed in range(40)} == set(COLOURS)


@pytest.mark.parametrize(
    "task, instruction, seed, error, words",
    [
        ("", "", 0, InstructionError, "empty"),
        ("pick", "dance for me", 0, InstructionError, "pick up the red block"),
        ("pick", "pick up the purple block", 0, InstructionError, "red, green, blue, yellow"),
        ("pick", "push the red block to the left", 0, InstructionError, "'push' but the task is 'pick'"),
        ("juggle", "", 0, ConfigurationError, "pick, place, push, stack"),
        ("pick", "", -1, ConfigurationError, "negative"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(task, instruction, seed, error, words):
    with pytest.raises(error, match=words):
        make_task(task, instruction, seed, ROBOTS["panda"])
