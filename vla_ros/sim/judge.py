"""Success and failure of a task, from the state of the simulated world alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from vla_ros.sim.objects import BLOCK_SIZE, PLATE_HEIGHT, PLATE_RADIUS
from vla_ros.sim.tasks import Task
from vla_ros.types import Array

LIFT_HEIGHT = 0.05
"""A block counts as picked when lifted more than this above its start [m]."""
PUSH_DISTANCE = 0.08
"""A block counts as pushed when moved more than this to the side [m]."""
SETTLE_TIME = 0.5
"""Time for which the wanted situation must last [s]."""
REST_SPEED = 0.02
"""Slower than this a block rests [m/s]."""
HEIGHT_TOLERANCE = 0.012
STACK_RADIUS = 0.6 * BLOCK_SIZE


class Outcome(IntEnum):
    """Outcome of an episode (same numbers as msg/EpisodeStatus)."""

    RUNNING = 1
    SUCCESS = 2
    FAILURE = 3


@dataclass(frozen=True)
class BlockState:
    """A block's centre (3,) [m] in the base frame, its speed [m/s] and whether the gripper touches it."""

    position: Array
    speed: float
    touched: bool


@dataclass(frozen=True)
class Verdict:
    """What the judge says; `reason` is one plain sentence, empty while the episode runs."""

    outcome: Outcome
    reason: str
    elapsed: float
    """Seconds since the episode began; frozen once decided."""


class Judge:
    """Watches one episode.  The first decision stands until the next episode."""

    def __init__(self, task: Task, start: float = 0.0) -> None:
        self._task = task
        self._start = start
        self._since: float | None = None
        self._was_near = False
        self._verdict = Verdict(Outcome.RUNNING, "", 0.0)
        self._initial = {block.colour: block.position for block in task.blocks}
        rules: dict[str, Callable[[Mapping[str, BlockState]], tuple[bool, bool]]] = {
            "pick": self._picked,
            "place": self._placed,
            "push": self._pushed,
            "stack": self._stacked,
        }
        self._rule = rules[task.goal.task]

    @property
    def verdict(self) -> Verdict:
        """The latest verdict."""
        return self._verdict

    def update(self, time: float, blocks: Mapping[str, BlockState]) -> Verdict:
        """Look at the world at `time` [s]."""
        if self._verdict.outcome is not Outcome.RUNNING:
            return self._verdict
        elapsed = time - self._start
        goal = self._task.goal
        involved = [goal.target] + ([goal.destination] if goal.task == "stack" else [])
        gone = next((colour for colour in involved if self._off_table(blocks[colour].position)), None)
        near, reached = self._rule(blocks)
        self._was_near = self._was_near or near
        if not reached:
            self._since = None
        elif self._since is None:
            self._since = time
        if gone is not None:
            outcome, reason = Outcome.FAILURE, f"the {gone} block left the table"
        elif self._since is not None and time - self._since >= SETTLE_TIME:
            outcome, reason = Outcome.SUCCESS, self._success()
        elif elapsed >= self._task.time_limit:
            outcome, reason = Outcome.FAILURE, self._failure()
        else:
            outcome, reason = Outcome.RUNNING, ""
        self._verdict = Verdict(outcome, reason, elapsed)
        return self._verdict

    def _off_table(self, position: Array) -> bool:
        minimum, maximum = self._task.table
        return bool(
            position[2] < -BLOCK_SIZE or np.any(position[:2] < minimum) or np.any(position[:2] > maximum)
        )

    # Each rule answers (near, reached): `near` is the part that makes a failure's reason more exact.

    def _picked(self, blocks: Mapping[str, BlockState]) -> tuple[bool, bool]:
        target = self._task.goal.target
        lifted = bool(blocks[target].position[2] - self._initial[target][2] > LIFT_HEIGHT)
        return lifted, lifted and blocks[target].touched

    def _placed(self, blocks: Mapping[str, BlockState]) -> tuple[bool, bool]:
        goal = self._task.goal
        plate = next(plate for plate in self._task.plates if plate.colour == goal.destination)
        return self._rests_on(
            blocks[goal.target], plate.position, PLATE_HEIGHT + 0.5 * BLOCK_SIZE, PLATE_RADIUS
        )

    def _stacked(self, blocks: Mapping[str, BlockState]) -> tuple[bool, bool]:
        goal = self._task.goal
        lower = blocks[goal.destination].position
        return self._rests_on(blocks[goal.target], lower, BLOCK_SIZE, STACK_RADIUS)

    def _pushed(self, blocks: Mapping[str, BlockState]) -> tuple[bool, bool]:
        goal = self._task.goal
        side = 1.0 if goal.destination == "left" else -1.0
        block = blocks[goal.target]
        moved = float(side * (block.position[1] - self._initial[goal.target][1]))
        flat = abs(block.position[2] - 0.5 * BLOCK_SIZE) < HEIGHT_TOLERANCE
        return moved > 0.01, moved > PUSH_DISTANCE and flat

    @staticmethod
    def _rests_on(block: BlockState, support: Array, height: float, radius: float) -> tuple[bool, bool]:
        offset = block.position - support
        above = bool(np.hypot(offset[0], offset[1]) < radius and abs(offset[2] - height) < HEIGHT_TOLERANCE)
        return above, above and block.speed < REST_SPEED and not block.touched

    def _success(self) -> str:
        goal = self._task.goal
        return {
            "pick": f"the {goal.target} block was lifted above {100 * LIFT_HEIGHT:.0f} cm and held",
            "place": f"the {goal.target} block rests on the {goal.destination} plate",
            "push": f"the {goal.target} block went {100 * PUSH_DISTANCE:.0f} cm to the {goal.destination}",
            "stack": f"the {goal.target} block rests on the {goal.destination} block",
        }[goal.task]

    def _failure(self) -> str:
        goal = self._task.goal
        within = f"within {self._task.time_limit:.0f} s"
        support = f"the {goal.destination} {'plate' if goal.task == 'place' else 'block'}"
        far, near = {
            "pick": (
                f"was not lifted above {100 * LIFT_HEIGHT:.0f} cm {within}",
                f"was lifted but not held for {SETTLE_TIME:.1f} s {within}",
            ),
            "place": (
                f"was not put on {support} {within}",
                f"reached {support} but was not left resting there {within}",
            ),
            "stack": (
                f"was not put on {support} {within}",
                f"reached {support} but was not left resting there {within}",
            ),
            "push": (
                f"was not pushed to the {goal.destination} {within}",
                f"was pushed less than {100 * PUSH_DISTANCE:.0f} cm to the {goal.destination} {within}",
            ),
        }[goal.task]
        return f"the {goal.target} block {near if self._was_near else far}"
