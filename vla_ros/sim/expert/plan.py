"""The expert's plan: coroutines that look at the true state once a step and say where the tool is to go.

Everything is in closed loop: goals are computed from where the block is now, a grasp is checked before it is
relied on, and what failed is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.actions import rotations
from vla_ros.robots.kinematics import Kinematics, UnreachableError
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.expert.geometry import SLOWEST, about_z, apart, between, moved, progress
from vla_ros.sim.expert.variation import Manner
from vla_ros.sim.objects import BLOCK_SIZE, PLATE_HEIGHT
from vla_ros.sim.tasks import Task
from vla_ros.types import Array, Pose

ARRIVED, TURNED = 0.004, 0.05
"""Nearer than this to its goal the tool has arrived [m], [rad]."""
PATIENCE = 1.2
"""Longest wait for an arrival [s]."""
CLOSING = 1.6
"""Longest wait for the fingers [s]."""
STILL = 0.0006
"""Fingers that moved less than this in a step have stopped [m]."""
SPARE = 0.004
"""Opening above the smallest at which there is something between the fingers [m]."""
LOST = 0.035
"""Farther than this from the tool a block is not held [m]."""
STANDOFF = 0.068
"""Distance of the closed fingers' middle from a block that is to be pushed [m]."""
PUSHED = 0.093
"""A block is pushed this far: the judge wants 8 cm [m]."""
PUSH_SPEED = 0.07
"""[m/s]"""
ASTRAY = 0.02
"""A block farther than this beside the pushing tool is slipping off [m]."""
PUSH_HEIGHT = 0.005
"""Of the tool above a block's centre [m]."""
SETTLE = 0.004
"""Height above its support at which a block is let go of [m]."""
_BEND = 0.08
"""Ways shorter than this are straight [m]."""
_WORST_JOINT = 2.4
"""A grasp that turns a joint farther from home than this is left out [rad]."""


class Known(Protocol):
    """What the plan asks of a world."""

    spec: RobotSpec
    task: Task

    def block_pose(self, colour: str) -> Pose:
        """Where a block is now, in the base frame."""
        ...


@dataclass(frozen=True)
class View:
    """What the plan knows at the beginning of a step besides the blocks."""

    tool: Pose
    """Measured."""
    target: Pose
    """Where it was told to be."""
    width: float
    """Measured opening [m]."""


@dataclass(frozen=True)
class Wish:
    """Where the tool and the fingers are to be at the end of a step."""

    pose: Pose
    width: float


class Plan:
    """One episode of a world's task.  `step` once a period; None when the plan is at its end."""

    def __init__(self, world: Known, manner: Manner, period: float, kinematics: Kinematics) -> None:
        """`period`: of the steps [s]."""
        self._world, self._manner, self._period = world, manner, period
        self._rng, self._kinematics = manner.rng, kinematics
        self._down = kinematics.forward(world.spec.home).quaternion
        gripper = world.spec.gripper
        self._open, self._closed = gripper.max_width, gripper.min_width
        self._tremor = np.zeros(3)
        self.retries = 0
        """Tries after the first."""
        self._steps: Iterator[Wish] | None = None

    def step(self, view: View) -> Wish | None:
        """The next wish."""
        self._view = view
        if self._steps is None:
            self._last = view.target
            self._width = self._open
            self._steps = self._push() if self._world.task.name == "push" else self._pick_and_more()
        return next(self._steps, None)

    # ---- words

    def _wish(self, pose: Pose) -> Wish:
        self._last = pose
        variation = self._manner.variation
        noise = self._rng.normal(0.0, 1.0, 3)
        self._tremor = 0.7 * self._tremor + 0.7 * variation.tremor * noise
        return Wish(moved(pose, self._tremor), self._width)

    def _stay(self, seconds: float) -> Iterator[Wish]:
        for _ in range(max(1, round(seconds / self._period))):
            yield self._wish(self._last)

    def _hesitate(self) -> Iterator[Wish]:
        variation = self._manner.variation
        if self._rng.random() < variation.pause:
            yield from self._stay(float(self._rng.uniform(*variation.pause_seconds)))

    def _go(
        self, goal: Callable[[], Pose], pace: float = 1.0, arrive: bool = True, bend: bool = True
    ) -> Iterator[Wish]:
        """To where `goal` is, which is asked at every step; `pace` is a factor on the speed."""
        manner, variation = self._manner, self._manner.variation
        start, first = self._last, goal()
        distance, angle = apart(start, first)
        seconds = SLOWEST * max(distance / (pace * manner.speed), angle / variation.turn)
        count = max(1, int(np.ceil(seconds / self._period)))
        side = np.zeros(3)
        if bend and distance > _BEND:
            along = (first.position - start.position) / distance
            across = np.cross(along, self._rng.normal(0.0, 1.0, 3))
            side = variation.bow * distance * self._rng.uniform(0.0, 1.0) * across
            side /= max(float(np.linalg.norm(across)), 1e-9)
            side[2] = abs(side[2])
        for index in range(1, count + 1):
            share = progress(index / count, manner.skew)
            pose = between(start, goal(), share)
            yield self._wish(moved(pose, np.sin(np.pi * share) ** 2 * side))
        waited = 0.0
        while arrive and waited < PATIENCE:
            distance, angle = apart(self._view.tool, goal())
            if distance < ARRIVED and angle < TURNED:
                break
            yield self._wish(goal())
            waited += self._period

    def _fingers(self, width: float) -> Iterator[Wish]:
        """Open or close, and wait until they stand."""
        self._width = width
        before, waited = self._view.width, 0.0
        while waited < CLOSING:
            yield self._wish(self._last)
            waited += self._period
            moved_by, before = abs(self._view.width - before), self._view.width
            if waited > 0.25 and moved_by < STILL:
                break

    def _block(self, colour: str) -> Pose:
        return self._world.block_pose(colour)

    # ---- grasping

    def _grasps(self, colour: str) -> list[Array]:
        """Quaternions of reachable grasps, the nearest turn first."""
        block = self._block(colour)
        matrix = rotations.to_matrix(block.quaternion)
        yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        nearest = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        turns = sorted((nearest + k * np.pi / 2 for k in (-1, 0, 1)), key=abs)
        found = []
        for turn in turns:
            quaternion = rotations.multiply(about_z(turn), self._down)
            up = np.array([0.0, 0.0, self._manner.height])
            if all(self._reachable(Pose(block.position + offset, quaternion)) for offset in (0.0 * up, up)):
                found.append(quaternion)
        return found

    def _reachable(self, pose: Pose) -> bool:
        home = self._world.spec.home
        try:
            joints = self._kinematics.inverse(pose, home, tol=1e-3)
        except UnreachableError:
            return False
        return bool(np.abs(joints - home).max() < _WORST_JOINT)

    def _choice(self, colour: str) -> Array:
        """The grasp of this try, with a person's error of yaw."""
        variation, grasps = self._manner.variation, self._grasps(colour)
        if not grasps:
            return self._down
        other = len(grasps) > 1 and self._rng.random() < variation.other_side
        error = about_z(float(self._rng.uniform(-1.0, 1.0)) * variation.yaw)
        return rotations.multiply(error, grasps[1 if other else 0])

    def _disc(self, radius: float) -> Array:
        """A random point (3,) of a horizontal disc."""
        angle, length = self._rng.uniform(0.0, 2.0 * np.pi), radius * np.sqrt(self._rng.uniform())
        return np.array([length * np.cos(angle), length * np.sin(angle), 0.0])

    def _grasp(self, colour: str, wrong: str) -> Iterator[Wish]:
        """Above the block, down, fingers closed.  `wrong`: what goes wrong, see `Variation.recovery`."""
        variation, height = self._manner.variation, self._manner.height
        self._width = self._open
        rotation = self._choice(colour)
        offset = self._disc(variation.lateral)
        offset[2] = self._rng.uniform(*variation.grip)
        # rough first, corrected above the block
        rough = offset + self._disc(2.0 * variation.lateral)
        up = np.array([0.0, 0.0, height])

        def at(shift: Array) -> Callable[[], Pose]:
            return lambda: Pose(self._block(colour).position + shift, rotation)

        yield from self._hesitate()
        if wrong == "beside":
            angle = self._rng.uniform(0.0, 2.0 * np.pi)
            beside = self._rng.uniform(0.02, 0.04) * np.array([np.cos(angle), np.sin(angle), 0.0])
            yield from self._go(at(up + beside))
            # low enough to see that it is wrong, high enough to touch nothing
            yield from self._go(at(np.array([0.0, 0.0, 0.07]) + beside), 0.8)
            yield from self._stay(0.4)
            yield from self._go(at(np.array([0.0, 0.0, 0.07]) + offset), 0.6)
        else:
            yield from self._go(at(up + rough), arrive=False)
        if wrong == "miss":
            yield from self._go(at(np.array([0.0, 0.0, 0.055])), 0.8)
            yield from self._fingers(self._closed)
            yield from self._stay(0.2)
            yield from self._fingers(self._open)
        yield from self._hesitate()
        yield from self._go(at(offset), 0.7)
        yield from self._fingers(self._closed)

    def _holding(self, colour: str) -> bool:
        away = np.linalg.norm(self._block(colour).position - self._view.tool.position)
        return bool(self._view.width > self._closed + SPARE and away < LOST)

    def _lift(self, height: float, pace: float = 1.0) -> Iterator[Wish]:
        top = moved(self._last, np.array([0.0, 0.0, height]))
        yield from self._go(lambda: top, pace, arrive=False)

    def _pick_and_more(self) -> Iterator[Wish]:
        goal, manner = self._world.task.goal, self._manner
        wrong = manner.recovery
        for attempt in range(manner.variation.attempts):
            if attempt:
                self.retries += 1
                yield from self._back_up()
            yield from self._grasp(goal.target, wrong if attempt == 0 else "")
            if not self._holding(goal.target):
                continue
            if wrong == "drop" and attempt == 0:
                yield from self._lift(float(self._rng.uniform(0.010, 0.018)), 0.5)
                yield from self._stay(0.2)
                yield from self._fingers(self._open)
                continue
            yield from self._lift(manner.height)
            if not self._holding(goal.target):
                continue
            if goal.task == "pick":
                yield from self._stay(1.5)
                if self._holding(goal.target):
                    return
                continue
            yield from self._put(goal.target)
            if self._placed(goal.target):
                return

    def _back_up(self) -> Iterator[Wish]:
        """Away from whatever went wrong, straight up, fingers open."""
        yield from self._fingers(self._open)
        height = max(self._manner.height - self._view.tool.position[2], 0.02)
        yield from self._lift(height, 0.8)

    def _support(self) -> Array:
        """Where the middle of the block is to be (3,) [m]."""
        task = self._world.task
        if task.name == "place":
            return np.asarray(task.plates[0].position + np.array([0.0, 0.0, PLATE_HEIGHT + 0.5 * BLOCK_SIZE]))
        return np.asarray(self._block(task.goal.destination).position + np.array([0.0, 0.0, BLOCK_SIZE]))

    def _put(self, colour: str) -> Iterator[Wish]:
        """Over the support, down, let go, up."""
        variation = self._manner.variation
        miss = self._disc(variation.plate if self._world.task.name == "place" else variation.tower)
        rotation = self._last.quaternion

        def over(height: float) -> Callable[[], Pose]:
            def goal() -> Pose:
                # the block is where it is in the hand, not where it was meant to be
                held = self._block(colour).position - self._view.tool.position
                if np.linalg.norm(held) > LOST:
                    held = np.zeros(3)
                return Pose(self._support() + miss - held + np.array([0.0, 0.0, height]), rotation)

            return goal

        yield from self._hesitate()
        yield from self._go(over(self._manner.height - 0.02))
        if not self._holding(colour):
            return
        yield from self._hesitate()
        yield from self._go(over(SETTLE), 0.7)
        yield from self._fingers(self._open)
        yield from self._lift(self._manner.height - 0.02, 0.8)
        yield from self._stay(1.2)

    def _placed(self, colour: str) -> bool:
        offset = self._block(colour).position - self._support()
        return bool(np.hypot(offset[0], offset[1]) < 0.6 * BLOCK_SIZE and abs(offset[2]) < 0.012)

    # ---- pushing

    def _push(self) -> Iterator[Wish]:
        task, manner = self._world.task, self._manner
        colour, side = task.goal.target, 1.0 if task.goal.destination == "left" else -1.0
        begin = next(block.position for block in task.blocks if block.colour == colour)
        wrong = manner.recovery
        for attempt in range(manner.variation.attempts):
            if attempt:
                self.retries += 1
            yield from self._behind(colour, side, wrong if attempt == 0 else "")
            enough = PUSHED
            if wrong in ("miss", "drop") and attempt == 0:
                enough = float(self._rng.uniform(0.02, 0.05))
            yield from self._shove(colour, side, begin, enough)
            yield from self._stay(0.3)
            back = moved(self._last, np.array([0.0, -0.025 * side, 0.0]))
            yield from self._go(lambda pose=back: pose, 0.8, arrive=False)  # type: ignore[misc]
            yield from self._lift(manner.height - PUSH_HEIGHT, 1.0)
            if side * (self._block(colour).position[1] - begin[1]) > PUSHED - 0.008:
                yield from self._stay(1.0)
                return

    def _behind(self, colour: str, side: float, wrong: str) -> Iterator[Wish]:
        """Down behind the block, fingers closed."""
        self._width = self._closed
        error = float(self._rng.uniform(-1.0, 1.0))
        # the fingers open along y, so one outer face pushes and no corner gets between them
        rotation = rotations.multiply(about_z(0.5 * self._manner.variation.yaw * error), self._down)

        def at(shift: float, height: float) -> Callable[[], Pose]:
            offset = np.array([shift, -side * STANDOFF, height])
            return lambda: Pose(self._block(colour).position + offset, rotation)

        yield from self._hesitate()
        aside = float(self._rng.choice([-1.0, 1.0]) * self._rng.uniform(0.02, 0.035))
        yield from self._go(at(aside if wrong == "beside" else 0.0, self._manner.height))
        if wrong == "beside":
            yield from self._go(at(aside, 0.06), 0.8)
            yield from self._stay(0.4)
            yield from self._go(at(0.0, 0.06), 0.6)
        yield from self._hesitate()
        yield from self._go(at(0.0, PUSH_HEIGHT), 0.7)

    def _shove(self, colour: str, side: float, begin: Array, enough: float) -> Iterator[Wish]:
        """Push along y until the block is far enough or slips off."""
        rotation, start = self._last.quaternion, self._last.position.copy()
        speed, pace = min(PUSH_SPEED, 0.6 * self._manner.speed), 0.0
        farthest = STANDOFF + PUSHED + 0.05
        position = start.copy()
        while side * (position[1] - start[1]) < farthest:
            block = self._block(colour).position
            if side * (block[1] - begin[1]) >= enough:
                return
            if abs(block[0] - self._view.tool.position[0]) > ASTRAY + 0.5 * BLOCK_SIZE:
                return
            pace = min(1.0, pace + self._period / 0.4)
            position = position.copy()
            position[1] += side * pace * speed * self._period
            # under the block's middle, or it turns away
            position[0] += float(np.clip(block[0] - position[0], -0.003, 0.003))
            yield self._wish(Pose(position, rotation))
