"""`vla-ros record`: demonstrations by the scripted expert, in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros.commands.shared import ROBOT, file_to_write, plain_errors


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("record")(record)


@plain_errors
def record(
    out: Annotated[Path, typer.Option(help="Folder of the bags, one an episode.")],
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Let the scripted expert do it, in the simulator.")
    ] = False,
    robot: Annotated[
        str, typer.Option(help=ROBOT)
    ] = "panda",
    tasks: Annotated[
        str, typer.Option("--tasks", "--task", help="With commas between, in turn: pick, place, push, stack.")
    ] = "pick",
    episodes: Annotated[int, typer.Option(min=1, max=999_999, help="Successful episodes to have.")] = 200,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first episode; each further one has the next.")
    ] = 0,
    action_space: Annotated[str, typer.Option(help="Name of the action space; empty: the contract's.")] = "",
    rate: Annotated[
        float, typer.Option(min=0.0, max=200.0, help="Actions a second [Hz]; 0: the action space's own.")
    ] = 0.0,
    images: Annotated[
        str, typer.Option(help="jpeg (quality 95, the loss is measured and noted) or raw.")
    ] = "jpeg",
    recovery: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of episodes in which something goes wrong and is mended."),
    ] = 0.35,
    vary_language: Annotated[
        bool, typer.Option("--vary-language", help="Word the instructions in many ways.")
    ] = False,
    keep_failures: Annotated[
        bool, typer.Option("--keep-failures", help="Keep failed episodes too, as episode_NNNNNN_failure.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, max=1024, help="Processes; 0: as many as cores.")] = 0,
    json: Annotated[Path | None, typer.Option(callback=file_to_write, help="File for the figures.")] = None,
) -> None:
    """Record demonstrations in bulk, faster than real time; the same command goes on where it ended."""
    from dataclasses import replace

    from vla_ros.errors import ConfigurationError

    if not scripted:
        raise ConfigurationError(
            "Say `--scripted` to let the scripted expert record; a person records with `vla-ros teleop`."
        )
    from vla_ros.commands.scripted import record_scripted
    from vla_ros.lockstep.demonstrate import Order
    from vla_ros.sim.expert import Variation

    order = Order(
        robot=robot,
        tasks=tuple(name.strip() for name in tasks.split(",") if name.strip()),
        seed=seed,
        action_space=action_space,
        rate=rate,
        images=images,
        variation=replace(Variation(), recovery=recovery),
        vary_language=vary_language,
        keep_failures=keep_failures,
    )
    raise typer.Exit(record_scripted(order, out, episodes, jobs, json))
