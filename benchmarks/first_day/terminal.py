"""A command in a terminal of its own, as a person runs it: read what it shows, press keys, press Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

COLUMNS, LINES = 120, 40
INTERRUPT = "\x03"
"""What a terminal makes of Ctrl-C."""
GRACE = 20.0
"""Seconds a command that is closed has to end by itself."""


class Terminal:
    """One command in a pseudo-terminal; killed with all it has started when the context ends."""

    def __init__(
        self, command: Sequence[str], folder: Path | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.command, self._folder = list(command), folder
        self._environment = {**os.environ, "TERM": "xterm", **(environment or {})}
        self._text = ""

    def __enter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            self.command, stdin=slave, stdout=slave, stderr=slave, env=self._environment, cwd=self._folder,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.press(INTERRUPT)
            self.wait(GRACE)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """Everything shown so far, without colours and cursor motions."""
        self._read(0.0)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._text).replace("\r", "")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str, seconds: float, since: int = 0) -> re.Match[str] | None:
        """Wait until the text from character `since` on matches; None where it does not, or the end comes."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.compile(pattern).search(self.text, since)
            ended = self._process.poll() is not None
            if found is not None or ended or time.monotonic() > deadline:
                return found if found is not None else re.compile(pattern).search(self.text, since)
            self._read(0.1)

    def wait(self, seconds: float) -> int | None:
        """Exit status once it has ended; None where it has not within so long."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            # whoever does not read blocks the writer
            self._read(0.1)
        self._read(0.0)
        return self._process.poll()

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                # the last one who had it open has ended
                time.sleep(min(seconds, 0.05))
                return
            self._text += data.decode("utf-8", "replace")
            seconds = 0.0


def _take_terminal() -> None:
    """Make the new session's standard input its controlling terminal, so that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
