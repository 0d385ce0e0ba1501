"""A recorded run gone through again exactly as it went: the proof that the offline path is the live one.

The recorded setpoints say when each tick was, which joint state it knew and which chunk was in force; the
journal says what was done by hand.  Fed with the same, the same controller must answer the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.control.controller import SafetyController
from vla_ros.errors import ActionError, DataError
from vla_ros.lockstep.recorded import RecordedRun, SetpointRow, without_forces
from vla_ros.lockstep.schedule import KnownJoints, Schedule, do_again, find_again, recorded_schedule
from vla_ros.policies.registry import policy_scaling
from vla_ros.types import ActionChunk, Array, JointState, Source


@dataclass(frozen=True)
class Parity:
    """How far the two paths are apart, the largest over all ticks."""

    ticks: int
    """Compared."""
    position: float
    """[rad]"""
    velocity: float
    acceleration: float
    width: float
    """[m]"""
    states: int
    """Ticks in which the states differ."""
    chunks: int
    """Outputs decoded again."""
    chunk_error: float
    """Largest difference of any number of a chunk."""
    first: str = ""
    """Where commands differ for the first time by more than 1e-9; empty: nowhere."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """What the bag lacked."""

    @property
    def worst(self) -> float:
        """The largest difference of any command."""
        return max(self.position, self.velocity, self.acceleration, self.width)


def run_parity(run: RecordedRun) -> Parity:
    """Step the controller through a recorded run.  Raises `DataError` when the bag lacks what that takes."""
    schedule = recorded_schedule(run)
    if not schedule.activated:
        raise DataError(
            f"{run.path} does not say how its controller was activated: its recorder began later, or is of "
            "an older version; record the whole run."
        )
    return _Stepper(run, schedule).compare()


class _Stepper:
    def __init__(self, run: RecordedRun, schedule: Schedule) -> None:
        self._run, self._schedule = run, schedule
        self._controller = SafetyController(without_forces(run.contract), 1.0 / run.contract.control_rate)
        self._notes: list[str] = []
        if run.contract.robot.contact.force is not None:
            self._notes.append("forces at the wrist are not gone through again: no stop or hold by them")

    def compare(self) -> Parity:
        run, controller, ticks = self._run, self._controller, self._schedule.ticks
        if self._schedule.missing:
            self._notes.append(f"{self._schedule.missing} ticks are not in the bag")
        known = {(chunk.stamp, chunk.sequence): chunk for chunk in run.chunks}
        begin = next(tick.row.stamp for tick in ticks if tick.row is not None)
        joints = KnownJoints(run.joints)
        worst, differing, where = np.zeros(4), 0, ""
        measured: JointState | None = None
        for tick in ticks:
            came = joints.before(tick)
            for key in tick.refused:
                if key in known:
                    controller.submit(known[key], tick.moment, tick.now)
            if tick.chunk in known:
                controller.submit(known[tick.chunk], tick.moment, tick.now)
            elif tick.chunk is not None:
                self._notes.append(f"the chunk in force at tick {tick.number} is not in the bag")
            if came:
                measured = came[-1]
                controller.observe(came)
            for event in tick.events:
                do_again(controller, event, measured, tick.moment)
            find_again(controller, tick)
            row = tick.row
            given = measured if row is None or row.measured_stamp else None
            done = controller.update(tick.moment, tick.now, given, 0.0).setpoint
            if row is None:
                continue
            error = _errors(done, row)
            if error.max() > 1e-9 and not where:
                where = f"tick {tick.number}, {(row.stamp - begin) / 1e9:.3f} s: {error.max():.2e}"
            worst = np.maximum(worst, error)
            differing += int(controller.state) != row.state
        if joints.missing:
            self._notes.append(f"the newest joint states of {joints.missing} ticks are not in the bag")
        count, chunk_error = self._decoded()
        position, velocity, acceleration, width = (float(value) for value in worst)
        return Parity(
            len(ticks) - self._schedule.missing, position, velocity, acceleration, width, differing, count,
            chunk_error, where, tuple(self._notes),
        )  # fmt: skip

    def _decoded(self) -> tuple[int, float]:
        """Every recorded output decoded again, against the chunk that the live chunker made of it."""
        run = self._run
        space, gripper = run.contract.action_space, run.contract.robot.gripper
        memory = GripperMemory(space.gripper, gripper)
        outputs = {(a.output.stamp, a.output.sequence): a.output for a in run.answers}
        count, worst = 0, 0.0
        for chunk in run.chunks:
            output = outputs.get((chunk.stamp, chunk.sequence))
            if output is None:
                memory.remember(chunk)
                continue
            scaling = (None, None) if output.source is Source.PERSON else policy_scaling(run.contract)
            try:
                again = decode(output, space, gripper, *scaling, memory.at(output.stamp))
            except ActionError as error:
                raise DataError(f"{run.path}: output {output.sequence} is refused now: {error}.") from error
            memory.remember(again)
            count += 1
            worst = max(worst, _chunk_error(again, chunk))
        return count, worst


def _errors(done: Any, row: SetpointRow) -> Array:
    return np.array(
        [
            np.abs(done.positions - row.positions).max(),
            np.abs(done.velocities - row.velocities).max(),
            np.abs(done.accelerations - row.accelerations).max(),
            abs(done.gripper_width - row.width),
        ]
    )


def _chunk_error(one: ActionChunk, other: ActionChunk) -> float:
    if one.horizon != other.horizon or one.kind is not other.kind:
        return float("inf")
    worst = float(np.abs(one.gripper_width - other.gripper_width).max())
    for name in ("translation", "quaternion", "joints"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None):
            return float("inf")
        if a is not None:
            worst = max(worst, float(np.abs(a - b).max()))
    return worst
