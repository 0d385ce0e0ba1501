"""`vla-ros demo`: the main job, from nothing to a report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from vla_ros.bringup.graph import GraphOptions, contract_for, run_folder
from vla_ros.bringup.instructions import Asked, check_episodes
from vla_ros.commands.console import LiveView
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import INTERRUPTED, Troubles, left_in, print_next, shown, stamp
from vla_ros.errors import VlaRosError

NOT_DONE = 1
DEFAULT_INSTRUCTION = "pick up the red block"


def demo(options: GraphOptions, instructions: list[str], runs: Path, record: bool) -> int:
    """Run one episode per instruction; the exit status.  Raises `VlaRosError`."""
    begun = time.monotonic()
    from vla_ros.bringup.session import prepared, session

    console = Console()
    contract = contract_for(options)
    check_episodes(
        contract, [Asked("", words, options.seed + number) for number, words in enumerate(instructions)]
    )
    folder = run_folder(runs, stamp())
    bag = folder / "bag"
    results = []
    processes = prepared(replace(options, record=str(bag) if record else ""), folder)
    first, interrupted = None, False
    try:
        with session(processes, folder, Troubles(console)) as running:
            running.wait_up()
            console.print(
                f"The graph is up after {time.monotonic() - begun:.1f} s; its logs: {shown(folder / 'log')}"
            )
            with LiveView(running.operator, console) as view:
                for index, instruction in enumerate(instructions):
                    results.append(running.run_episode("", instruction, options.seed + index, view.refresh))
            first = running.operator.first_command
    except KeyboardInterrupt:
        interrupted = True
        console.print(f"Stopped; what there is until then is kept: {left_in(folder)}.", soft_wrap=True)
    except VlaRosError:
        console.print(f"The run ended early; what there is is kept: {left_in(folder)}.", soft_wrap=True)
        raise
    if first is not None:
        console.print(f"First command after {first - begun:.1f} s.")
    if record and bag.exists():
        _report(console, bag, folder, interrupted)
    for result in results:
        done = "done" if result.outcome.name == "SUCCESS" else f"not done ({result.outcome.name.lower()})"
        console.print(
            f'"{result.instruction}": {done} after {result.seconds:.1f} s, '
            f"{result.interventions} interventions: {result.reason}",
            soft_wrap=True,
        )
    console.print(f"Folder of the run: {left_in(folder)}", soft_wrap=True)
    if (folder / "report.html").is_file():
        console.print(f"Open {shown(folder / 'report.html')} in a browser.", soft_wrap=True)
    if bag.exists() and not interrupted:
        print_next(console, "vla-ros replay", folder)
    if interrupted:
        return INTERRUPTED
    return 0 if all(result.outcome.name == "SUCCESS" for result in results) else NOT_DONE


def _report(console: Console, bag: Path, folder: Path, interrupted: bool) -> None:
    """Make the report; of a run that was interrupted, as far as there is something to report on."""
    from vla_ros.evaluation.report import make_report

    if interrupted:
        console.print("Making its report; Ctrl-C again leaves it out.")
    try:
        summary = make_report(bag, str(folder / "contract.yaml"), folder)
    except VlaRosError as error:
        if not interrupted:
            raise
        console.print(f"There is no report: {error}", soft_wrap=True)
        return
    console.print(summary.verdict.sentence(), soft_wrap=True)
    if summary.too_slow:
        console.print(summary.too_slow, highlight=False, soft_wrap=True)
