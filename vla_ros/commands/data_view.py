"""`vla-ros data view`: a page and a Rerun file of every episode that is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown
from vla_ros.data.dataset import Dataset
from vla_ros.errors import ConfigurationError, DataError, MachineError

MOST = 20
"""Episodes that are shown when none are named; pages of a whole data set would fill a disk."""


def view(path: Path, episodes: Sequence[int] | None = None, out: Path | None = None) -> int:
    """Show a data set of any kind; the exit status.  Raises `VlaRosError`."""
    from vla_ros.data.open import open_dataset

    dataset = open_dataset(Path(path))
    console = Console()
    folder = out if out is not None else Path(f"{_plain(dataset.info.name)}-view")
    view_dataset(dataset, episodes, folder, console)
    return 0


def view_dataset(
    dataset: Dataset, episodes: Sequence[int] | None, folder: Path, console: Console
) -> list[Path]:
    """Write `episode_<number>.html` and `.rrd` into a folder; the files written.

    `episodes`: their numbers; None or empty: the first `MOST`.  Raises `ConfigurationError` for a number that
    is not there, `DataError` when a file exists already or cannot be written.
    """
    from vla_ros.evaluation.rerun_file import rerun_sdk, write_rerun
    from vla_ros.evaluation.view_page import view_page

    count = len(dataset)
    wanted = list(episodes) if episodes else list(range(min(count, MOST)))
    for number in wanted:
        if not 0 <= number < count:
            raise ConfigurationError(
                f"episode {number} is not in {dataset.info.path}, which has {count}, numbered from 0."
            )
    digits = max(len(str(count - 1)), 3)
    pages = {number: folder / f"episode_{number:0{digits}d}.html" for number in wanted}
    for page in pages.values():
        for target in (page, page.with_suffix(".rrd")):
            if target.exists():
                raise DataError(f"{target} exists already; nothing was written, name another folder (--out).")
    try:
        rerun_sdk()
        with_rerun = True
    except MachineError as error:
        with_rerun = False
        console.print(str(error), style="yellow", highlight=False, markup=False, soft_wrap=True)
    written: list[Path] = []
    for number, page in pages.items():
        episode = dataset.episode(number)
        text = view_page(episode, dataset.info, number)
        _write_whole(page, text)
        written.append(page)
        if with_rerun:
            recording = page.with_suffix(".rrd")
            name = f"{_plain(dataset.info.name)}-{number}"
            write_rerun(episode, recording, episode.rate or dataset.info.rate, name)
            written.append(recording)
    rest = f", {count - len(wanted)} more are named by --episode" if not episodes and count > MOST else ""
    kinds = "a page and a Rerun file" if with_rerun else "a page"
    console.print(
        f"{len(wanted)} episode{'s' * (len(wanted) != 1)} of {count}: {kinds} each in {shown(folder)}{rest}.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return written


def _write_whole(path: Path, text: str) -> None:
    """The file appears whole or not at all.  Raises `DataError`."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "data"
