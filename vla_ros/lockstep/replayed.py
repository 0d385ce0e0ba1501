"""A bag gone through again: what the strip makes of it today, the same to the last bit.

Nothing here looks at a wall clock.  Where the bag says when its controller ticked, what it knew then and
what was done to it (`lockstep/schedule.py`), the controller ticks then; else on a regular grid.  The robot
that is measured is the recorded one, moved along by as much as what is commanded today differs from what was
commanded then: a robot that is told something else is somewhere else, as far from its command as it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from vla_ros.contract import Contract
from vla_ros.control.controller import SafetyController
from vla_ros.errors import DataError
from vla_ros.lockstep.recorded import RecordedRun, SetpointRow, Stretch, without_forces
from vla_ros.lockstep.schedule import (
    ChunkKey,
    KnownJoints,
    RecordedTick,
    Schedule,
    do_again,
    find_again,
    recorded_schedule,
)
from vla_ros.lockstep.strip import Strip, Window
from vla_ros.lockstep.trace import Trace
from vla_ros.policies.base import Policy
from vla_ros.preflight import preflight
from vla_ros.types import NANOSECONDS, ActionChunk, JointSetpoint, JointState

LEAD_IN = 0.5
"""Seconds before the first answer at which an episode's trace begins; on a grid the controller does too."""
RUN_OUT = 1.0
"""Seconds after the last target: the planned stop is part of what is compared."""
EASED = 2.0
"""Seconds before the first tick at which the activation is taken to have been where a bag does not hold it:
the speed limits have grown to the whole by then."""
_BY_HAND = frozenset({"activate", "move", "stop", "reset"})
"""Lines of the journal that, after an episode's end, belong to what comes next or to the end of the run."""


def replay_run(
    run: RecordedRun, contract: Contract | None = None, policy: Policy | None = None, latency: float = 0.1,
    grid: bool = False,
) -> Iterator[Trace]:  # fmt: skip
    """Step through every episode of a recorded run.

    Args:
        run: the bag, with its setpoints.
        contract: instead of the recorded one, of the same robot.
        policy: asked anew; None: the recorded answers are taken.
        latency: of the policy, observation to answer [s].
        grid: tick on a regular grid and take the recorded joints as they are, also where the bag says more,
            as golden files of format 1 were made.

    Raises `ContractError` when the policy does not fit, `DataError` when an episode has no answers or the
    robot is another.
    """
    contract = contract or run.contract
    if contract.robot.name != run.contract.robot.name:
        raise DataError(
            f"{run.path} was recorded with robot '{run.contract.robot.name}', "
            f"but the contract of {contract.source} says '{contract.robot.name}'."
        )
    if policy is not None:
        preflight(contract, policy.requirements)
    if not run.episodes:
        raise DataError(f"{run.path} holds no episode: nothing on /vla/episode_status runs.")
    controller = SafetyController(without_forces(contract), 1.0 / contract.control_rate)
    windows = [_window(run, contract, stretch) for stretch in run.episodes]
    if not grid and run.setpoints and contract.control_rate == run.contract.control_rate:
        schedule = recorded_schedule(run)
        windows = [_clipped(window, schedule) for window in windows]
        _Again(run, contract, windows, controller, schedule, policy, latency).go()
    else:
        for window in windows:
            _step_on_grid(run, contract, window, controller, policy, latency, carried=not grid)
    for window in windows:
        if not window.trace.ticks:
            raise DataError(f"{run.path}, episode '{window.stretch.episode_id}' holds no joint states.")
        yield window.trace


def _clipped(window: Window, schedule: Schedule) -> Window:
    """Up to where, after the episode's end, the next begins or the controller is taken down."""
    for tick in schedule.ticks:
        after = tick.now > window.stretch.end and any(event["event"] in _BY_HAND for event in tick.events)
        if after:
            return replace(window, end=min(window.end, tick.now - 1))
    return window


def _window(run: RecordedRun, contract: Contract, stretch: Stretch) -> Window:
    answers = [answer.output for answer in run.answers if stretch.start <= answer.output.stamp <= stretch.end]
    if not answers:
        raise DataError(f"{run.path}, episode '{stretch.episode_id}' holds no answers of a policy.")
    start = min(output.stamp for output in answers) - round(LEAD_IN * NANOSECONDS)
    last = max(output.stamp for output in answers)
    horizon = max(1 if output.values is None else len(output.values) for output in answers)
    end = last + round((horizon * contract.action_space.period + RUN_OUT) * NANOSECONDS)
    if run.joints:
        # behind the end of a bag nobody can say what the robot did
        end = min(end, run.joints[-1].stamp)
    return Window(Trace(stretch.episode_id, stretch.instruction, start), stretch, end)


class _Again:
    """The recorded ticks, each with what the recorded controller knew and what was done to it."""

    def __init__(
        self, run: RecordedRun, contract: Contract, windows: list[Window], controller: SafetyController,
        schedule: Schedule, policy: Policy | None, latency: float,
    ) -> None:  # fmt: skip
        self._windows = windows
        self._controller, self._schedule = controller, schedule
        ticks = schedule.ticks
        self._strip = Strip(
            run, contract, windows, ticks[0].now, ticks[-1].now, [] if policy else run.answers, policy,
            latency, lambda state: None,
        )  # fmt: skip
        self._recorded = set() if policy else {(chunk.stamp, chunk.sequence) for chunk in run.chunks}
        """Chunks of which the bag says whether and when the controller took or refused them."""
        self._joints = KnownJoints(run.joints)
        self._chunks: dict[ChunkKey, ActionChunk] = {}
        self._given: JointState | None = None
        self._command: JointSetpoint | None = None
        self._then: SetpointRow | None = None

    def go(self) -> None:
        """Go through all of them."""
        controller, ticks = self._controller, self._schedule.ticks
        measured: JointState | None = None
        begun = self._schedule.activated
        for tick in ticks:
            came = self._joints.before(tick)
            for chunk in self._due(tick):
                _, sentence = controller.submit(chunk, tick.moment, tick.now)
                if sentence:
                    self._strip.refused(sentence)
            if came:
                measured = came[-1]
                # touches are what was felt then
                controller.observe(came)
                self._given = _carried(measured, self._command, self._then)
            for event in tick.events:
                do_again(controller, event, self._given, tick.moment)
            if not begun:
                begun = self._begin(tick, measured)
            find_again(controller, tick)
            given = None if tick.row is not None and not tick.row.measured_stamp else self._given
            done = controller.update(tick.moment, tick.now, given, 0.0)
            if tick.row is not None:
                self._command, self._then = done.setpoint, tick.row
            for window in self._windows:
                if window.holds(tick.now):
                    window.trace.keep(tick.now, done, controller.executor.sequence)

    def _begin(self, tick: RecordedTick, measured: JointState | None) -> bool:
        """A bag that begins after the activation: at rest at what was commanded first."""
        if tick.row is None or measured is None:
            return False
        start = replace(measured, positions=tick.row.positions)
        self._controller.activate(start, tick.row.width, tick.moment - EASED)
        return True

    def _due(self, tick: RecordedTick) -> list[ActionChunk]:
        """What the controller takes over before this tick: what it took then; what is new, when it comes."""
        for chunk in self._strip.until(tick.now):
            self._chunks[(chunk.stamp, chunk.sequence)] = chunk
        looked_at = {tick.chunk, *tick.refused}
        due = [key for key in self._chunks if key in looked_at or key not in self._recorded]
        return [self._chunks.pop(key) for key in due]


def _carried(state: JointState, now: JointSetpoint | None, then: SetpointRow | None) -> JointState:
    """The recorded joints, moved along by what is commanded now beyond what was then."""
    if now is None or then is None:
        return state
    velocities = state.velocities
    if len(velocities):
        velocities = velocities + (now.velocities - then.velocities)
    return replace(state, positions=state.positions + (now.positions - then.positions), velocities=velocities)


def _step_on_grid(
    run: RecordedRun, contract: Contract, window: Window, controller: SafetyController, policy: Policy | None,
    latency: float, carried: bool,
) -> None:  # fmt: skip
    """One episode on a regular grid, from rest at the recorded posture.

    `carried`: the measured robot is moved along with the commands, where the bag says what they were; else it
    is the recorded one as it is.
    """
    stretch, start = window.stretch, window.trace.start
    answers = [] if policy else [a for a in run.answers if stretch.start <= a.output.stamp <= stretch.end]
    came: list[JointState] = []
    strip = Strip(run, contract, [window], start, window.end, answers, policy, latency, came.append)
    period = round(NANOSECONDS / contract.control_rate)
    rows = run.setpoints if carried else []
    stamps = [row.stamp for row in rows]
    command: JointSetpoint | None = None
    measured: JointState | None = None
    for number in range((window.end - start) // period + 1):
        now, time = start + number * period, number / contract.control_rate
        chunks = strip.until(now)
        if came and measured is None:
            width, opened = strip.width(now), contract.robot.gripper.max_width
            then = _at(rows, stamps, now)
            rest = came[-1] if then is None else replace(came[-1], positions=then.positions)
            controller.activate(
                rest, opened if width is None else width, time if then is None else time - EASED
            )
        if not came and measured is None:
            continue
        for chunk in chunks:
            _, sentence = controller.submit(chunk, time, now)
            if sentence:
                strip.refused(sentence)
        if came:
            then = None if command is None else _at(rows, stamps, command.stamp)
            measured = _carried(came[-1], command, then)
            controller.observe(list(came))
            came.clear()
        if measured is not None:
            # how old a state was when the controller looked, the ticks alone would say
            age = 0.0 if rows else (now - measured.stamp) / NANOSECONDS
            tick = controller.update(time, now, measured, age)
            command = tick.setpoint
            window.trace.keep(now, tick, controller.executor.sequence)


def _at(rows: list[SetpointRow], stamps: list[int], now: int) -> SetpointRow | None:
    """What was commanded last at `now` [ns]; `stamps` are those of the rows."""
    place = bisect_right(stamps, now) - 1
    return rows[place] if place >= 0 else None
