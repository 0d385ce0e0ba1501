"""A bag stepped through, compared with its golden file: what `vla-ros replay --golden` and the fixture do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import Contract, load_contract
from vla_ros.errors import DataError
from vla_ros.evaluation.golden import Comparison, Golden, compare, golden_of, load_golden, save_golden
from vla_ros.lockstep.recorded import RecordedRun, read_recorded_run
from vla_ros.lockstep.replayed import replay_run
from vla_ros.lockstep.trace import Trace


@dataclass(frozen=True)
class BagReplay:
    """What today's strip made of a bag."""

    run: RecordedRun
    contract: Contract
    traces: tuple[Trace, ...]
    golden: Golden
    on_grid: Callable[[], BagReplay]
    """The same stepped through as for golden files of format 1."""

    @property
    def seconds(self) -> float:
        """Length of what was stepped through."""
        return sum(trace.seconds for trace in self.traces)

    def compare(self, path: Path, tolerance: float = 0.0) -> Comparison:
        """What is not as the golden file says.  Raises `DataError`."""
        before = load_golden(path)
        now = self.on_grid().golden if before.grid else self.golden
        return compare(before, now, tolerance)

    def save(self, path: Path, allow_stops: bool = False) -> None:
        """Make what came out the golden file.

        Raises `DataError` when it cannot be written, and, unless `allow_stops`, when the controller stops for
        good in it or nothing moves: such a file says little of a run that went well.
        """
        objections = [] if allow_stops else self.objections()
        if objections:
            raise DataError(
                f"{path} is not written: {'; '.join(objections)}. --allow-stops writes it all the same."
            )
        save_golden(self.golden, path)

    def coverage(self) -> list[str]:
        """A sentence for each episode: how much of it is in motion, and how much after a stop."""
        return [
            f"{trace.episode_id}: {len(trace.ticks)} ticks, in motion {trace.moving:.0%}, stopped "
            f"{trace.stopped:.0%}"
            for trace in self.traces
        ]

    def objections(self) -> list[str]:
        """Why this is a poor reference, a sentence for each episode that makes it one."""
        found = []
        for trace in self.traces:
            if trace.stopped_after is not None:
                why = ", ".join(name for name in trace.interventions if name.startswith("STOP"))
                found.append(
                    f"in {trace.episode_id} the controller stops at tick {trace.stopped_after} of "
                    f"{len(trace.ticks)} ({why or 'it had stopped before'}), {trace.moving:.0%} are in motion"
                )
            elif not trace.moving:
                found.append(f"in {trace.episode_id} nothing moves")
        return found

    def limit_violations(self) -> list[str]:
        """A sentence for each joint and limit that a command breaks, against the robot's applied limits.

        Positions as they are; velocities, accelerations and jerks as differences of what was commanded, with
        room for rounding.
        """
        limits, sentences = self.contract.robot.applied, []
        period = 1.0 / self.contract.control_rate
        for trace in self.traces:
            path = np.array(trace.positions)
            checks = [("position", np.maximum(limits.position_min - path, path - limits.position_max), "rad")]
            moved = path
            for order, (name, limit, unit) in enumerate(
                (
                    ("velocity", limits.velocity, "rad/s"),
                    ("acceleration", limits.acceleration, "rad/s^2"),
                    ("jerk", limits.jerk, "rad/s^3"),
                ),
                1,
            ):
                moved = np.diff(moved, axis=0) / period
                rounding = 1e-13 / period**order
                checks.append((name, np.abs(moved) - limit * (1.0 + 1e-6) - rounding, unit))
            for name, over, unit in checks:
                for joint in np.flatnonzero((over > 1e-9).any(axis=0)):
                    tick = int(np.argmax(over[:, joint]))
                    sentences.append(
                        f"{trace.episode_id}: {name} of {self.contract.robot.joint_names[joint]} is "
                        f"{over[tick, joint]:.3g} {unit} beyond its limit at tick {tick}"
                    )
        return sentences


def replay_bag(
    path: Path,
    contract: Path | None = None,
    policy: str = "",
    policy_options: Mapping[str, Any] | None = None,
    latency: float = 0.1,
) -> BagReplay:
    """Step through a bag.

    Args:
        path: of a run or of demonstrations.
        contract: a file instead of the recorded contract.
        policy: asked anew on the recorded images; empty: the recorded answers are taken.
        policy_options: of that policy.
        latency: of that policy, observation to answer [s].

    Raises `VlaRosError` in one sentence for whatever does not fit.
    """
    run = read_recorded_run(path)
    used = run.contract if contract is None else load_contract(contract)
    text = run.contract_text if contract is None else used.to_yaml()
    made = None
    if policy:
        from vla_ros.policies.registry import contract_policy

        used = replace(used, policy=policy, policy_options=dict(policy_options or {}))
        made = contract_policy(used)
        made.load()
    def stepped(grid: bool) -> BagReplay:
        traces = tuple(replay_run(run, used, made, latency, grid))
        golden = golden_of(run, traces, text, used.robot.yaml, policy)
        return BagReplay(run, used, traces, golden, lambda: stepped(True))

    return stepped(False)
