"""`vla-ros data ...`: data sets of demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros.commands.shared import plain_errors

app = typer.Typer(
    help="Data sets of demonstrations: info, view, convert, split, merge, stats.", no_args_is_help=True
)
SOURCE = "Bags or folders of bags, an RLDS folder, or a LeRobot v3 folder."
GROUP = "Episodes a file; as many as fill one when not given."
WORKERS = "Processes; one a core when not given."


@app.command()
@plain_errors
def info(
    sources: Annotated[list[Path], typer.Argument(help=SOURCE)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is in a data set: episodes, seconds, robot, action space, cameras, tasks, hash."""
    from vla_ros.commands.data_info import info as work

    work(sources, as_json)


@app.command()
@plain_errors
def view(
    source: Annotated[Path, typer.Argument(help=SOURCE)],
    episodes: Annotated[
        list[int] | None, typer.Option("--episode", help="Number of an episode, from 0; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the pages.")] = None,
) -> None:
    """A page and a Rerun file of every episode: camera strip, actions, states."""
    from vla_ros.commands.data_view import view as work

    raise typer.Exit(work(source, episodes, out))


@app.command()
@plain_errors
def convert(
    paths: Annotated[
        list[Path], typer.Argument(metavar="SOURCE... TARGET", help=SOURCE + " Then the target.")
    ],
    to: Annotated[str, typer.Option("--to", help="lerobot, rlds or bags.")],
    name: Annotated[str, typer.Option("--name", help="Of the data set; the target's when not given.")] = "",
    group_size: Annotated[int | None, typer.Option("--group-size", help=GROUP)] = None,
    workers: Annotated[int | None, typer.Option("--workers", help=WORKERS)] = None,
    outcomes: Annotated[
        str, typer.Option("--outcomes", help="Which to take, with commas: success, failure, aborted.")
    ] = "success,failure",
    accept_failed: Annotated[
        bool, typer.Option("--accept-failed", help="Convert bags that fail the audit.")
    ] = False,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave out what fails the audit, and say what and why.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Steps a second, where the source states none.")
    ] = None,
    codec: Annotated[str, typer.Option("--codec", help="Of LeRobot's videos: h264 or av1.")] = "h264",
) -> None:
    """Any format to any other, on all cores; after an interruption the same command goes on."""
    from vla_ros.commands.data_convert import convert as work
    from vla_ros.data.conversion import Options

    taken = tuple(word.strip() for word in outcomes.split(",") if word.strip())
    options = Options(
        name, group_size, workers, taken, accept_failed, rate, codec, skip_failed
    )  # fmt: skip
    work(paths, to, options)


@app.command()
@plain_errors
def split(
    source: Annotated[Path, typer.Argument(help=SOURCE)],
    target: Annotated[Path, typer.Argument(help="Folder for the parts; each part is a folder in it.")],
    parts: Annotated[
        list[str] | None,
        typer.Option("--part", help="NAME=0.9 (a share) or NAME=0,3,5-8 (episodes); may be repeated."),
    ] = None,
    by_task: Annotated[bool, typer.Option("--by-task", help="A part a task.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the shuffle of shares.")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", help=WORKERS)] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Steps a second, where the source states none.")
    ] = None,
) -> None:
    """Parts of a data set, in its own format: every episode in exactly one."""
    from vla_ros.commands.data_split import split as work

    work(source, target, parts or [], by_task, seed, workers, rate)


@app.command()
@plain_errors
def merge(
    paths: Annotated[
        list[Path], typer.Argument(metavar="SOURCE... TARGET", help="Two or more, then the target.")
    ],
    name: Annotated[str, typer.Option("--name", help="Of the data set; the target's when not given.")] = "",
    workers: Annotated[int | None, typer.Option("--workers", help=WORKERS)] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Steps a second, where the sources state none.")
    ] = None,
) -> None:
    """One of several that agree in action space, states, cameras and rate; the first one's format."""
    from vla_ros.commands.data_split import merge as work

    work(paths, name, workers, rate)


@app.command()
@plain_errors
def stats(
    source: Annotated[Path, typer.Argument(help=SOURCE)],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; dataset_statistics.json in the source.")
    ] = None,
) -> None:
    """Statistics as OpenVLA and Octo compute them, bound to the data's hash."""
    from vla_ros.commands.data_stats import stats as work

    work(source, out)
