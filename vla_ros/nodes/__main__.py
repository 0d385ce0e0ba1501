"""Starts a node's process: `python -m vla_ros.nodes MODULE --ros-args ...`, as runner and launch files do.

A node imports for a second or more before `base.run` takes the signals over.  Until then nothing is open and
nothing moves, so the process just ends, without the traceback that Python has for a Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a node to end: Ctrl-C, the launch system, a terminal that is closed."""


def run_node(module: str) -> int:
    """Import a node's module and run its `main`; the exit status for `sys.exit`."""
    on_ending(_end)
    return int(import_module(module).main())


def on_ending(handler: Handler) -> None:
    """Have `handler` called for every signal of `ENDING`, but for a SIGHUP that nohup has set to be ignored."""
    for signum in ENDING:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m vla_ros.nodes MODULE [--ros-args ...]")
    sys.exit(run_node(sys.argv.pop(1)))
