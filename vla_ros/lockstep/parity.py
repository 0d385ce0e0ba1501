"""A recorded run gone through again exactly as it went: the proof that the offline path is the live one.

The recorded setpoints say when each tick was, which joint state it knew and which chunk was in force; the
journal says what was done by hand.  Fed with the same, the same controller must answer the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.control.controller import SafetyController
from vla_ros.errors import ActionError, DataError
from vla_ros.lockstep.recorded import RecordedRun, SetpointRow, without_forces
from vla_ros.policies.registry import policy_scaling
from vla_ros.types import NANOSECONDS, ActionChunk, Array, JointState, Reason, Source


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
    rows = [row for row in run.setpoints if row.tick > 0]
    begun = next((event for event in run.events if event.get("event") == "activate"), None)
    if not rows:
        raise DataError(f"{run.path} holds no setpoints, so there is nothing to compare with.")
    if begun is None:
        raise DataError(
            f"{run.path} does not say how its controller was activated: its recorder began later, or is of "
            "an older version; record the whole run."
        )
    stepper = _Stepper(run, rows)
    return stepper.compare()


class _Stepper:
    def __init__(self, run: RecordedRun, rows: Sequence[SetpointRow]) -> None:
        self._run, self._period = run, 1.0 / run.contract.control_rate
        self._rows = {row.tick: row for row in rows}
        self._controller = SafetyController(without_forces(run.contract), self._period)
        self._events: dict[int, list[dict[str, Any]]] = {}
        for event in run.events:
            self._events.setdefault(int(event["tick"]), []).append(event)
        self._notes: list[str] = []
        if run.contract.robot.contact.force is not None:
            self._notes.append("forces at the wrist are not gone through again: no stop or hold by them")

    def compare(self) -> Parity:
        run, controller = self._run, self._controller
        first = int(next(e for e in run.events if e["event"] == "activate")["tick"])
        ticks = sorted(tick for tick in self._rows if tick > first)
        if not ticks:
            raise DataError(f"{run.path} holds no setpoint after its controller was activated.")
        lost = ticks[-1] - first - len(ticks)
        if lost:
            self._notes.append(f"{lost} ticks are not in the bag")
        chunks = self._schedule([self._rows[tick] for tick in ticks])
        states, at = run.joints, 0
        worst, differing, where = np.zeros(4), 0, ""
        measured: JointState | None = None
        stamp = self._rows[ticks[0]].stamp - (ticks[0] - first - 1) * round(self._period * NANOSECONDS)
        moment = 0.0
        for tick in range(first + 1, ticks[-1] + 1):
            row = self._rows.get(tick)
            now = row.stamp if row is not None else stamp
            stamp = now + round(self._period * NANOSECONDS)
            moment += self._period
            events = self._events.get(tick - 1, [])
            # what a person asks for happens between two ticks; the schedule's own time is told by these two
            told = [
                e for e in events if e["event"] == "clock" or (e["event"] == "activate" and tick - 1 == first)
            ]
            moment = float(told[0]["time"]) if told else moment
            known = row.measured_stamp if row is not None else now
            came = []
            while at < len(states) and states[at].stamp <= known:
                came.append(states[at])
                at += 1
            for chunk in chunks.get(tick, ()):
                controller.submit(chunk, moment, now)
            if came:
                measured = came[-1]
                controller.observe(came)
            for event in events:
                self._do(event, measured, float(event.get("time", moment)))
            given = measured if row is None or row.measured_stamp else None
            done = controller.update(moment, now, given, 0.0).setpoint
            if row is None:
                continue
            if measured is not None and row.measured_stamp != measured.stamp and len(self._notes) < 3:
                self._notes.append(f"the joint state of tick {tick} is not in the bag")
            error = _errors(done, row)
            if error.max() > 1e-9 and not where:
                where = (
                    f"tick {tick}, {(row.stamp - self._rows[ticks[0]].stamp) / 1e9:.3f} s: {error.max():.2e}"
                )
            worst = np.maximum(worst, error)
            differing += int(controller.state) != row.state
        count, chunk_error = self._decoded()
        position, velocity, acceleration, width = (float(value) for value in worst)
        return Parity(
            len(ticks), position, velocity, acceleration, width, differing, count, chunk_error, where,
            tuple(self._notes),
        )  # fmt: skip

    def _schedule(self, rows: Sequence[SetpointRow]) -> dict[int, list[ActionChunk]]:
        """Tick before which each chunk was taken over; those that were never in force are left out."""
        known: dict[tuple[int, int], ActionChunk] = {(c.stamp, c.sequence): c for c in self._run.chunks}
        plan: dict[int, list[ActionChunk]] = {}
        before: tuple[int, int] = (0, 0)
        for row in rows:
            key = (row.observation_stamp, row.sequence)
            if key != before and row.observation_stamp and key in known:
                plan.setdefault(row.tick, []).append(known[key])
            elif key != before and row.observation_stamp:
                self._notes.append(f"the chunk in force at tick {row.tick} is not in the bag")
            before = key
        return plan

    def _do(self, event: dict[str, Any], measured: JointState | None, moment: float) -> None:
        controller, kind = self._controller, event["event"]
        if kind in ("activate", "reset"):
            start = JointState(0, np.array(event["positions"]), np.zeros(0), np.zeros(0))
            if measured is not None:
                start = replace(measured, positions=start.positions)
            if kind == "activate":
                controller.activate(start, float(event["width"]), moment)
            else:
                controller.reset(start, float(event["width"]), moment)
        elif kind == "stop":
            controller.stop(Reason(event["reason"]), event["subject"], event["sentence"])
        elif kind == "pause":
            controller.pause(moment, event["who"])
        elif kind == "resume":
            controller.resume(moment, event["who"])
        elif kind == "move":
            controller.move_to_joints(np.array(event["positions"]), event["width"], moment)
        elif kind == "overrun":
            controller.overrun(int(event["late"]), moment)

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
