"""Starts a node's process: `python -m vla_ros.nodes MODULE --ros-args ...`, as runner and launch files do.

A node imports for a second or more before `base.run` takes the signals over.  Until then nothing is open and
nothing moves, so the process just ends, without the traceback that Python has for a Ctrl-C.

Nor does the garbage collector run until then: what is imported stays, and looking through it again and again
takes a tenth of the time.  `base.run` turns it on before anything is spun.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a node to end: Ctrl-C, the launch system, a terminal that is closed."""


def run_node(module: str) -> None:
    """Run a node's module as `python -m` does; it ends the process by itself."""
    on_ending(_end)
    gc.disable()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def on_ending(handler: Handler) -> None:
    """Have `handler` called for every signal of `ENDING`; a SIGHUP that nohup set to be ignored stays so."""
    for signum in ENDING:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m vla_ros.nodes MODULE [--ros-args ...]")
    run_node(sys.argv.pop(1))
