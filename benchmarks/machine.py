"""The machine a measurement was made on, and what its processes cost."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vla_ros.errors import ConfigurationError

PACKAGES = (
    "rclpy", "numpy", "pin", "daqp", "ruckig", "opencv-python-headless", "torch", "transformers",
    "onnxruntime",
)  # fmt: skip
TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict[str, Any]:
    """Cores, CPU, kernel, load, versions and date; the head of every result."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(["python", *(_short(argument) for argument in sys.argv)]),
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _cpu(),
            "kernel": platform.release(),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version(), "commit": _commit(), **_packages()},
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads so far [s]; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime, stime: fields 14 and 15 of proc(5)


class CpuShares:
    """CPU use of named processes and of the whole machine between two moments."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """Take the first moment."""
        self._pids = pids
        self._begin, self._stat = self._now(), _machine_times()
        self._time = time.monotonic()

    def percent(self) -> dict[str, float]:
        """Per process, percent of one core since the first moment; ask while they still run."""
        elapsed = time.monotonic() - self._time
        return {
            name: round(100.0 * (seconds - self._begin[name]) / elapsed, 1)
            for name, seconds in self._now().items()
        }

    def machine(self) -> dict[str, float]:
        """Percent of all cores together: busy with anything, and stolen by the hypervisor."""
        busy, stolen, total = (b - a for a, b in zip(self._stat, _machine_times(), strict=True))
        return {
            "busy": round(100.0 * busy / max(total, 1), 1),
            "stolen": round(100 * stolen / max(total, 1), 1),
        }

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def _machine_times() -> tuple[int, int, int]:
    """Busy, stolen and all ticks of all cores (proc(5): user nice system idle iowait irq softirq steal)."""
    with open("/proc/stat", encoding="ascii") as file:
        values = [int(value) for value in file.readline().split()[1:9]]
    return sum(values) - values[3] - values[4], values[7], sum(values)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _short(argument: str) -> str:
    """Paths inside the checkout without the checkout's own."""
    return argument.removeprefix(f"{ROOT}/")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a result; a value that was not measured becomes null.  Raises `ConfigurationError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # whole or not at all: a long benchmark writes again and again, and may be ended at any time
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(_plain(document), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
