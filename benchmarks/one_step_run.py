"""One episode of a policy that answers one step at a time and late, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.contract import Contract, load_contract
from vla_ros.errors import PolicyError
from vla_ros.evaluation.violations import count_violations
from vla_ros.lockstep.line import Line
from vla_ros.lockstep.simulated import START, Scene, make_world
from vla_ros.policies.registry import contract_policy
from vla_ros.sim.judge import Outcome
from vla_ros.sim.realtime import Sample
from vla_ros.sim.world import World
from vla_ros.types import NANOSECONDS, Array, CameraImage, PolicyOutput

LEAD_IN = 0.2
"""Seconds before the first image."""
MOVING = 1e-3
"""An answer that asks for less [m] may end in rest."""


@dataclass(frozen=True)
class Cell:
    """Steps a second [Hz], and how old answers are when they come [s]."""

    robot: str
    rate: float
    age: float

    @property
    def interval(self) -> float:
        """Seconds between answers: the policy begins the next when it has given one."""
        return max(1.0 / self.rate, self.age)

    def contract(self) -> Contract:
        """Of `visual_servo` with one step an answer; nothing in it depends on the age."""
        return load_contract(
            self.robot, simulated=True, policy="visual_servo", policy_options={"horizon": 1},
            action_rate=self.rate,
        )  # fmt: skip


@dataclass(frozen=True)
class Episode:
    """How it went."""

    success: bool
    reason: str
    seconds: float
    answers: int
    refused: int
    rests: int
    """Times the robot rested after an answer that asked for motion, as the one before it did."""
    broken: int
    """Limits broken by the commands, by the independent judge."""
    pace: float
    """Median share of the policy's own pace."""
    interventions: int


class _Run:
    """World, strip and policy on one clock of physics steps."""

    def __init__(self, cell: Cell, world: World, contract: Contract) -> None:
        self._cell, self._world, self._contract = cell, world, contract
        self._dt = float(world.model.opt.timestep)
        self._line = Line(contract, None)
        self._policy = contract_policy(contract)
        self._policy.load()
        self._policy.reset(world.task.instruction)
        self._tick_every = round(1.0 / (contract.control_rate * self._dt))
        rate = contract.robot.simulated_joint_state_rate
        self._joints_every = round(1.0 / (rate * self._dt))
        self._next = LEAD_IN
        self._waiting: list[tuple[float, PolicyOutput]] = []
        self._width = -1.0
        self._asked = self._goes_on = self._rested = False
        """Whether the answer in force asks for motion; the one before did too; the robot rested."""
        self.commands: list[Array] = []
        self.paces: list[float] = []
        self.answers = self.rests = 0
        self.said = ""

    def go(self) -> Episode:
        """Until the judge has decided, the policy has said that it is done, or time is up."""
        world, index, done_at = self._world, 0, np.inf
        while world.verdict.outcome is Outcome.RUNNING and not self._line.latched:
            now = index * self._dt
            if now > done_at + 2.0:
                break
            stamp = START + round(now * NANOSECONDS)
            if index % self._joints_every == 0:
                self._report(stamp, now)
            if now >= self._next - 1e-9:
                self._next += self._cell.interval
                if self._ask(stamp, now):
                    done_at = min(done_at, now)
            while self._waiting and self._waiting[0][0] <= now + 1e-9:
                self._take(self._waiting.pop(0)[1], stamp)
            if index % self._tick_every == 0:
                self._tick(stamp)
            world.step(1)
            index += 1
        verdict = world.verdict
        found = count_violations(
            np.arange(len(self.commands)), np.array(self.commands), self._contract.robot.applied,
            1.0 / self._contract.control_rate,
        )  # fmt: skip
        return Episode(
            verdict.outcome is Outcome.SUCCESS, self._line.latched or verdict.reason or self.said,
            index * self._dt, self.answers, len(self._line.sentences), self.rests, len(found),
            float(np.median(self.paces)) if self.paces else 0.0, self._line.interventions,
        )  # fmt: skip

    def _report(self, stamp: int, now: float) -> None:
        world = self._world
        self._line.joints(
            Sample(stamp, now, *world.joint_state(), world.gripper_width(), world.gripper_speed(),
                   world.gripper_force(), world.finger_positions(), world.wrench()), True
        )  # fmt: skip

    def _ask(self, stamp: int, now: float) -> bool:
        """Show the policy what there is; whether it says that the task is done."""
        for name in self._contract.cameras:
            self._line.frame(name, CameraImage(stamp, self._world.render(name)), stamp)
        observation = self._line.observation
        if observation is None:
            return False
        try:
            output = self._policy.infer(observation)
        except PolicyError as error:
            self.said = str(error)
            return True
        self._waiting.append((now + self._cell.age, output))
        return output.terminate

    def _take(self, output: PolicyOutput, stamp: int) -> None:
        self.rests += self._rested
        asked = output.values is not None and float(np.linalg.norm(output.values[0, :3])) > MOVING
        self._goes_on, self._asked, self._rested = asked and self._asked, asked, False
        self.answers += 1
        self._line.output(output, stamp)

    def _tick(self, stamp: int) -> None:
        tick = self._line.tick(stamp)
        self.commands.append(tick.setpoint.positions)
        if self.answers:
            self.paces.append(self._line.controller.executor.pace)
        self._rested |= self._goes_on and float(np.abs(tick.setpoint.velocities).max()) < 1e-9
        self._world.set_joint_command(tick.setpoint.positions)
        if abs(tick.gripper_target - self._width) >= 1e-4:
            self._width = tick.gripper_target
            self._world.set_gripper(self._width)


def episode(cell: Cell, task: str, seed: int) -> Episode:
    """One episode of a cell.  Raises what the world, the contract and the policy raise."""
    contract = cell.contract()
    world = make_world(contract, Scene(cell.robot, task, "", seed))
    try:
        return _Run(cell, world, contract).go()
    finally:
        world.close()


def summary(episodes: list[Episode]) -> Mapping[str, Any]:
    """Figures of a cell."""
    return {
        "succeeded": sum(one.success for one in episodes),
        "episodes": len(episodes),
        "seconds": float(np.median([one.seconds for one in episodes])),
        "answers": sum(one.answers for one in episodes),
        "refused": sum(one.refused for one in episodes),
        "rests": sum(one.rests for one in episodes),
        "limits_broken": sum(one.broken for one in episodes),
        "pace": float(np.median([one.pace for one in episodes])),
        "failures": [one.reason for one in episodes if not one.success],
    }
