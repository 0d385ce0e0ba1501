"""`vla-ros bag info` and `vla-ros bag repair`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown
from vla_ros.data.bag import bag_files, bag_folder, read_bag, repair_bag
from vla_ros.data.bag_info import BagInfo, bag_info
from vla_ros.data.mcap import McapFile
from vla_ros.errors import DataError

_SHORT = ("vla_ros_version", "episode_id", "task", "instruction", "started")


def info(path: Path, as_json: bool) -> None:
    """Print what a bag holds.  Raises `DataError`."""
    path = bag_folder(path)
    found = bag_info(path)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    console = Console()

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    first, last = found.span
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(first / 1e9))
    say(f"{shown(path)}: {(last - first) / 1e9:.2f} s from {began}, {found.size / 1e6:.1f} MB")
    _say_state(found, say)
    for key in _SHORT:
        if found.metadata.get(key):
            say(f"{key}: {found.metadata[key]}")
    embedded = [key for key in found.metadata if key not in _SHORT]
    if embedded:
        say(f"embedded: {', '.join(embedded)}")
    if found.metadata.get("contract"):
        say("contract:\n  " + found.metadata["contract"].strip().replace("\n", "\n  "))
    for key, text in found.closing.items():
        if text != "{}":
            say(f"{key}: {text}")
    console.print(_topics(found))
    if found.episodes:
        console.print(_episodes(found))


def repair(path: Path, output: Path | None) -> None:
    """Save what is whole in a bag into a new folder; the bag itself stays as it is.  Raises `DataError`."""
    path = bag_folder(path)
    bag_files(path)
    target = output or path.with_name(f"{path.stem if path.is_file() else path.name}_repaired")
    if target.exists():
        raise DataError(
            f"a bag cannot be written to {target}: it exists already; name another folder with --output."
        )
    if _is_good(path):
        print(f"{shown(path)} is whole; nothing to repair.")
        return
    before = _lost_bytes(path)
    counts = repair_bag(path, target)
    lost = f"; {before} bytes at its end were no whole record" if before else ""
    print(f"{shown(target)}: {sum(counts.values())} messages saved of {shown(path)}{lost}.")


def _lost_bytes(path: Path) -> int:
    """Bytes of a bag that cannot be saved.  Raises `DataError`."""
    lost = 0
    for name in bag_files(path):
        file = McapFile(name, lenient=True)
        for _ in file.messages():
            pass
        lost += file.lost_bytes
    return lost


def _is_good(path: Path) -> bool:
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        return False
    try:
        for _ in read_bag(path):
            pass
    except DataError:
        return False
    return True


def _say_state(found: BagInfo, say: Callable[[str, str], None]) -> None:
    if not found.closed:
        say(
            "not closed: its recorder was killed or the file is cut off "
            f"({found.lost_bytes} bytes at the end are no whole record); "
            "`vla-ros bag repair` makes it open everywhere.",
            "yellow",
        )
    elif not found.indexed:
        say("metadata.yaml is missing; `vla-ros bag repair` makes one.", "yellow")


def _topics(found: BagInfo) -> Table:
    table = Table()
    for heading in ("topic", "type", "messages", "Hz", "MB", "images"):
        table.add_column(heading, overflow="fold")
    for name, topic in sorted(found.topics.items()):
        rate = f"{topic.rate:.1f}" if topic.rate else ""
        table.add_row(name, topic.type_name, str(topic.count), rate, f"{topic.bytes / 1e6:.2f}", topic.images)
    return table


def _episodes(found: BagInfo) -> Table:
    table = Table("episode", "outcome", "s", "task", "instruction")
    for episode in found.episodes.values():
        seconds = f"{(episode.stop - episode.start) / 1e9:.1f}"
        table.add_row(episode.episode_id, episode.outcome, seconds, episode.task, episode.instruction)
    return table
