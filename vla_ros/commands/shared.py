"""What the commands share: plain refusals, folders of runs, troubles on the screen."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer

from vla_ros.bringup.libraries import missing_library
from vla_ros.commands.safe_console import Console
from vla_ros.errors import ConfigurationError, VlaRosError

Command = TypeVar("Command", bound=Callable[..., Any])
ROBOT = "panda, fr3, widowx, ur5, ur5e, or the path of a robot's YAML file or of a contract."
"""Help of whatever takes a robot."""
BAD_INPUT = 2
INTERRUPTED = 130
SAY_AGAIN_AFTER = 15.0
"""Seconds before a complaint that differs in its numbers only is printed again."""


def plain_errors(command: Command) -> Command:
    """A command that ends in one sentence: with status 2 for a `VlaRosError` or a library that is missing,
    with status 130 for Ctrl-C.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            return command(*args, **kwargs)
        except VlaRosError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from None
        except ImportError as error:
            sentence = missing_library(error)
            if not sentence:
                raise
            print(sentence, file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return wrapped  # type: ignore[return-value]


def _as_interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def stamp() -> str:
    """Name for the folder of a run: local date and time."""
    return time.strftime("%Y%m%d-%H%M%S")


class Troubles:
    """Prints what the nodes complain of; the same kind of sentence once in a while only."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, float] = {}

    def __call__(self, name: str, line: str) -> None:
        """Take one line of one node's log; what the supervisor says, a command tells by itself."""
        if name == "supervisor":
            return
        kind = re.sub(r"[0-9.]+", "#", line)
        now = time.monotonic()
        if now - self._said.get(kind, -SAY_AGAIN_AFTER) < SAY_AGAIN_AFTER:
            return
        self._said[kind] = now
        self._console.print(f"{name}: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def shown(path: Path) -> str:
    """A path as short as it can be said."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def left_in(folder: Path) -> str:
    """A run's folder and what is in it, for the last line of a command."""
    there = [name for name in ("report.html", "video.mp4", "bag", "log") if (folder / name).exists()]
    return f"{shown(folder)} ({', '.join(there) or 'empty'})"


def file_to_write(path: Path | None) -> Path | None:
    """For options that name a file to be written: refuse, before any work, what cannot be one."""
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, but a file is to be written.")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: {shown(there)} is no folder.")
    if not os.access(path if path.exists() else there, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written: no permission for {shown(there)}.")
    return path


def print_next(console: Console, *words: str | Path) -> None:
    """The command that usually follows, the last line of one that went well; paths are quoted as needed."""
    parts = (shlex.quote(shown(word)) if isinstance(word, Path) else word for word in words)
    console.print(f"Next: {' '.join(parts)}", highlight=False, markup=False, soft_wrap=True)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a result file.  Raises `ConfigurationError` when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
