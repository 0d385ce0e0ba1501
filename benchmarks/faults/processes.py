"""Real processes of the nodes under attack, each of which can be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from benchmarks.machine import ROOT
from vla_ros.bringup.graph import Process, environment
from vla_ros.bringup.runner import arguments_of
from vla_ros.bringup.shm import clean_shared_memory


class Processes:
    """Child processes by name; logs in a folder.  They end when this process does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment(), "VLA_ROS_EMBEDDED": str(os.getpid())}
        self._environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
        )
        self._known: dict[str, Process] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, IO[bytes]] = {}
        self._hogs: list[subprocess.Popen[bytes]] = []

    def start(self, process: Process) -> None:
        """Start a node's process."""
        self._known[process.name] = process
        log = self._logs.get(process.name)
        if log is None:
            log = self._logs[process.name] = open(self._folder / f"{process.name}.log", "wb")  # noqa: SIM115
        self._children[process.name] = subprocess.Popen(
            arguments_of(process),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**self._environment, **process.environment},
            start_new_session=True,
        )

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        child = self._children[name]
        child.kill()
        child.wait()

    def restart(self, name: str) -> None:
        """Start a killed process again."""
        self.start(self._known[name])

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self._children[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._children[name].send_signal(signal.SIGCONT)

    def alive(self, name: str) -> bool:
        """Whether the process runs."""
        return self._children[name].poll() is None

    def burn(self, count: int) -> None:
        """Processes that do nothing but work."""
        command = [sys.executable, "-c", "while True: pass"]
        self._hogs += [subprocess.Popen(command, start_new_session=True) for _ in range(count)]

    def cool(self) -> None:
        """End what `burn` started."""
        for hog in self._hogs:
            hog.kill()
            hog.wait()
        self._hogs.clear()

    def close(self) -> None:
        """End everything."""
        self.cool()
        children = [child for child in self._children.values() if child.poll() is None]
        for child in children:
            child.send_signal(signal.SIGCONT)
            child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline and any(child.poll() is None for child in children):
            time.sleep(0.02)
        for child in children:
            child.kill()
            child.wait()
        for log in self._logs.values():
            log.close()
        clean_shared_memory()
