"""Whether a model fits this machine, as far as that is known before it is loaded."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import MachineError
from vla_ros.policies.base import MachineNeed

_ANSWER = 5.0
"""Longest time that `nvidia-smi` may take [s]."""
HEAVY = 2 * 2**30
"""Bytes of weights from which on a processor takes seconds for an answer."""


@dataclass(frozen=True)
class Machine:
    """What a process may still take."""

    memory: int
    """Bytes of memory; 0: not known."""
    gpus: tuple[int, ...] = ()
    """Free bytes of each NVIDIA GPU, as far as `nvidia-smi` tells."""


def this_machine(root: Path = Path("/")) -> Machine:
    """What this machine has at this moment; `root` is where `proc` and `sys` are."""
    return Machine(_memory(root), _gpus())


def check_machine(policy: str, need: MachineNeed) -> None:
    """Refuse a model that this machine has no memory for.  Raises `MachineError`."""
    problem = machine_problem(policy, need, this_machine())
    if problem:
        raise MachineError(problem)


def machine_problem(policy: str, need: MachineNeed, machine: Machine) -> str:
    """Why a model cannot be loaded on `machine`, as a sentence; empty where it fits, or nothing is known."""
    on_gpu = need.device == "cuda" or (need.device == "auto" and bool(machine.gpus))
    free = max(machine.gpus, default=0) if on_gpu else machine.memory
    taken = need.memory if on_gpu else need.on_cpu or need.memory
    if not taken or not free or taken <= free:
        return ""
    place = "the GPU of this machine" if on_gpu else "this machine"
    return (
        f"policy '{policy}' takes about {_gib(taken)} of memory with these options, but {place} has "
        f"{_gib(free)} left: take less wide weights (option `precision`), or serve it on another machine "
        "(`vla-ros policy serve` there, policy `remote` here)"
    )


def machine_doubt(policy: str, need: MachineNeed, machine: Machine) -> str:
    """What a model will be slow at on `machine`, as a sentence; empty where nothing is known."""
    if need.memory < HEAVY or need.device == "cuda" or machine.gpus:
        return ""
    return (
        f"Policy '{policy}' would run on this machine's processor: a model of {_gib(need.memory)} takes "
        "seconds there for an answer; `vla-ros policy bench` measures it."
    )


def _memory(root: Path) -> int:
    found = [_meminfo(root), *_groups(root)]
    return min((one for one in found if one > 0), default=0)


def _meminfo(root: Path) -> int:
    # https://docs.kernel.org/filesystems/proc.html: an estimate of what can be taken without swapping
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split():
            return int(value.split()[0]) * 1024
    return 0


def _groups(root: Path) -> list[int]:
    """What the control groups of this process leave (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    names = [line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")]
    base = root / "sys/fs/cgroup"
    left = []
    for name in names:
        folder = base / name.strip("/")
        for one in (folder, *folder.parents):
            limit, used = _text(one / "memory.max").strip(), _text(one / "memory.current").strip()
            if limit.isdigit() and used.isdigit():
                # files that are cached are given back when memory is short
                cached = [
                    int(line.split()[1])
                    for line in _text(one / "memory.stat").splitlines()
                    if line.startswith("inactive_file ")
                ]
                left.append(max(int(limit) - int(used) + sum(cached), 1))
            if one == base:
                break
    return left


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _gpus() -> tuple[int, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, check=False, timeout=_ANSWER, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    if done.returncode:
        return ()
    return tuple(int(line) * 2**20 for line in done.stdout.split() if line.isdigit())


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
