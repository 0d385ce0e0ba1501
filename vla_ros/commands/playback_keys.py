"""The keys with which a person at the terminal plays a recording, whatever it is played into."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

HELP = "space: pause, go on   .: one action   + -: faster, slower   q: end"


class Keys:
    """Keys one by one, where there is a terminal."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def read(self, wait: float = 0.0) -> str:
        """The next key; empty when none is pressed within `wait` seconds."""
        if not self.terminal:
            if wait > 0.0:
                time.sleep(wait)
            return ""
        ready, _, _ = select.select([sys.stdin], [], [], max(wait, 0.0))
        return os.read(sys.stdin.fileno(), 1).decode("utf-8", "replace") if ready else ""


@contextmanager
def playback_keys() -> Iterator[Keys]:
    """The terminal gives keys one by one, and is as before in the end."""
    if not sys.stdin.isatty():
        yield Keys(False)
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield Keys(True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
