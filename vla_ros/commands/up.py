"""`vla-ros up`: the graph until Ctrl-C."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.bringup.gazebo import check_gazebo
from vla_ros.bringup.graph import GraphOptions, contract_for, run_folder
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import Troubles, shown, stamp

if TYPE_CHECKING:
    from vla_ros.nodes.operator import Operator


def up(options: GraphOptions, runs: Path) -> int:
    """Start the graph and watch it until it is interrupted.  Raises `VlaRosError`."""
    begun = time.monotonic()
    from vla_ros.bringup.session import prepared, session

    console = Console()
    contract_for(options)
    if options.sim == "gazebo":
        check_gazebo()
    folder = run_folder(runs, stamp())
    with session(prepared(options, folder), folder, Troubles(console)) as running:
        running.wait_up()
        console.print(
            f"The graph is up after {time.monotonic() - begun:.1f} s in ROS domain {running.domain}; "
            f"Ctrl-C ends it.  Logs: {shown(folder / 'log')}",
            soft_wrap=True,
        )
        try:
            told = ""
            while True:
                running.check()
                told = _outcome(console, running.operator, told)
                time.sleep(0.1)
        except KeyboardInterrupt:
            if options.record:
                console.print(f"The bag is {shown(Path(options.record))}.", soft_wrap=True)
            raise


def _outcome(console: Console, operator: Operator, before: str) -> str:
    """Print how an episode ended, once; the name of the last one that did, `before` where none has since."""
    name = operator.episode.episode_id
    if not name or name == before or (result := operator.result(name)) is None:
        return before
    sentence = f"{name}: {result.outcome.name.lower()}: {result.reason}"
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return result.episode_id
