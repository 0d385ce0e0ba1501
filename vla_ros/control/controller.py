"""The safety controller: chunks and joint states in, one safe setpoint a tick out.  No ROS, no clock.

The caller ticks it at a fixed rate and says what time it is.  Whatever comes in, the commanded positions keep
the applied limits on position, velocity, acceleration and jerk, the workspace, the floor and the distances
between the robot's own bodies, because every command passes the shield.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.control.barriers import EnvironmentBarrier, make_barriers
from vla_ros.control.checks import Context, incoming_checks
from vla_ros.control.gripper import GripperShaper
from vla_ros.control.leash import leashed
from vla_ros.control.motion import JointMotion
from vla_ros.control.pipeline import Pipeline
from vla_ros.control.shield import RefusalRate
from vla_ros.control.supervision import FAULTS, OUTSIDE, Finding, Supervision
from vla_ros.control.timing import seconds_between, seconds_to_rest
from vla_ros.errors import ActionError
from vla_ros.execution.blending import make_blending
from vla_ros.execution.executor import ChunkExecutor
from vla_ros.execution.history import History
from vla_ros.robots.collision import Surroundings
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    Array,
    Composition,
    Intervention,
    InterventionAction,
    JointSetpoint,
    JointState,
    Pose,
    Reason,
    SafetyState,
)

_EASE_SECONDS, _EASE_FROM = 1.0, 0.2
"""After activation and reset the speed limits grow from a fifth to the whole within this time."""
_LIMITED_SECONDS = 0.25
"""LIMITED is shown for this long after an intervention."""
_NEXT_CHUNK = 0.05
"""At rest for no longer than this [s] the controller is not starved: one who sends a step at a time, when it
is due, is always a little late, and has lost nothing by it."""
_THERE = 1e-3
"""Nearer than this [rad] a posture is reached already."""
PERSON, WATCHDOG = "person", "watchdog"
"""Who may pause: each takes back a pause of his own alone."""


@dataclass(frozen=True)
class Tick:
    """What one tick gives: the setpoint, the state, and what was done."""

    setpoint: JointSetpoint
    state: SafetyState
    interventions: list[Intervention]
    gripper_target: float
    """Opening the gripper is on its way to [m]."""


class SafetyController:
    """One robot's controller.  Not thread-safe: the loop owns it and hands messages over between ticks."""

    def __init__(self, contract: Contract, period: float) -> None:
        """`period` is the tick [s].  Raises `ConfigurationError` when the robot's files do not fit."""
        self.spec, self.period = contract.robot, period
        self._kinematics = Kinematics(self.spec)
        barriers = make_barriers(self.spec, self._kinematics)
        self.environment = next(item for item in barriers if isinstance(item, EnvironmentBarrier))
        """Its `prepare` makes what `surround` takes."""
        self._pipeline = Pipeline(self.spec, self._kinematics, barriers, period)
        self._shield = self._pipeline.shield
        self._gripper = GripperShaper(self.spec.gripper, period)
        self._checks = incoming_checks(self.spec)
        self.supervision = Supervision(self.spec, self._kinematics, period)
        home = self._kinematics.forward(self.spec.home)
        self._measured = History(self.spec.dof, int(4.0 / period))
        self.executor = ChunkExecutor(self.spec, home, int(4.0 / period), make_blending(contract.blending))
        self.state = SafetyState.IDLE
        self.message = "waiting for joint states"
        self.tick = 0
        self._active = False
        self._events: list[Intervention] = []
        self._eased_from, self._limited_until = 0.0, -np.inf
        self._paused: set[str] = set()
        self._moving = self._has_moved = self._faulty = False
        self._starved = True
        self._refused_at = -1
        self._found: tuple[InterventionAction, Reason, str] | None = None
        self._held = ""
        """Why no chunk is taken for now, one plain sentence; empty: chunks are taken."""
        self._blind = False
        """Whether that is because a touch would not be noticed."""
        self.journal: Callable[[str, dict[str, Any]], None] = _unheard
        """Told of everything done by hand between two ticks, with what it takes to do it again: with joint
        states and chunks that is all a run was made of (see lockstep/parity.py).
        """

    # -- hands ---------------------------------------------------------------------------------------------

    def activate(self, measured: JointState, gripper_width: float, time: float) -> None:
        """Take the measured posture as the commanded one and hold it."""
        self._active = True
        self._forget_measurements()
        self._anchor(measured.positions, gripper_width, time)
        self.state, self.message = SafetyState.IDLE, ""
        self.journal("activate", {"positions": measured.positions, "width": gripper_width, "time": time})

    def emergency_stop(self, reason: str) -> None:
        """Stop as fast as the limits allow and stay stopped until a person resets."""
        self.stop(Reason.EMERGENCY_STOP, "", reason)

    def stop(self, reason: Reason, subject: str, sentence: str) -> None:
        """The same for a reason found outside: its code, whom it is about, and one plain sentence."""
        self._latch(Intervention(InterventionAction.STOP, reason, subject), sentence)
        self.journal("stop", {"reason": reason.value, "subject": subject, "sentence": sentence})

    def reset(
        self, measured: JointState | None, gripper_width: float, time: float, age: float = 0.0
    ) -> tuple[bool, str]:
        """Leave STOPPED or FAULT, only from rest, only by request, only when the robot can be trusted again.

        Arguments as `activate` and `update`.  Returns: whether it was done, and a sentence.
        """
        if self.state not in (SafetyState.STOPPED, SafetyState.FAULT):
            return False, f"nothing to reset in state {self.state.name}"
        objection = self.supervision.objection_to_reset(measured, age, time)
        if measured is None or objection:
            return False, objection
        # within the servo error the command stays what it is, so that the reset itself moves nothing
        near = np.abs(measured.positions - self._shield.motion.positions).max() < 0.02
        self._anchor(self._shield.motion.positions if near else measured.positions, gripper_width, time)
        self._forget_measurements()
        self.state, self.message = SafetyState.IDLE, ""
        self.journal("reset", {"positions": measured.positions, "width": gripper_width, "time": time})
        return True, "reset; motion starts again with the next chunk"

    def pause(self, time: float, who: str = PERSON) -> tuple[bool, str]:
        """Slow down to rest and take no chunk until `who` paused has resumed."""
        if self._latched:
            return False, f"cannot pause in state {self.state.name}"
        self._paused.add(who)
        self._slow_down(time)
        self.journal("pause", {"time": time, "who": who})
        return True, "paused"

    def resume(self, time: float, who: str = PERSON) -> tuple[bool, str]:
        """Take back one's own pause; when it was the last, chunks are taken again, easing in."""
        if who not in self._paused:
            return False, f"not paused by the {who}"
        self._paused.discard(who)
        self.journal("resume", {"time": time, "who": who})
        if self._paused:
            return True, self._pausing
        self._eased_from = time
        return True, "resumed"

    @property
    def _pausing(self) -> str:
        return f"paused by the {' and the '.join(sorted(self._paused))}"

    def surround(self, surroundings: Surroundings) -> None:
        """Replace all obstacles, between two ticks.

        Where the present motion cannot stop outside of a new one, it stops as soon as its limits allow; a
        robot that stands inside one may move out of it, never further in.
        """
        self.environment.surround(surroundings)
        self._shield.look_again(self._gripper.width)

    def move_to_joints(self, positions: Array, gripper_width: float | None, time: float) -> tuple[bool, str]:
        """Move to joint positions (n,) [rad] within the limits; refused while anything else moves.

        Returns: whether it was accepted, and a sentence.
        """
        limits = self.spec.applied
        if self._latched:
            return False, f"cannot move in state {self.state.name} ({self.message}); it waits for a reset"
        if self._paused or not self._active:
            return False, f"cannot move in state {self.state.name}{' (paused)' if self._paused else ''}"
        if self._blind:
            return False, f"cannot move while {self._held}"
        if positions.shape != (self.spec.dof,) or not np.isfinite(positions).all():
            return False, f"{self.spec.name} needs {self.spec.dof} finite joint positions"
        outside = (positions < limits.position_min) | (positions > limits.position_max)
        if outside.any():
            name = self.spec.joint_names[int(np.argmax(outside))]
            return False, f"joint {name} would leave its limits"
        if self._moving or time < self.executor.end_time or not self._shield.motion.resting:
            return False, "cannot move before the present motion has come to rest"
        self.journal("move", {"positions": positions, "width": gripper_width, "time": time})
        distance = np.abs(positions - self._shield.motion.positions)
        if gripper_width is not None:
            self.executor.set_gripper(gripper_width)
        if distance.max() < _THERE:
            return True, "there already"
        self.executor.begin_joint_motion(self._shield.motion.positions)
        self._pipeline.ik.anchor(self._shield.motion.positions)
        seconds = seconds_between(distance, self.spec)
        self.executor.joint.replan(time, np.array([time + seconds]), positions[None])
        self._moving = True
        return True, f"moving for {seconds:.1f} s"

    # -- work ----------------------------------------------------------------------------------------------

    def submit(self, chunk: ActionChunk, time: float, now: int) -> tuple[list[Intervention], str]:
        """Take a chunk over, or refuse it.

        Args:
            chunk: as received.
            time: the controller's time [s].
            now: ROS time [ns], the clock of the chunk's stamp.

        Returns: interventions, and a sentence when the chunk was refused.
        """
        interventions, sentence = self._take(chunk, time, now)
        if sentence and self._refused_at != self.tick:
            # one a tick: a flood of refused chunks must not become a flood of lines
            self._refused_at = self.tick
            self.journal("refused", {"stamp": chunk.stamp, "sequence": chunk.sequence})
        return interventions, sentence

    def _take(self, chunk: ActionChunk, time: float, now: int) -> tuple[list[Intervention], str]:
        if self._latched or not self._active:
            return [], f"chunk {chunk.sequence} came in state {self.state.name}"
        try:
            return self._take_over(chunk, time, now)
        except Exception as error:  # whatever broke, the stored stop is there
            sentence = f"the controller failed at chunk {chunk.sequence} with {type(error).__name__}: {error}"
            self.stop(Reason.INTERNAL, "controller", sentence)
            return [], sentence

    def _take_over(self, chunk: ActionChunk, time: float, now: int) -> tuple[list[Intervention], str]:
        context = Context(now, self.executor.stamp, self.executor.sequence)
        for check in self._checks:
            refusal = check(chunk, context)
            if refusal is not None:
                intervention, sentence = refusal
                if intervention.action is InterventionAction.STOP:
                    self._latch(intervention, sentence)
                    return [], sentence
                self._events.append(intervention)
                return [intervention], sentence
        if self._held:
            return [], f"chunk {chunk.sequence} came while {self._held}"
        if self._paused or self._moving:
            doing = self._pausing if self._paused else "moving to a posture"
            return [], f"chunk {chunk.sequence} came while {doing}"
        stamp_time = time - (now - chunk.stamp) / NANOSECONDS
        try:
            measured = self._measured_pose(stamp_time) if chunk.composition is Composition.MEASURED else None
            clipped = self.executor.submit(chunk, time, stamp_time, measured)
        except ActionError as error:
            refusal_event = Intervention(
                InterventionAction.REJECT, Reason.STALE_CHUNK, "chunk", time - stamp_time
            )
            self._events.append(refusal_event)
            return [refusal_event], f"chunk {chunk.sequence}: {error}"
        if clipped > 0.001:
            self._events.append(Intervention(InterventionAction.LIMIT, Reason.WORKSPACE, "target", clipped))
        self._has_moved = True
        self._starved = False
        return [], ""

    def update(self, time: float, now: int, measured: JointState | None, age: float) -> Tick:
        """One tick.

        Args:
            time: the controller's time [s], one period after the last tick's.
            now: ROS time [ns] for the setpoint's stamp.
            measured: newest joint state; None: never any.
            age: seconds since it was received.
        """
        self.tick += 1
        interventions, self._events = self._events, []
        before = self._shield.motion
        try:
            self._supervise(measured, age, time, interventions)
            if not self._latched:
                self._move(time, interventions)
                interventions += self._gripper.update(self.executor.gripper(time))
            if not self._latched:
                self._set_state(time, self._shield.motion, interventions)
        except Exception as error:  # whatever broke, the stored stop is there
            self._break_off(error)
        if self._latched:
            if self._shield.motion is before:  # else this tick's motion was what latched
                self._follow_stop()
            if self._shield.motion.resting and self.state is SafetyState.STOPPING:
                self.state = SafetyState.FAULT if self._faulty else SafetyState.STOPPED
        motion = self._shield.motion
        try:
            self._remember(time, motion.positions, measured, interventions)
        except Exception as error:  # the stop is followed from the next tick on
            self._break_off(error)
        setpoint = JointSetpoint(
            now, self.tick, motion.positions, motion.velocities, motion.accelerations,
            self._gripper.width, self.executor.stamp, 0 if measured is None else measured.stamp,
        )  # fmt: skip
        return Tick(setpoint, self.state, interventions, self._gripper.target)

    def _follow_stop(self) -> None:
        """One tick along the stored stop."""
        try:
            self._shield.follow_stop(self._gripper.width)
        except Exception as error:
            # the motion has advanced already, it is the margins there that could not be computed: they matter
            # to the motion after a reset alone, which computes them anew
            self._break_off(error)

    def _break_off(self, error: Exception) -> None:
        """Stop for a failure inside."""
        broken = Intervention(InterventionAction.STOP, Reason.INTERNAL, "controller")
        self._latch(broken, f"the controller failed with {type(error).__name__}: {error}")

    def _remember(
        self, time: float, commanded: Array, measured: JointState | None, interventions: list[Intervention]
    ) -> None:
        """Where the robot is, and what deltas that come now are added to."""
        robot = commanded
        if measured is not None:
            robot = measured.positions
            self._measured.append(time, robot)
        target = self._kinematics.forward(robot)
        if not self.executor.joint_mode:
            target = leashed(target, self.executor.targets.at(time), interventions)
        self.executor.record(time, target)

    def overrun(self, late: int, time: float) -> None:
        """So many ticks in a row were too late for smooth motion: slow down to rest until the next chunk."""
        if not (self._latched or self._starved or self._moving) and time < self.executor.end_time:
            self.journal("overrun", {"late": late, "time": time})
            self._slow_down(time)
            self._starved = True
            self._events.append(Intervention(InterventionAction.HOLD, Reason.OVERRUN, "loop", float(late)))

    def under_way(self, time: float) -> bool:
        """Whether anything moves or is still to move after `time` [s]."""
        return self.moving or time < self.executor.end_time

    def stalled_at_rest(self, gap: float, time: float) -> None:
        """No tick for `gap` [s] while nothing was under way: speeds grow anew from `time` [s] on."""
        self.journal("stalled", {"gap": gap, "time": time})
        self._eased_from = time
        self._events.append(Intervention(InterventionAction.HOLD, Reason.OVERRUN, "loop", gap))

    def observe(self, states: Sequence[JointState]) -> None:
        """Every joint state that has come, in order; `update` takes the newest of them as `measured`."""
        self.supervision.observe(states)

    def feel(self, force: Array, time: float) -> None:
        """The newest force at the wrist (3,) [N], sensor frame, and the controller's time [s]."""
        self.supervision.feel(force, time)

    @property
    def moving(self) -> bool:
        """Whether the command or its reference is under way."""
        return self._moving or not self._shield.motion.resting

    @property
    def _latched(self) -> bool:
        return self.state in (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)

    def _forget_measurements(self) -> None:
        self.supervision.clear()
        self._measured.clear()

    def _anchor(self, positions: Array, gripper_width: float, time: float) -> None:
        """Everything rests at `positions`."""
        self._pipeline.anchor(positions, gripper_width, time)
        self._gripper.anchor(gripper_width)
        self.executor.anchor(self._kinematics.forward(positions), positions, gripper_width)
        self._eased_from = time
        self._paused.clear()
        self._moving = self._has_moved = False
        self._starved = True
        self._limited_until = -np.inf
        self._events = []

    def _latch(self, intervention: Intervention, sentence: str) -> None:
        if self._latched or not self._active:
            return
        self._events.append(intervention)
        self.state, self.message = SafetyState.STOPPING, sentence
        self._faulty = intervention.reason in FAULTS
        self._paused.clear()
        self._moving = False

    def _supervise(
        self, measured: JointState | None, age: float, time: float, interventions: list[Intervention]
    ) -> None:
        """Look at robot and driver."""
        finding = self.supervision.look(measured, age, self._shield.motion.positions, time)
        self._journal_finding(finding)
        before, self._blind = self._blind, False
        self._held = ""
        if finding is None:
            return
        intervention, sentence = finding
        if intervention.action is InterventionAction.STOP:
            self._latch(intervention, sentence)
            return
        self._held, self._blind = sentence, intervention.reason is Reason.CONTACT_UNWATCHED
        # other holds let a motion to a posture come to its end; where no touch would be noticed it ends now
        braking = self._blind and not before if self._moving else not self._starved
        if time < self.executor.end_time and braking:
            self._slow_down(time)
            self._starved = True
            interventions.append(intervention)

    def _journal_finding(self, finding: Finding | None) -> None:
        """Tell the journal when something begins or ends that a bag does not hold the causes of."""
        outside = finding if finding is not None and finding[0].reason in OUTSIDE else None
        key = None if outside is None else (outside[0].action, outside[0].reason, outside[0].subject)
        if key == self._found:
            return
        self._found = key
        if outside is None:
            self.journal("found", {"reason": ""})
            return
        item, sentence = outside
        told = {"action": int(item.action), "reason": item.reason.value, "subject": item.subject}
        self.journal("found", {**told, "amount": float(item.amount), "sentence": sentence})

    def _move(self, time: float, interventions: list[Intervention]) -> None:
        """One tick of `self._shield.motion`."""
        ease = _EASE_FROM + (1.0 - _EASE_FROM) * (time - self._eased_from) / _EASE_SECONDS
        ease = min(max(ease, _EASE_FROM), 1.0)
        command, joints = self._shield.motion, self.executor.joint_mode
        self._pipeline.step(self.executor, time, self._gripper.width, ease, interventions)
        if joints and self._moving and time >= self.executor.end_time:
            self._finish_joint_motion(self.executor.sample_joints(time).position, command)
        if self._pipeline.refused_too_often:
            share = RefusalRate.SHARE
            self._latch(
                Intervention(InterventionAction.STOP, Reason.INTERVENTION_RATE, "shield", share),
                f"the shield refused more than {share:.0%} of the motions of {RefusalRate.SECONDS:g} s",
            )

    def _finish_joint_motion(self, goal: Array, command: JointMotion) -> None:
        """Arrived, or held up for good: chunks may come again."""
        arrived = np.abs(command.positions - goal).max() < 1e-3
        if command.resting or (arrived and np.abs(command.velocities).max() < 1e-3):
            self._moving = False
            self.executor.joint_mode = False
            self._pipeline.rest_at_reference(self.executor)

    def _measured_pose(self, time: float) -> Pose | None:
        """What was measured at `time` [s]."""
        joints = self._measured.at(time)
        return None if joints is None else self._kinematics.forward(joints)

    def _slow_down(self, time: float) -> None:
        """The reference comes to rest in the time its speed needs."""
        if time >= self.executor.end_time:
            return
        self.executor.slow_down(time, seconds_to_rest(self.executor, time, self.spec))

    def _set_state(self, time: float, motion: JointMotion, interventions: list[Intervention]) -> None:
        patience = 0.0 if self._starved or self.executor.joint_mode else _NEXT_CHUNK
        resting = motion.resting and time >= self.executor.end_time + patience
        if interventions:
            self._limited_until = time + _LIMITED_SECONDS
        if self._paused:
            self.state, self.message = SafetyState.HOLDING, self._pausing
        elif not resting:
            limited = time < self._limited_until
            self.state = SafetyState.LIMITED if limited else SafetyState.RUNNING
            self.message = "" if self._moving else self.executor.slowness
        elif self._has_moved:
            if not self._starved and not self.executor.joint_mode:
                interventions.append(Intervention(InterventionAction.HOLD, Reason.STARVATION, "", 0.0))
            self._starved = True
            left = f"no chunk left to execute{'; ' if self.executor.slowness else ''}{self.executor.slowness}"
            self.state, self.message = SafetyState.HOLDING, self._held or left
        else:
            self.state, self.message = SafetyState.IDLE, self._held


def _unheard(event: str, values: dict[str, Any]) -> None:
    """No journal is kept."""
