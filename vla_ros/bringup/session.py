"""One graph from start to end, for the command line: domain, processes, operator, episodes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.bringup.domain import claimed_domain
from vla_ros.bringup.graph import GraphOptions, Process, contract_for, environment, graph
from vla_ros.bringup.runner import Runner
from vla_ros.contract import Contract
from vla_ros.errors import ConfigurationError, MachineError, VlaRosError

if TYPE_CHECKING:
    from vla_ros.nodes.operator import EpisodeResult, Operator

MOVE_TIMEOUT, STILL_FOR = 30.0, 0.3
"""Longest time of a motion, and how long the robot must stand to have arrived [s]."""
COMING_TO_REST = 15.0
"""Longest time the motion before may take to come to rest [s]."""
START_TIMEOUT = 60.0
"""Longest time until the graph is up [s], where the lifecycle manager is not told to have more patience."""
REFUSED = 2
"""Exit status of the lifecycle manager when a node refused."""


class Session:
    """A running graph and its operator."""

    def __init__(
        self,
        runner: Runner,
        operator: Operator,
        folder: Path,
        domain: int,
        troubles: list[str],
        up: bool,
        patience: float,
    ) -> None:
        """`up`: whether the lifecycle manager has said that all are active; `patience`: until then [s]."""
        self.runner = runner
        self.operator = operator
        self.folder = folder
        self.domain = domain
        self._troubles = troubles
        self._up = up
        self._patience = patience

    def check(self) -> None:
        """Raise `VlaRosError` when a process of the graph has ended by itself."""
        for name, status in self.runner.ended().items():
            if name == "lifecycle_manager" and status == REFUSED:
                fatal = [line for line in self._troubles if line]
                raise ConfigurationError(fatal[-1] if fatal else "A node refused to start.")
            raise MachineError(
                f"The process '{name}' ended by itself with status {status}: {self._last_words(name)}"
            )

    def wait_up(self) -> float:
        """Wait until every node is active; the seconds it took.  Raises `VlaRosError`."""
        begun = time.monotonic()
        self.check()
        if not self._up and not self.operator.wait_until(self.operator.is_up, self._patience, self.check):
            raise MachineError(
                f"The graph was not up within {self._patience:g} s; see {self.folder / 'log'}."
            )
        return time.monotonic() - begun

    def run_episode(
        self, task: str, instruction: str, seed: int, watch: Callable[[], None] = lambda: None
    ) -> EpisodeResult:
        """One episode from home to its end.  Raises `VlaRosError` when it cannot be started."""

        def look() -> None:
            self.check()
            watch()

        return self._finish(self.operator.start_episode(task, instruction, seed, look), look)

    def replay(self, number: int, watch: Callable[[], None] = lambda: None) -> EpisodeResult:
        """Play one of the replayer's episodes to its end.  Raises `VlaRosError` when it cannot be played."""

        def look() -> None:
            self.check()
            watch()

        return self._finish(self.operator.start_replay(number, look), look)

    def move_to(self, positions: Sequence[float], gripper_width: float) -> None:
        """Move the robot there within its limits and wait until it stands.  Raises `VlaRosError`."""
        deadline = time.monotonic() + COMING_TO_REST
        while True:
            self._wait_standing(COMING_TO_REST)
            answer = self.operator.move_to_joints(list(positions), gripper_width, self.check)
            if answer.success:
                break
            if time.monotonic() > deadline:
                raise EpisodeRefusedError(f"The robot cannot move to the start: {answer.message}.")
            time.sleep(0.1)
        if not self._wait_standing(MOVE_TIMEOUT):
            raise EpisodeRefusedError(f"The robot did not arrive at the start within {MOVE_TIMEOUT:g} s.")

    def _wait_standing(self, timeout: float) -> bool:
        still: list[float] = []

        def stands() -> bool:
            if self.operator.stands:
                still.append(time.monotonic())
            else:
                still.clear()
            return bool(still) and still[-1] - still[0] > STILL_FOR

        return self.operator.wait_until(stands, timeout, self.check)

    def _finish(self, answer: Any, look: Callable[[], None]) -> EpisodeResult:
        if not answer.success:
            raise EpisodeRefusedError(answer.message)
        result: EpisodeResult | None = None
        while result is None:
            look()
            time.sleep(0.02)
            result = self.operator.result(answer.episode_id)
        return result

    def _last_words(self, name: str) -> str:
        log = self.folder / "log" / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        spoken = [line for line in lines if line.strip()]
        return f"{spoken[-1]} (log: {log})" if spoken else f"it said nothing (log: {log})"


class EpisodeRefusedError(VlaRosError):
    """The supervisor did not start an episode."""


def prepared(options: GraphOptions, folder: Path) -> list[Process]:
    """The processes of a run whose contract is written into its folder.  Raises `VlaRosError`."""
    return graph(replace(options, robot=str(write_contract(contract_for(options), folder))))


def write_contract(contract: Contract, folder: Path) -> Path:
    """Put the contract of a run into its folder: what every node is told, and what stays with the bag."""
    path = folder / "contract.yaml"
    path.write_text(contract.to_yaml(), encoding="utf-8")
    return path


def _says(log: Path, words: str, runner: Runner, patience: float) -> bool:
    """Wait until the log says `words`; False when a process ends before, or after `patience` [s]."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not runner.ended():
        if log.exists() and words in log.read_text(encoding="utf-8", errors="replace"):
            return True
        time.sleep(0.02)
    return False


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what this process's own middleware reads when it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def session(
    processes: Sequence[Process], folder: Path, on_trouble: Callable[[str, str], None]
) -> Iterator[Session]:
    """Start the graph; end it, whatever happens, when the context ends.

    `on_trouble(name, line)` gets every warning or worse of the nodes.  Raises `VlaRosError`.
    """
    fatal: list[str] = []

    def note(name: str, line: str) -> None:
        if name == "lifecycle_manager" and line.startswith("[FATAL]"):
            fatal.append(line.removeprefix("[FATAL]").strip())
        else:
            on_trouble(name, line)

    managers = [process for process in processes if process.name == "lifecycle_manager"]
    patience = max([START_TIMEOUT, *(float(one.parameters.get("patience", 0.0)) for one in managers)])
    with claimed_domain() as domain:
        runner = Runner(processes, folder / "log", environment(), note)
        runner.start()
        operator = None
        try:
            # its imports take as long as a process of the graph: while those import theirs
            from vla_ros.nodes.operator import Operator

            # a participant that joins while all the others do may miss an announcement and wait 3 s for the
            # next; one that joins when they are at rest is known to all at once
            up = _says(folder / "log" / "lifecycle_manager.log", " Up: ", runner, patience)
            with _variables(Process("operator").environment):
                operator = Operator()
            yield Session(runner, operator, folder, domain, fatal, up, patience)
        finally:
            if operator is not None:
                operator.close()
            runner.stop()
