"""`vla-ros eval`: many episodes through the whole graph, on the live clock, counted and written as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.bringup.graph import GraphOptions, contract_for, run_folder
from vla_ros.bringup.instructions import Asked, check_episodes
from vla_ros.commands.console import LiveView
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import INTERRUPTED, Troubles, left_in, shown, stamp, write_json
from vla_ros.contract import Contract
from vla_ros.errors import ConfigurationError

STOPPING_TIME = 3.0
"""Longest time a stop takes to be complete [s]."""

if TYPE_CHECKING:
    from vla_ros.bringup.session import Session
    from vla_ros.nodes.operator import EpisodeResult


def evaluate(
    options: GraphOptions, tasks: list[str], episodes: int, json_path: Path | None, runs: Path
) -> int:
    """Run `episodes` of each task, seeds counting up from the options' seed; the exit status.

    Raises `VlaRosError`.
    """
    contract = contract_for(options)
    if not tasks:
        raise ConfigurationError("No task is given (--tasks); there are pick, place, push, stack.")
    seeds = range(options.seed, options.seed + episodes)
    check_episodes(contract, [Asked(task, "", seed) for task in tasks for seed in seeds])
    from vla_ros.bringup.session import prepared, session
    from vla_ros.evaluation.judge import judge_run
    from vla_ros.evaluation.latency import pace
    from vla_ros.evaluation.run_data import load_run

    console = Console()
    folder = run_folder(runs, stamp())
    bag = folder / "bag"
    results: list[tuple[str, int, EpisodeResult]] = []
    options = replace(options, record=str(bag), record_cameras=False)
    interrupted = False
    try:
        with session(prepared(options, folder), folder, Troubles(console)) as running:
            running.wait_up()
            with LiveView(running.operator, console) as view:
                for task in tasks:
                    for seed in seeds:
                        result = _one(running, task, seed, view.refresh)
                        results.append((task, seed, result))
                        line = _line(task, seed, result)
                        console.print(line, highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        interrupted = True
        console.print(
            f"Stopped after {len(results)} of {len(tasks) * episodes} episodes; {left_in(folder)}.",
            soft_wrap=True,
        )
        if not results:
            return INTERRUPTED
    run = load_run(bag, contract.robot)
    verdict, answers = judge_run(run, contract.robot), pace(run)
    console.print(verdict.sentence(), soft_wrap=True)
    slow = answers.sentence() if answers is not None else ""
    if slow:
        console.print(slow, highlight=False, soft_wrap=True)
    summary = summarize(contract, options, tasks, results, len(verdict.violations))
    summary["violations_by_kind"] = dict(verdict.by_kind)
    summary["judged_ticks"] = verdict.ticks
    summary["interrupted"] = interrupted
    summary["pace"] = (
        {**asdict(answers), "share": answers.share, "sentence": answers.sentence()}
        if answers is not None
        else None
    )
    summary["too_slow"] = slow
    target = json_path or folder / "evaluation.json"
    write_json(target, summary)
    console.print(
        f"{summary['successes']} of {summary['episodes']} done, {summary['violations']} limit violations; "
        f"{shown(target)}",
        soft_wrap=True,
    )
    return INTERRUPTED if interrupted else 0


def _one(running: Session, task: str, seed: int, watch: Callable[[], None]) -> EpisodeResult:
    """One episode; one that cannot start has failed.  A latched stop of the one before is released first."""
    from vla_ros.bringup.session import EpisodeRefusedError
    from vla_ros.nodes.episode import Outcome
    from vla_ros.nodes.operator import EpisodeResult

    operator = running.operator
    operator.wait_until(lambda: operator.safety_state != "STOPPING", STOPPING_TIME, running.check)
    if operator.latched:
        operator.reset_safety()
    try:
        return running.run_episode(task, "", seed, watch)
    except EpisodeRefusedError as error:
        return EpisodeResult("", task, "", Outcome.ABORTED, str(error), 0.0, 0, 0)


def summarize(
    contract: Contract,
    options: GraphOptions,
    tasks: list[str],
    results: list[tuple[str, int, EpisodeResult]],
    violations: int,
) -> dict[str, Any]:
    """The JSON document."""
    by_task = {
        task: {
            "episodes": sum(t == task for t, _, _ in results),
            "successes": sum(t == task and r.outcome.name == "SUCCESS" for t, _, r in results),
        }
        for task in tasks
    }
    return {
        "robot": contract.robot.name,
        "policy": contract.policy,
        "policy_delay": options.policy_delay,
        "task": ",".join(tasks),
        "seed": options.seed,
        "episodes": len(results),
        "successes": sum(counts["successes"] for counts in by_task.values()),
        "violations": violations,
        "tasks": by_task,
        "per_episode": [
            {
                "task": task,
                "seed": seed,
                "instruction": result.instruction,
                "outcome": result.outcome.name.lower(),
                "reason": result.reason,
                "seconds": round(result.seconds, 3),
                "interventions": result.interventions,
                "steps": result.steps,
            }
            for task, seed, result in results
        ],
        "options": {k: v for k, v in asdict(options).items() if k not in ("record", "parameters")},
    }


def _line(task: str, seed: int, result: EpisodeResult) -> str:
    return (
        f"{task} {seed}: {result.outcome.name.lower()} after {result.seconds:.1f} s, "
        f"{result.interventions} interventions: {result.reason}"
    )
