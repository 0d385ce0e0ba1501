"""What the commands on data sets share: opening several sources, the bar, the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown
from vla_ros.data.conversion import Conversion, Options, Progress, convert
from vla_ros.data.conversion_audit import Skipped
from vla_ros.data.dataset import Dataset
from vla_ros.data.selection import Joined
from vla_ros.errors import ConfigurationError

_PHASES = {"audit": "audit [bags]", "look": "look [episodes]", "write": "write [steps]"}


def open_sources(paths: Sequence[Path], lenient: bool = False) -> Dataset:
    """One data set of all sources; `lenient`: see `open_dataset`.

    Raises `DataError` when one is none, or they do not fit together.
    """
    datasets = [_open(Path(path), lenient) for path in paths]
    return datasets[0] if len(datasets) == 1 else Joined(datasets)


def _open(path: Path, lenient: bool) -> Dataset:
    from vla_ros.data.lerobot import is_lerobot, open_lerobot

    if is_lerobot(path):
        return open_lerobot(path)
    from vla_ros.data.open import open_dataset

    dataset: Dataset = open_dataset(path, lenient)
    return dataset


def sources_and_target(paths: Sequence[Path], least: int) -> tuple[list[Path], Path]:
    """Split the arguments SOURCE... TARGET.  Raises `ConfigurationError`."""
    if len(paths) < least + 1:
        words = "one source" if least == 1 else f"{least} sources"
        given = ", ".join(str(path) for path in paths)
        raise ConfigurationError(
            f"Given was only {given}; at least {words} and then the target, a new folder, are needed."
        )
    return list(paths[:-1]), paths[-1]


def convert_with_bar(
    source: Dataset, target: Path, format: str, options: Options, console: Console
) -> Conversion:
    """Convert, with a bar on a terminal, and say what was done."""
    with bar(console) as advance:
        done = convert(source, target, format, options, advance)
    _say(done, console)
    return done


@contextmanager
def bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar that follows a conversion's progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    with Bar(
        *columns,
        TextColumn("{task.fields[rest]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as shown_bar:
        tasks: dict[str, Any] = {}

        def advance(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = shown_bar.add_task(
                    _PHASES[progress.phase], total=progress.total, rest=""
                )
            left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
            rest = f"{progress.per_second:.0f} steps/s{left}" if progress.per_second else ""
            shown_bar.update(tasks[progress.phase], completed=progress.done, total=progress.total, rest=rest)

        yield advance


def _skipped(skipped: Sequence[Skipped]) -> list[str]:
    """What was left out and why, a line a cause."""
    if not skipped:
        return []
    causes: dict[str, list[Skipped]] = {}
    for one in skipped:
        causes.setdefault(one.cause, []).append(one)
    lines = [f"Left out, for they fail the audit (`vla-ros bag audit` says more): {len(skipped)}."]
    for alike in causes.values():
        names = ", ".join(shown(Path(one.name)) for one in alike)
        which = f" ({len(alike)} alike, of the first)" if len(alike) > 1 else ""
        lines.append(f"  {names}{which}: {alike[0].sentence}")
    return lines


def plural(count: int, word: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{count} {word}{'s' * (count != 1)}"


def _say(done: Conversion, console: Console) -> None:
    lines = [
        f"{shown(done.target)}: {done.format}, {plural(done.episodes, 'episode')}, "
        f"{plural(done.steps, 'step')}, {plural(done.groups, 'file group')}, {done.seconds:.1f} s."
    ]
    if done.groups_kept:
        lines.append(f"{done.groups_kept} of {done.groups} groups were finished by an earlier run and kept.")
    if done.left_out:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(done.left_out.items()))
        lines.append(f"Left out by outcome: {counts}.")
    lines += _skipped(done.skipped)
    if done.rounded:
        lines.append(f"Numbers were rounded to float32, by {done.rounded:.1e} at most.")
    for camera, loss in done.video_loss.items():
        if loss["psnr"] is not None:
            lines.append(
                f"Camera {camera}: {loss['frames_encoded']} frames encoded, "
                f"{loss['frames_compared']} decoded again: PSNR {loss['psnr']} dB, worst "
                f"{loss['psnr_worst']} dB."
            )
        if loss["frames_copied"]:
            lines.append(f"Camera {camera}: {loss['frames_copied']} frames copied, not encoded again.")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
