"""Processes in the foreground of a terminal, as `ros2 launch` has them: one Ctrl-C reaches all at once.

`Foreground` opens the terminal; what runs in it is this module too, in the place of `ros2 launch`: it starts
the children in its own process group, sends SIGINT to each when it gets one itself, SIGTERM 5 s later and
SIGKILL 5 s after that (the defaults of launch's `ExecuteLocal`), and is ended by SIGHUP, as launch is.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.machine import ROOT

SIGTERM_AFTER, SIGKILL_AFTER = 5.0, 5.0
"""Seconds after SIGINT, and after SIGTERM: launch's own."""
CHILDREN, KILLED = "children.json", "killed.json"
"""Process ids of the children by name, and the names of those that had to be killed."""


class Foreground:
    """Commands in a terminal of their own."""

    def __init__(
        self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start them; `folder` takes what they print (`terminal.log`), their ids, and who was killed."""
        self._report, self._killed = folder / CHILDREN, folder / KILLED
        self._report.unlink(missing_ok=True)
        self._killed.unlink(missing_ok=True)
        self._master, slave = os.openpty()
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self._leader = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.foreground", str(self._report), json.dumps(dict(commands))],
            stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, start_new_session=True, preexec_fn=_controlled,
            env={
                **os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PYTHONFAULTHANDLER": "1",
            },
        )  # fmt: skip
        os.close(slave)
        self._log = open(folder / "terminal.log", "ab")  # noqa: SIM115
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def press_ctrl_c(self) -> None:
        """What the terminal does: the foreground process group gets SIGINT."""
        os.write(self._master, b"\x03")

    def send(self, signum: int) -> None:
        """A signal for all at once, as from the system that shuts down."""
        os.killpg(self._leader.pid, signum)

    def close_terminal(self) -> None:
        """The window is closed: SIGHUP for all, and nobody reads what they print."""
        # it is closed when nobody reads from it any more
        self._closed.set()
        self._reader.join()
        os.close(self._master)

    def pids(self) -> dict[str, int]:
        """Process ids by name; empty before all are started."""
        return dict(json.loads(self._report.read_text())) if self._report.exists() else {}

    def alive(self) -> list[str]:
        """Names of the children that run."""
        return [name for name, pid in self.pids().items() if _runs(pid)]

    def wait(self, patience: float) -> list[str]:
        """Wait until all have ended; the names of those that have not, or not by themselves."""
        deadline = time.monotonic() + patience
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        killed = json.loads(self._killed.read_text()) if self._killed.exists() else []
        return [*self.alive(), *killed]

    def end(self) -> None:
        """End what still runs, and close the terminal."""
        for name in self.alive():
            os.kill(self.pids()[name], signal.SIGKILL)
        self._leader.kill()
        self._leader.wait()
        if not self._closed.is_set():
            self.close_terminal()
        self._log.close()

    def _read(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._master], [], [], 0.02)[0]:
                continue
            try:
                self._log.write(os.read(self._master, 65536))
            except OSError:  # no process holds the other side any more
                return
            self._log.flush()


def _controlled() -> None:
    # the terminal is the new session's, so that closing it hangs up on its processes
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def lead(report: Path, commands: Mapping[str, Sequence[str]]) -> None:
    """In the place of `ros2 launch`."""
    asked = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: asked.set())
    children = {name: subprocess.Popen(command) for name, command in commands.items()}
    part = report.with_suffix(".part")
    part.write_text(json.dumps({name: child.pid for name, child in children.items()}))
    part.replace(report)
    while not asked.wait(0.02):
        if all(child.poll() is not None for child in children.values()):
            return
    for how, patience in (
        (signal.SIGINT, SIGTERM_AFTER),
        (signal.SIGTERM, SIGKILL_AFTER),
        (signal.SIGABRT, 0.5),  # in the place of SIGKILL: Python then says where every thread is
        (signal.SIGKILL, 1.0),
    ):
        if how is signal.SIGABRT:
            left = [name for name, child in children.items() if child.poll() is None]
            report.with_name(KILLED).write_text(json.dumps(left))
        for child in children.values():
            child.send_signal(how)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if all(child.poll() is not None for child in children.values()):
                return
            time.sleep(0.02)


if __name__ == "__main__":
    lead(Path(sys.argv[1]), json.loads(sys.argv[2]))
