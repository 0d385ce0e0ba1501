"""One fault: injected into a moving graph, measured, undone, recovered from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.faults.bench import LATCHED, Bench
from vla_ros.errors import MachineError

QUIET = 0.4
"""Rest is rest when it has lasted for so long [s]."""
PATIENCE = 15.0
"""Wall-clock time for the state to be reached, and for the motion to go on afterwards [s]."""
BY_ITSELF, RESET, RESTART, RESTART_RESET = "by itself", "~/reset", "restart", "restart, ~/reset"


def _nothing(bench: Bench) -> None:
    return None


@dataclass(frozen=True)
class Fault:
    """What is done to the graph, and the bound on what may follow."""

    name: str
    title: str
    bench: str
    """Which graph: control, clock or chain."""
    inject: Callable[[Bench], None]
    states: tuple[str, ...]
    """States that may be reached."""
    seconds: float
    """Longest time until the last command that moves the robot [s]."""
    angle: float
    """Furthest any joint may be commanded to travel in it [rad]."""
    recovery: tuple[str, ...]
    """How the motion may go on."""
    undo: Callable[[Bench], None] = _nothing
    goes_on: bool = False
    """The motion may go on; then it is watched for `seconds`, and `angle` bounds it all the same."""
    foreign: bool = False
    """Somebody else commands the robot too."""
    quick: bool = True
    """Whether the test suite has time for it."""


@dataclass(frozen=True)
class Outcome:
    """What followed."""

    name: str
    title: str
    seconds: float
    """From the fault to the last command that moved the robot [s]."""
    angle: float
    """Furthest a joint was commanded to travel in that time [rad]."""
    state: str
    message: str
    """What the controller said of it."""
    reasons: tuple[str, ...]
    """Of its interventions."""
    violations: int
    verdict: str
    """The judge's sentence."""
    recovery: str
    recovery_seconds: float
    goes_on: bool

    def sentence(self) -> str:
        """One line."""
        return (
            f"{self.name}: {self.state}, last motion after {self.seconds:.2f} s and {self.angle:.3f} rad, "
            f"{self.violations} limits broken, goes on {self.recovery}"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_fault(bench: Bench, fault: Fault) -> Outcome:
    """Inject, measure, undo, recover.  Raises `MachineError` when the graph does not move to begin with."""
    _set_moving(bench)
    recording = bench.recording
    judged_from = time.monotonic() - 0.2
    begun = time.monotonic()
    fault.inject(bench)
    if fault.goes_on:
        bench.until(lambda: False, fault.seconds)
    else:
        bench.until(
            lambda: bench.state in fault.states and bench.resting(QUIET, begun, fault.foreign), PATIENCE
        )
    seconds = max(0.0, recording.last_motion(begun, fault.foreign) - begun)
    angle = float(recording.travel(begun, fault.foreign).max())
    state, message = bench.state, recording.statuses[-1].message if recording.statuses else ""
    fault.undo(bench)
    again = time.monotonic()
    recovery = recover(bench, RESTART if "restart" in fault.recovery[0] else "")
    verdict = recording.judge(bench.contract.robot, judged_from, fault.foreign)
    return Outcome(
        fault.name,
        fault.title,
        seconds,
        angle,
        state,
        message,
        tuple(recording.reasons(begun)),
        len(verdict.violations),
        verdict.sentence(),
        recovery,
        time.monotonic() - again,
        fault.goes_on,
    )


def recover(bench: Bench, already: str) -> str:
    """Wait until the robot moves again, reset it when it is latched; in words, what it took."""
    steps = [already] if already else []
    if not _moves_on(bench) and bench.state in LATCHED:
        # a latched stop must not end by itself
        bench.until(lambda: bench.state not in LATCHED, 0.7)
        if bench.state in LATCHED:
            _reset(bench)
            steps.append(RESET)
        _moves_on(bench)
    if not bench.moving():
        return "not at all"
    return ", ".join(steps) or BY_ITSELF


def _moves_on(bench: Bench) -> bool:
    """Wait until the robot moves, or is latched; whether it still moves half a second later."""
    bench.until(lambda: bench.moving() or bench.state in LATCHED, PATIENCE)
    bench.until(lambda: bench.state in LATCHED, 0.5)
    return bench.moving()


def complaints(fault: Fault, outcome: Outcome) -> list[str]:
    """Whatever is outside the bounds of a fault, in plain sentences."""
    found = []
    if outcome.violations:
        found.append(outcome.verdict)
    if outcome.state not in fault.states:
        found.append(f"state {outcome.state} ({outcome.message}), expected {' or '.join(fault.states)}")
    if not fault.goes_on and outcome.seconds > fault.seconds:
        found.append(f"at rest after {outcome.seconds:.2f} s, allowed are {fault.seconds:g} s")
    if outcome.angle > fault.angle:
        found.append(f"a joint travelled {outcome.angle:.3f} rad, allowed are {fault.angle:g} rad")
    if outcome.recovery not in fault.recovery:
        found.append(f"recovered {outcome.recovery}, expected {' or '.join(fault.recovery)}")
    return found


def _set_moving(bench: Bench) -> None:
    """The robot moves, whatever was before."""
    if bench.kind.chain:
        if bench.state in LATCHED:
            _reset(bench)
        bench.go_home()
    for _ in range(3):
        if bench.until(lambda: bench.moving() or bench.state in LATCHED, 0.5 * PATIENCE) and bench.moving():
            return
        _reset(bench)
    message = bench.recording.statuses[-1].message if bench.recording.statuses else ""
    raise MachineError(f"The graph does not move before the fault: {bench.state} ({message}).")


def _reset(bench: Bench) -> None:
    """Reset a latched controller once it rests; back when its state says so, which it does a little later."""
    bench.until(lambda: bench.state != "STOPPING", PATIENCE)
    bench.until(lambda: bench.ask("reset") or bench.state not in LATCHED, PATIENCE)
    bench.until(lambda: bench.state not in LATCHED, 1.0)
