"""`vla-ros replay`: what was recorded, played again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros.commands.shared import file_to_write, plain_errors
from vla_ros.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(plain_errors(replay))


def replay(
    path: Annotated[
        Path | None, typer.Argument(help="A bag; with --policy or --into any data set of demonstrations.")
    ] = None,
    golden: Annotated[Path | None, typer.Option(help="As a regression test: compare with this file.")] = None,
    update: Annotated[bool, typer.Option(help="Make the golden file what the bag gives today.")] = False,
    allow_stops: Annotated[
        bool, typer.Option(help="With --update: also where the controller stops in it, or nothing moves.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest difference that is none; 0: bit for bit.")
    ] = 0.0,
    contract: Annotated[
        Path | None, typer.Option(help="A contract in YAML instead of the recorded one.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Ask this policy anew: alone its answers are compared with the recording.")
    ] = "",
    policy_option: Annotated[
        list[str] | None, typer.Option(help="An option of the policy as key=value; may be repeated.")
    ] = None,
    latency: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Of that policy, with --golden [s].")
    ] = 0.1,
    into: Annotated[
        str, typer.Option(help="Play the actions into: sim (in lock step) or graph (running nodes).")
    ] = "",
    speed: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="With --into, 0.1 to 10 times; 0: sim at full speed.")
    ] = 0.0,
    paused: Annotated[bool, typer.Option(help="With --into: begin paused.")] = False,
    camera: Annotated[
        list[str] | None, typer.Option(help="With --policy: which camera is which, as primary=image_0.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="With --policy: ask at every so many steps.")] = 1,
    episodes: Annotated[int, typer.Option(min=0, help="So many episodes only; 0: all.")] = 0,
    rlds: Annotated[
        Path | None, typer.Option(help="RLDS folder of BridgeData V2: to a simulated WidowX, paths compared.")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="With --rlds, so many trajectories only; 0: all.")] = 0,
    json: Annotated[
        Path | None,
        typer.Option(
            callback=file_to_write, help="File for the result; default: in the run's folder, if there is one."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder in which each run gets a folder of its own.")] = Path(
        "runs"
    ),
) -> None:
    """Go through a recording again: alone, against the recorded commands; see the options for the rest."""
    from vla_ros.policies.options import parsed_options

    if rlds is not None:
        from vla_ros.commands.replay import replay as run

        raise typer.Exit(run(rlds, json, runs, most))
    if path is None:
        raise ConfigurationError("Nothing to replay was named: give a bag, or --rlds with a folder.")
    options = parsed_options(policy_option or [])
    if golden is not None:
        from vla_ros.commands.golden import golden as compare

        raise typer.Exit(
            compare(path, golden, update, allow_stops, contract, policy, options, latency, tolerance, json)
        )
    if into:
        from vla_ros.commands.replay_into import replay_into

        raise typer.Exit(replay_into(path, into, speed, paused, episodes, json, runs))
    if policy:
        from vla_ros.commands.open_loop import open_loop_command

        cameras = camera or []
        raise typer.Exit(
            open_loop_command(path, policy, options, contract, cameras, episodes, every, json, runs)
        )
    from vla_ros.commands.golden import parity

    raise typer.Exit(parity(path, json))
