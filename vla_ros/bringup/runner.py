"""Runs the graph as child processes: logs to files, troubles to the screen, everything ends within 2 s.

Those that bring a robot to rest have 5 s, for a machine that is late.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from vla_ros.bringup.graph import BRAKING, Process
from vla_ros.bringup.shm import clean_shared_memory

TROUBLE = ("[WARN]", "[ERROR]", "[FATAL]")
FIRST_DOWN = "lifecycle_manager"
"""Ends first, so that it can walk the others down."""
WALK_DOWN = 0.7
INTERRUPT = 1.3
TERMINATE = 1.7
"""Seconds after the beginning of `stop` at which patience with each step ends."""
BRAKED = 5.0
"""The same for those of `BRAKING`: the safety controller takes 3 s at most (`control_thread.BRAKING`)."""


def arguments_of(process: Process) -> list[str]:
    """Command line of one node."""
    command = [sys.executable, "-m", "vla_ros.nodes", process.module, "--ros-args"]
    for name, value in process.parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    return command


def _yaml(value: Any) -> str:
    # JSON is YAML; whole floats keep their point so that the type stays double
    return json.dumps(value)


class Runner:
    """Child processes of one graph, each in a process group of its own."""

    def __init__(
        self,
        processes: Iterable[Process],
        log_folder: Path,
        environment: Mapping[str, str],
        on_trouble: Callable[[str, str], None],
    ) -> None:
        """`on_trouble(name, line)` is called, from a thread, with every warning or worse that a node logs."""
        self._processes = list(processes)
        self._log_folder = log_folder
        self._environment = {**os.environ, **environment, "VLA_ROS_EMBEDDED": str(os.getpid())}
        self._on_trouble = on_trouble
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()
        self._reader: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Start every process."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        for process in self._processes:
            child = subprocess.Popen(
                arguments_of(process),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**self._environment, **process.environment},
                start_new_session=True,
            )
            self._children[process.name] = child
            if child.stdout is not None:
                os.set_blocking(child.stdout.fileno(), False)
                log = open(self._log_folder / f"{process.name}.log", "w", encoding="utf-8")  # noqa: SIM115
                self._selector.register(child.stdout, selectors.EVENT_READ, (process.name, log, child.stdout))
        self._reader = threading.Thread(target=self._read, name="logs", daemon=True)
        self._reader.start()

    def pids(self) -> dict[str, int]:
        """Process id of every process started."""
        return {name: child.pid for name, child in self._children.items()}

    def ended(self) -> dict[str, int]:
        """Exit status of every required process that has ended."""
        required = {process.name for process in self._processes if process.required}
        return {
            name: child.returncode
            for name, child in self._children.items()
            if name in required and child.poll() is not None
        }

    def stop(self, patience: float = 1.0) -> dict[str, int]:
        """End every process, politely first; exit status by name.

        `patience` stretches the 2 s (5 s for `BRAKING`) within which all is over, killed if need be.
        """
        if not self._stopped:
            self._stopped = True
            begun = time.monotonic()
            manager = self._children.get(FIRST_DOWN)
            if manager is not None and manager.poll() is None:
                _signal(manager, signal.SIGINT)
                _wait([manager], begun + patience * WALK_DOWN)
            children = list(self._children.values())
            braking = [child for name, child in self._children.items() if name in BRAKING]
            others = [child for child in children if child not in braking]
            for asked, how, until in (
                (children, signal.SIGINT, INTERRUPT),
                (children, signal.SIGTERM, TERMINATE),
                (others, signal.SIGKILL, BRAKED),
                (braking, signal.SIGKILL, BRAKED + 10.0),
            ):
                for child in asked:
                    _signal(child, how)
                _wait(children, begun + patience * until)
            if self._reader is not None:
                self._reader.join(timeout=0.3)
            clean_shared_memory()
        return {name: child.returncode for name, child in self._children.items()}

    def _read(self) -> None:
        pending: dict[str, str] = {}
        while self._selector.get_map():
            for key, _ in self._selector.select(timeout=0.5):
                name, log, source = key.data
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    self._selector.unregister(key.fileobj)
                    self._lines(name, log, pending.pop(name, "") + "\n")
                    log.close()
                    source.close()
                    continue
                *lines, pending[name] = (pending.get(name, "") + chunk.decode(errors="replace")).split("\n")
                if lines:
                    self._lines(name, log, "\n".join(lines) + "\n")

    def _lines(self, name: str, log: TextIO, text: str) -> None:
        if not text.strip():
            return
        log.write(text)
        log.flush()
        for line in text.splitlines():
            if line.startswith(TROUBLE):
                self._on_trouble(name, line)


def _signal(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if child.poll() is None:
        try:
            os.killpg(child.pid, how)
        except ProcessLookupError:
            return


def _wait(children: list[subprocess.Popen[bytes]], deadline: float) -> None:
    while time.monotonic() < deadline and any(child.poll() is None for child in children):
        time.sleep(0.01)
