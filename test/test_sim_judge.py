"""The judge: every success can be reached, and nothing less than success is called one."""

import dataclasses

import numpy as np
import pytest

from vla_ros.robots import load_robot
from vla_ros.sim.judge import BlockState, Judge, Outcome
from vla_ros.sim.objects import BLOCK_SIZE, PLATE_HEIGHT, PLATE_RADIUS
from vla_ros.sim.tasks import make_task

SPEC = load_robot("panda")
PERIOD = 0.02
PICK, PLACE = "pick up the red block", "put the red block on the green plate"
PUSH, STACK = "push the red block to the left", "stack the red block on the blue block"


class Episode:
    """Blocks that a test moves about by hand."""

    def __init__(self, instruction, seed=0):
        self.task = make_task("", instruction, seed, SPEC)
        self.judge = Judge(self.task)
        self.time = 0.0
        self.blocks = {b.colour: BlockState(b.position.copy(), 0.0, False) for b in self.task.blocks}

    def set(self, colour="red", shift=None, at=None, **changes):
        position = self.blocks[colour].position if at is None else np.array(at, dtype=float)
        position = position + (0.0 if shift is None else np.array(shift))
        self.blocks[colour] = dataclasses.replace(self.blocks[colour], position=position, **changes)

    def wait(self, seconds):
        for _ in range(round(seconds / PERIOD)):
            self.time += PERIOD
            verdict = self.judge.update(self.time, self.blocks)
        return verdict

    @property
    def on_plate(self):
        return self.task.plates[0].position + [0.0, 0.0, PLATE_HEIGHT + BLOCK_SIZE / 2]

    @property
    def on_blue(self):
        return self.blocks["blue"].position + [0.0, 0.0, BLOCK_SIZE]


def test_a_block_held_high_for_half_a_second_is_picked():
    episode = Episode(PICK)
    assert episode.wait(1.0).outcome is Outcome.RUNNING
    episode.set(shift=[0.0, 0.0, 0.06], touched=True)
    assert episode.wait(0.4).outcome is Outcome.RUNNING
    verdict = episode.wait(0.2)
    assert verdict.outcome is Outcome.SUCCESS
    assert "red block" in verdict.reason
    assert 1.4 < verdict.elapsed < 1.6
    episode.set(shift=[0.0, 0.0, -0.06], touched=False)
    assert episode.wait(40.0) == verdict


@pytest.mark.parametrize("height, touched", [(0.04, True), (0.06, False)])
def test_a_low_block_or_a_flying_one_is_not_picked(height, touched):
    episode = Episode(PICK)
    episode.set(shift=[0.0, 0.0, height], touched=touched)
    verdict = episode.wait(31.0)
    assert verdict.outcome is Outcome.FAILURE
    assert "within 30 s" in verdict.reason


def test_a_block_that_slips_again_and_again_is_not_picked():
    episode = Episode(PICK)
    for _ in range(40):
        episode.set(shift=[0.0, 0.0, 0.06], touched=True)
        assert episode.wait(0.4).outcome is Outcome.RUNNING
        episode.set(shift=[0.0, 0.0, -0.06])
        episode.wait(0.1)
    assert episode.wait(30.0).reason == "the red block was lifted but not held for 0.5 s within 30 s"


def test_the_wrong_block_does_not_count():
    episode = Episode(PICK)
    other = next(colour for colour in episode.blocks if colour != "red")
    episode.set(other, shift=[0.0, 0.0, 0.1], touched=True)
    assert episode.wait(31.0).reason == "the red block was not lifted above 5 cm within 30 s"


def test_a_block_resting_on_the_plate_is_placed():
    episode = Episode(PLACE)
    episode.set(at=episode.on_plate + [0.03, -0.03, 0.0])
    assert episode.wait(0.6).outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    "offset, changes, reason",
    [
        ([PLATE_RADIUS + 0.01, 0.0, 0.0], {}, "was not put on the green plate within 60 s"),
        ([0.0, 0.0, 0.05], {}, "was not put on the green plate within 60 s"),
        ([0.0, 0.0, 0.0], {"touched": True}, "reached the green plate but was not left resting there"),
        ([0.0, 0.0, 0.0], {"speed": 0.1}, "reached the green plate but was not left resting there"),
    ],
)
def test_beside_above_held_or_moving_is_not_placed(offset, changes, reason):
    episode = Episode(PLACE)
    episode.set(at=episode.on_plate + offset, **changes)
    verdict = episode.wait(61.0)
    assert verdict.outcome is Outcome.FAILURE
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "moved, outcome", [(0.09, Outcome.SUCCESS), (0.07, Outcome.FAILURE), (-0.2, Outcome.FAILURE)]
)
def test_left_is_plus_y_and_eight_centimetres(moved, outcome):
    episode = Episode(PUSH)
    episode.set(shift=[0.0, moved, 0.0])
    assert episode.wait(31.0).outcome is outcome
    mirrored = Episode(PUSH.replace("left", "right"))
    mirrored.set(shift=[0.0, -moved, 0.0])
    assert mirrored.wait(31.0).outcome is outcome


def test_carrying_is_not_pushing():
    episode = Episode(PUSH)
    episode.set(shift=[0.0, 0.1, 0.05], touched=True)
    assert episode.wait(31.0).outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    "offset, touched, outcome",
    [
        ([0.0, 0.0, 0.0], False, Outcome.SUCCESS),
        ([0.01, 0.01, 0.0], False, Outcome.SUCCESS),
        ([0.0, 0.0, 0.0], True, Outcome.FAILURE),
        ([0.03, 0.0, 0.0], False, Outcome.FAILURE),
        ([0.0, 0.0, -BLOCK_SIZE], False, Outcome.FAILURE),
    ],
)
def test_stacked_means_on_top_and_let_go(offset, touched, outcome):
    episode = Episode(STACK)
    episode.set(at=episode.on_blue + offset, touched=touched)
    assert episode.wait(61.0).outcome is outcome


def test_a_block_off_the_table_ends_the_episode_at_once():
    episode = Episode(STACK)
    episode.set("blue", at=[0.5, 0.0, -0.3])
    verdict = episode.wait(PERIOD)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILURE, "the blue block left the table")


def test_a_bystander_off_the_table_does_not():
    episode = Episode(PICK)
    other = next(colour for colour in episode.blocks if colour != "red")
    episode.set(other, at=[0.5, 0.0, -0.3])
    assert episode.wait(1.0).outcome is Outcome.RUNNING
