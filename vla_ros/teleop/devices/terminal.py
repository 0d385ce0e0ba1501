"""A terminal in cbreak mode, by its path: keys as they come, restored whatever happens."""

from __future__ import annotations

import atexit
import os
import termios
from typing import Any

from vla_ros.errors import MachineError


class Terminal:
    """Reads without waiting and writes without blocking; is never anybody's controlling terminal."""

    def __init__(self, path: str) -> None:
        """`path`: such as /dev/tty or /dev/pts/3."""
        self.path = path
        self._descriptor = -1
        self._before: list[Any] | None = None

    def open(self) -> None:
        """Switch to single keys without echo.  Raises `MachineError`."""
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise MachineError(
                f"The terminal {self.path or '(none was named)'} cannot be opened: {error.strerror}; "
                "run from a terminal, or name one with parameter 'terminal'."
            ) from error
        try:
            self._before = termios.tcgetattr(self._descriptor)
            mode = termios.tcgetattr(self._descriptor)
            # keys at once and unseen; Ctrl-C still ends the command that the terminal belongs to
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 0, 0
            termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
        except termios.error as error:
            os.close(self._descriptor)
            self._descriptor, self._before = -1, None
            raise MachineError(f"{self.path} is no terminal, keys cannot be read from it.") from error
        atexit.register(self.close)

    def read(self) -> bytes:
        """The bytes that have come.  Raises `MachineError` when the terminal was closed."""
        if self._descriptor < 0:
            raise MachineError(f"The terminal {self.path} is closed.")
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise MachineError(f"The terminal {self.path} was closed: {error.strerror}.") from error
        if not data and self._hung_up():
            raise MachineError(f"The terminal {self.path} was closed.")
        return data

    def write(self, text: str) -> None:
        """As much as the terminal takes at once; what it does not take is not shown."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, text.encode("utf-8", "replace"))
        except OSError:
            return

    def columns(self) -> int:
        """Width in characters; 80 where it is not known."""
        try:
            return os.get_terminal_size(self._descriptor).columns or 80
        except OSError:
            return 80

    def close(self) -> None:
        """Restore the terminal's mode."""
        if self._descriptor < 0:
            return
        try:
            if self._before is not None:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
        except termios.error:
            pass
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            atexit.unregister(self.close)

    def _hung_up(self) -> bool:
        """With VMIN 0 nothing to read looks like an end; a terminal that has gone has no mode either."""
        try:
            termios.tcgetattr(self._descriptor)
        except termios.error:
            return True
        return False
