"""Demonstrations by the scripted expert, an episode a bag."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vla_ros.contract import Contract, load_contract
from vla_ros.errors import ConfigurationError, ContractError, DataError, did_you_mean, unknown
from vla_ros.lockstep.bag_log import IMAGES, BagLog
from vla_ros.lockstep.simulated import EPISODE_SPAN, START, Scene, make_world, rollout, set_scene
from vla_ros.lockstep.sources import ExpertSource
from vla_ros.preflight import topic_problems
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.expert import Variation, disturbed_start, draw
from vla_ros.sim.expert.phrases import phrase
from vla_ros.sim.goal import TASKS
from vla_ros.sim.judge import Outcome
from vla_ros.sim.tasks import resolve_goal
from vla_ros.sim.world import World

PARTIAL, FAILED = ".partial", "_failure"
"""Folder of bags that are being written; ending of the names of kept failures."""


@dataclass(frozen=True)
class Order:
    """What is to be demonstrated, and how it is kept."""

    robot: str
    """A robot's name, or the path of a contract."""
    tasks: tuple[str, ...] = ("pick",)
    """Taken in turn."""
    seed: int = 0
    """Of the first episode; each further one has the next."""
    action_space: str = ""
    """Empty: the contract's."""
    rate: float = 0.0
    """Actions a second [Hz]; 0: the action space's own."""
    images: str = "jpeg"
    variation: Variation = field(default_factory=Variation)
    vary_language: bool = False
    """Whether instructions are worded in many ways."""
    keep_failures: bool = False
    renderer: str = "auto"

    def contract(self) -> Contract:
        """The contract of all episodes.  Raises `ConfigurationError` and `ContractError`."""
        if not self.tasks:
            raise ConfigurationError(f"No task is given; there are {', '.join(TASKS)}.")
        if self.images not in IMAGES:
            raise ConfigurationError(
                f"images '{self.images}' are unknown, known are {', '.join(IMAGES)}."
                f"{did_you_mean(self.images, IMAGES)}"
            )
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigurationError(unknown("The task", task, TASKS))
        contract = load_contract(
            self.robot, simulated=True, action_space=self.action_space or None, action_rate=self.rate or None
        )
        for sentence in topic_problems(contract):
            raise ContractError(sentence)
        return contract

    def task_of(self, seed: int) -> str:
        """The task of an episode."""
        return self.tasks[(seed - self.seed) % len(self.tasks)]


@dataclass(frozen=True)
class Result:
    """How one episode went."""

    seed: int
    task: str
    success: bool
    reason: str
    recovery: str
    """What went wrong on purpose; empty: nothing."""
    steps: int
    retries: int
    seconds: float
    interventions: int
    size: int
    """Bytes on the disk; 0: not kept."""


def bag_name(seed: int) -> str:
    """Name of an episode's folder."""
    return f"episode_{seed:06d}"


class Demonstrator:
    """Makes one episode after the other in one world."""

    def __init__(self, order: Order, out: Path) -> None:
        """Raises what `Order.contract` raises."""
        self._order, self._out, self._contract = order, out, order.contract()
        self._kinematics = Kinematics(self._contract.robot)
        self._world: World | None = None

    def scene(self, seed: int) -> Scene:
        """The scene of an episode."""
        order, robot = self._order, self._contract.robot
        task = order.task_of(seed)
        goal = resolve_goal(task, "", np.random.default_rng([seed, 0]))
        words = phrase(goal, seed) if order.vary_language else goal.instruction
        disturbed = draw(order.variation, seed).recovery == "disturbed"
        joints = disturbed_start(self._kinematics, seed) if disturbed else ()
        return Scene(robot.name, task, words, seed, tuple(float(value) for value in joints))

    def make(self, seed: int, on_tick: Callable[[float], bool] | None = None) -> Result:
        """Record an episode; under its name only once it is whole.

        Raises `DataError` when the disk refuses, and what `rollout` raises.
        """
        scene, order = self.scene(seed), self._order
        if self._world is None:
            self._world = make_world(self._contract, scene, order.renderer)
        else:
            set_scene(self._world, scene)
        partial = self._out / PARTIAL / bag_name(seed)
        shutil.rmtree(partial, ignore_errors=True)
        _make(partial.parent)
        source = ExpertSource(self._contract, self._world, seed, order.variation)
        manner = draw(order.variation, seed)
        metadata = {
            "scene": scene.to_json(),
            "expert": json.dumps({**asdict(order.variation), "drawn_recovery": manner.recovery}),
        }
        try:
            with BagLog(partial, self._contract, metadata, order.images) as log:
                run = rollout(
                    self._contract, self._world, source, log, start=START + seed * EPISODE_SPAN,
                    episode_id=bag_name(seed), on_tick=on_tick,
                )  # fmt: skip
                outcome = run.verdict.outcome.name.lower()
                log.conclude({"outcome": outcome, "reason": run.verdict.reason})
            success = run.verdict.outcome is Outcome.SUCCESS
            kept = success or order.keep_failures
            size = sum(file.stat().st_size for file in partial.iterdir()) if kept else 0
            if kept:
                _publish(partial, self._out / f"{bag_name(seed)}{'' if success else FAILED}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Result(
            seed, scene.task, success, run.verdict.reason, manner.recovery, run.steps, source.retries,
            run.seconds, run.interventions, size,
        )  # fmt: skip

    def close(self) -> None:
        """Release the renderer."""
        if self._world is not None:
            self._world.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror or error}.") from error


def _publish(partial: Path, final: Path) -> None:
    """Move a whole bag to its place."""
    try:
        for file in partial.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if final.exists():
            # the same to the last bit, by the worker of a run that was killed a moment ago
            shutil.rmtree(final)
        os.rename(partial, final)
    except OSError as error:
        raise DataError(f"{final} cannot be written: {error.strerror or error}.") from error
