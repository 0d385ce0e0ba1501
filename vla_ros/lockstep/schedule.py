"""When a recorded controller ticked, what it knew then, and what was done to it in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_ros.control.controller import SafetyController
from vla_ros.errors import DataError
from vla_ros.lockstep.recorded import RecordedRun, SetpointRow
from vla_ros.types import (
    NANOSECONDS,
    Array,
    Intervention,
    InterventionAction,
    JointState,
    Reason,
)

ChunkKey = tuple[int, int]
"""Stamp of its observation [ns] and sequence number of a chunk."""


@dataclass(frozen=True)
class RecordedTick:
    """One tick of a recorded controller, whether or not its setpoint is in the bag."""

    number: int
    """As the controller counts."""
    now: int
    """ROS time [ns]."""
    moment: float
    """The controller's time [s], summed up as the live loop does."""
    row: SetpointRow | None
    """What was commanded; None: it is not in the bag."""
    known: int
    """Stamp of the newest joint state that it knew [ns]; 0: none."""
    events: tuple[dict[str, Any], ...]
    """Of the journal, between the tick before and this one."""
    found: tuple[dict[str, Any], ...]
    """Of the journal, within this tick: what was found outside, of robot, driver or watchdog."""
    chunk: ChunkKey | None
    """Of the chunk that came into force with this tick."""
    refused: tuple[ChunkKey, ...]
    """Of chunks that were refused between the tick before and this one."""


@dataclass(frozen=True)
class Schedule:
    """All ticks of a recorded run, from its activation on or from the first that is in the bag."""

    ticks: tuple[RecordedTick, ...]
    activated: bool
    """Whether the first tick's events hold the activation."""

    @property
    def missing(self) -> int:
        """Ticks that are not in the bag."""
        return sum(tick.row is None for tick in self.ticks)


def recorded_schedule(run: RecordedRun) -> Schedule:
    """The ticks of a run.  Raises `DataError` when the bag holds no setpoints."""
    rows = {row.tick: row for row in run.setpoints if row.tick > 0}
    if not rows:
        raise DataError(f"{run.path} holds no setpoints, so there is nothing to compare with.")
    events: dict[int, list[dict[str, Any]]] = {}
    for event in run.events:
        events.setdefault(int(event["tick"]), []).append(event)
    begun = next((event for event in run.events if event.get("event") == "activate"), None)
    # a tick before the first is where what was done before the first is looked for
    first = min(rows) - 1 if begun is None else int(begun["tick"])
    numbers = sorted(number for number in rows if number > first)
    if not numbers:
        raise DataError(f"{run.path} holds no setpoint after its controller was activated.")
    period = 1.0 / run.contract.control_rate
    step = round(period * NANOSECONDS)
    stamp = rows[numbers[0]].stamp - (numbers[0] - first - 1) * step
    moment, before, ticks = 0.0, (0, 0), []
    for number in range(first + 1, numbers[-1] + 1):
        row = rows.get(number)
        now = stamp if row is None else row.stamp
        stamp = now + step
        moment += period
        lines = events.get(number - 1, [])
        done = [event for event in lines if event["event"] not in ("found", "refused")]
        refused = tuple((int(e["stamp"]), int(e["sequence"])) for e in lines if e["event"] == "refused")
        # the schedule's own time is told by these two
        told = [
            event for event in done
            if event["event"] == "clock" or (event["event"] == "activate" and number - 1 == first)
        ]  # fmt: skip
        moment = float(told[0]["time"]) if told else moment
        chunk = None
        if row is not None and (row.observation_stamp, row.sequence) != before:
            before = (row.observation_stamp, row.sequence)
            chunk = before if row.observation_stamp else None
        found = tuple(event for event in events.get(number, []) if event["event"] == "found")
        known = now if row is None else row.measured_stamp
        ticks.append(RecordedTick(number, now, moment, row, known, tuple(done), found, chunk, refused))
    return Schedule(tuple(ticks), begun is not None)


class KnownJoints:
    """The joint states that a recorded controller knew, tick by tick, in order."""

    def __init__(self, states: Sequence[JointState]) -> None:
        """`states` of the bag, by their stamps."""
        self._states, self._at, self._newest = states, 0, 0
        self.missing = 0
        """Newest states of a tick that are not in the bag; they are interpolated."""

    def before(self, tick: RecordedTick) -> list[JointState]:
        """Those that came since the last call, the newest that the tick knew last."""
        states, begin = self._states, self._at
        while self._at < len(states) and states[self._at].stamp <= tick.known:
            self._at += 1
        came = list(states[begin : self._at])
        if tick.row is None or tick.known <= self._newest:
            return came
        self._newest = tick.known
        if 0 < self._at < len(states) and states[self._at - 1].stamp < tick.known:
            self.missing += 1
            came.append(_between(states[self._at - 1], states[self._at], tick.known))
        return came


def _between(before: JointState, after: JointState, stamp: int) -> JointState:
    """Linear in time."""
    share = (stamp - before.stamp) / (after.stamp - before.stamp)

    def mixed(a: Array, b: Array) -> Array:
        return a + share * (b - a) if len(a) == len(b) else a

    return JointState(
        stamp,
        mixed(before.positions, after.positions),
        mixed(before.velocities, after.velocities),
        mixed(before.efforts, after.efforts),
    )


def do_again(
    controller: SafetyController, event: dict[str, Any], measured: JointState | None, moment: float
) -> None:
    """Do what a line of the journal says was done; `moment` [s] is the tick's, where the line has none."""
    kind, moment = event["event"], float(event.get("time", moment))
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
    elif kind == "stalled":
        controller.stalled_at_rest(float(event["gap"]), moment)


def find_again(controller: SafetyController, tick: RecordedTick) -> None:
    """Have the controller find in this tick what was found outside of what a bag holds."""
    for event in tick.found:
        if not event["reason"]:
            controller.supervision.recorded = None
            continue
        action, reason = InterventionAction(event["action"]), Reason(event["reason"])
        found = Intervention(action, reason, event["subject"], float(event["amount"]))
        controller.supervision.recorded = found, event["sentence"]
