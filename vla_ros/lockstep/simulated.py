"""The simulated world and the strip in lock step: one process, virtual time, as fast as the machine can.

Everything happens at a time step of the physics, in a fixed order, so that the same arguments give the same
run to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.documents import parse_json
from vla_ros.errors import ConfigurationError
from vla_ros.lockstep.bag_log import BagLog
from vla_ros.lockstep.line import Line
from vla_ros.lockstep.sources import ActionSource, Moment
from vla_ros.sim.judge import Outcome, Verdict
from vla_ros.sim.realtime import Sample
from vla_ros.sim.world import World
from vla_ros.types import NANOSECONDS, CameraImage

START = 1_767_225_600 * NANOSECONDS
"""Virtual time begins on 1 January 2026 [ns]; it says nothing of when a run was made."""
EPISODE_SPAN = 600 * NANOSECONDS
"""Episodes of different seeds begin so far apart [ns]."""
LEAD_IN = 0.2
"""Seconds from the first frames to the first action."""
SETTLE = 2.0
"""Seconds the judge has after the last action."""
STATUS_PERIOD = 0.1
SAFETY_PERIOD = 0.05
WRENCH_RATE = 100.0
TIMESTEPS = (0.002, 0.001, 0.0005)


@dataclass(frozen=True)
class Scene:
    """What it takes to make a scene again."""

    robot: str
    task: str
    instruction: str
    seed: int
    joints: tuple[float, ...] = ()
    """Where the arm begins [rad]; empty: at home."""

    def to_json(self) -> str:
        """The text that bags carry under the key `scene`."""
        return json.dumps({**self.__dict__, "joints": list(self.joints)})

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Read it back.  Raises `ConfigurationError`."""
        try:
            given = parse_json(text)
            return cls(
                str(given["robot"]), str(given["task"]), str(given["instruction"]), int(given["seed"]),
                tuple(float(value) for value in given.get("joints", ())),
            )  # fmt: skip
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"the bag's scene '{text[:80]}' cannot be read: {error}.") from error


@dataclass(frozen=True)
class Rollout:
    """How a run went."""

    verdict: Verdict
    """The judge's; a run that ended before it decided is a failure with the reason why."""
    steps: int
    """Actions."""
    seconds: float
    """Simulated."""
    interventions: int
    """Of the safety controller; one that lasts for many ticks counts once."""


def timestep(contract: Contract) -> float:
    """The longest physics step [s] that divides the periods of the controller and of the joint states.

    Raises `ConfigurationError` when none does.
    """
    rates = contract.control_rate, contract.robot.simulated_joint_state_rate
    for step in TIMESTEPS:
        if all(abs(1.0 / (rate * step) - round(1.0 / (rate * step))) < 1e-9 for rate in rates):
            return step
    raise ConfigurationError(
        f"The control rate of {contract.source} is {rates[0]:g} Hz; in lock step with the simulator its "
        f"period must be a multiple of {1000 * TIMESTEPS[-1]:g} ms."
    )


def make_world(contract: Contract, scene: Scene, renderer: str = "auto") -> World:
    """A world with the contract's cameras and the scene.  Raises what `World` raises."""
    world = World(
        contract.robot, scene.task or "pick", scene.seed, scene.instruction, timestep(contract),
        contract.cameras, renderer,
    )  # fmt: skip
    set_scene(world, scene)
    return world


def set_scene(world: World, scene: Scene) -> None:
    """Put everything where the scene says, the arm too.  Raises what `World.reset` raises."""
    joints = np.array(scene.joints) if scene.joints else None
    world.reset(scene.task, scene.seed, scene.instruction, keep_arm=False, joints=joints)


def rollout(
    contract: Contract,
    world: World,
    source: ActionSource,
    log: BagLog | None = None,
    *,
    render: bool = True,
    start: int = START,
    episode_id: str = "episode_000000",
    on_tick: Callable[[float], bool] | None = None,
) -> Rollout:
    """Let a source of actions do the world's task, from the scene as it stands.

    Args:
        contract: of the run; its controller rate must fit the world's time step (`timestep`).
        world: just reset.
        source: of the actions.
        log: where everything goes, what the live recorder would have written; not closed here.
        render: make images and observations; without, a source gets no observation.
        start: virtual time of the beginning [ns].
        episode_id: of the statuses.
        on_tick: called before every tick with the time since the start [s]; may wait (a speed, a pause,
            single steps); false ends the run.  Without, it goes as fast as the machine can.

    Raises what the strip, the source and the log raise.
    """
    run = _Run(contract, world, source, log, render, start, episode_id)
    while not run.over:
        if run.ticking and on_tick is not None and not on_tick(run.elapsed):
            run.end("stopped from outside")
            break
        run.advance()
    return run.result()


class _Run:
    """One run; every instant is a number of physics steps."""

    def __init__(
        self, contract: Contract, world: World, source: ActionSource, log: BagLog | None,
        render: bool, start: int, episode_id: str,
    ) -> None:  # fmt: skip
        self._contract, self._world, self._source, self._log = contract, world, source, log
        self._start, self._id, self._task = start, episode_id, world.task
        self._dt = float(world.model.opt.timestep)
        self._tick_every = self._steps(1.0 / contract.control_rate)
        rate = contract.robot.simulated_joint_state_rate
        self._joints_every = self._steps(1.0 / rate)
        grip = float(str(contract.robot.driver.gripper.get("joint_state_rate", rate)))
        self._grip_every, self._wrench_every = max(1, round(rate / grip)), max(1, round(rate / WRENCH_RATE))
        self._cameras = dict(contract.cameras) if render else {}
        self._frames = dict.fromkeys(self._cameras, 0)
        self._samples = self._actions = 0
        self._index = 0
        self._first = self._steps(LEAD_IN)
        self._done: int | None = None
        self._verdict: Verdict | None = None
        self._width: float | None = None
        self._line = Line(contract, log)
        self.over = False
        self._begin()

    def _steps(self, seconds: float) -> int:
        return max(1, round(seconds / self._dt))

    def _begin(self) -> None:
        source, log, stamp = self._source, self._log, self._start
        source.begin(self._task.instruction)
        if log is not None:
            log.instruction(stamp, self._task.instruction)
            task = self._task
            log.scene(
                stamp, Scene(self._contract.robot.name, task.name, task.instruction, task.seed).to_json()
            )
            log.authority(stamp, source.source, source.device)
        self._events()

    @property
    def elapsed(self) -> float:
        """Simulated seconds since the start."""
        return self._index * self._dt

    @property
    def ticking(self) -> bool:
        """Whether the present instant is one of the controller's."""
        return self._index % self._tick_every == 0

    @property
    def _stamp(self) -> int:
        return self._start + round(self._index * self._dt * NANOSECONDS)

    def advance(self) -> None:
        """To the next instant at which anything happens, and do it."""
        nxt = min(self._upcoming())
        self._world.step(nxt - self._index)
        self._index = nxt
        self._events()

    def _upcoming(self) -> list[int]:
        i = self._index
        following = [
            (i // every + 1) * every
            for every in (self._tick_every, self._joints_every, self._steps(STATUS_PERIOD))
        ]
        cameras = [max(self._due(name), i + 1) for name in self._cameras]
        return [*following, *cameras, max(self._due_action(), i + 1)]

    def _due(self, camera: str) -> int:
        """Index at which the next frame of a camera is due."""
        return round(self._frames[camera] / (self._cameras[camera].rate * self._dt))

    def _grid(self, step: int) -> int:
        """Stamp of a step of the action grid [ns]."""
        first = self._start + round(self._first * self._dt * NANOSECONDS)
        return first + round(step * self._source.period * NANOSECONDS)

    def _due_action(self) -> int:
        if self._done is not None:
            return self._index + self._tick_every
        # the last instant not later than the stamp
        return int((self._grid(self._actions) - self._start) / (self._dt * NANOSECONDS) + 1e-6)

    # ---- what happens at an instant, in this order

    def _events(self) -> None:
        index = self._index
        if index % self._joints_every == 0:
            self._report()
        for name, camera in self._cameras.items():
            if index >= self._due(name):
                self._frames[name] += 1
                rgb = self._world.render(name)
                if self._log is not None:
                    self._log.frame(camera, self._stamp, rgb)
                self._line.frame(name, CameraImage(self._stamp, rgb), self._stamp)
        if self.ticking:
            self._tick()
        if index % self._steps(STATUS_PERIOD) == 0:
            self._judge()
        if self._done is None and index >= self._due_action():
            self._act()

    def _report(self) -> None:
        world = self._world
        sample = Sample(
            self._stamp, self.elapsed, *world.joint_state(), world.gripper_width(), world.gripper_speed(),
            world.gripper_force(), world.finger_positions(), world.wrench(),
        )  # fmt: skip
        gripper = self._samples % self._grip_every == 0
        self._line.joints(sample, gripper)
        if self._log is not None:
            self._log.joints(sample, gripper, self._samples % self._wrench_every == 0)
        self._samples += 1

    def _tick(self) -> None:
        tick = self._line.tick(self._stamp)
        self._world.set_joint_command(tick.setpoint.positions)
        if self._width is None or abs(tick.gripper_target - self._width) >= 1e-4:
            self._width = tick.gripper_target
            self._world.set_gripper(self._width)
            if self._log is not None:
                self._log.gripper_command(self._stamp, self._width)
        if self._log is not None:
            self._log.command(self._stamp, tick.setpoint.positions)

    def _act(self) -> None:
        stamp, line = self._grid(self._actions), self._line
        moment = Moment(
            stamp, self._actions, line.observation, line.measured(), line.target(), line.commanded(),
            self._world.gripper_width(), line.gripper(stamp),
        )  # fmt: skip
        output = self._source.act(moment)
        if output is None:
            self._done = self._index
            return
        self._actions += 1
        if self._log is not None:
            self._log.output(output, self._source.name, self._task.instruction, stamp)
        line.output(output, stamp)

    def _judge(self) -> None:
        """Statuses; the end of the run."""
        verdict, latched = self._world.verdict, self._line.latched
        if verdict.outcome is Outcome.RUNNING and latched:
            verdict = Verdict(Outcome.FAILURE, latched, verdict.elapsed)
        elif verdict.outcome is Outcome.RUNNING and self._settled:
            reason = f"the {self._source.name.replace('_', ' ')} had nothing more to say"
            verdict = Verdict(Outcome.FAILURE, reason, verdict.elapsed)
        self._tell(verdict)
        if verdict.outcome is not Outcome.RUNNING:
            self._verdict, self.over = verdict, True

    @property
    def _settled(self) -> bool:
        """Whether the judge has had its time after the last action."""
        return self._done is not None and (self._index - self._done) * self._dt >= SETTLE

    def end(self, reason: str) -> None:
        """End it as a failure."""
        self._verdict = Verdict(Outcome.FAILURE, reason, self.elapsed)
        self._tell(self._verdict)
        self.over = True

    def _tell(self, verdict: Verdict) -> None:
        if self._log is None:
            return
        fields: Mapping[str, Any] = {
            "task": self._task.name, "instruction": self._task.instruction, "outcome": int(verdict.outcome),
            "reason": verdict.reason, "elapsed": verdict.elapsed,
        }  # fmt: skip
        self._log.episode(self._stamp, {"episode_id": "scene_0000", **fields, "steps": 0, "interventions": 0},
                          judge=True)  # fmt: skip
        self._log.episode(self._stamp, {"episode_id": self._id, **fields, "elapsed": self.elapsed,
                                        "steps": self._actions,
                                        "interventions": self._line.interventions})  # fmt: skip

    def result(self) -> Rollout:
        """How it went."""
        verdict = self._verdict or self._world.verdict
        return Rollout(verdict, self._actions, self.elapsed, self._line.interventions)
