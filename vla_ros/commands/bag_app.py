"""`vla-ros bag ...`: what is in a bag, whether it is good, and how to save it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros.commands.shared import file_to_write, plain_errors

app = typer.Typer(help="Recorded bags: info, audit, repair.", no_args_is_help=True)


@app.command()
@plain_errors
def audit(
    bags: Annotated[list[Path], typer.Argument(help="Bags, or folders that hold bags.")],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", callback=file_to_write, help="Page with pictures, verdicts and curves of every episode."
        ),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", callback=file_to_write, help="Everything that was found, as JSON."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="YAML of limits that differ from the defaults.")
    ] = None,
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Audit what lies in folders named 'discarded' too.")
    ] = False,
) -> None:
    """Is what was recorded fit to learn from?  Status 1 when a bag is not."""
    from vla_ros.commands.audit import audit as work

    raise typer.Exit(work(bags, html, json_path, rules, discarded))


@app.command()
@plain_errors
def info(
    bag: Annotated[Path, typer.Argument(help="Bag folder, .mcap file or folder of a run; closed or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a bag holds: topics, rates, episodes, contract, how images are kept."""
    from vla_ros.commands.bag import info as work

    work(bag, as_json)


@app.command()
@plain_errors
def repair(
    bag: Annotated[Path, typer.Argument(help="Bag that was not closed or is damaged; it is only read.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder; BAG_repaired by default.")
    ] = None,
) -> None:
    """Save everything that is whole in a bag into a new one."""
    from vla_ros.commands.bag import repair as work

    work(bag, output)
