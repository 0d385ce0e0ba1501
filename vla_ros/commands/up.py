"""`vla-ros up`: the graph until Ctrl-C."""

from __future__ import annotations

import time
from pathlib import Path

from vla_ros.bringup.gazebo import check_gazebo
from vla_ros.bringup.graph import GraphOptions, contract_for, run_folder
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import Troubles, shown, stamp


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
            while True:
                running.check()
                time.sleep(0.1)
        except KeyboardInterrupt:
            if options.record:
                console.print(f"The bag is {shown(Path(options.record))}.", soft_wrap=True)
            raise
