"""Pin every package of the environment to an exact version: writes constraints/*.txt (needs `uv`).

One lock serves Python 3.10 to 3.12: lines that hold for some versions only carry a marker.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "constraints"
DISTROS = ("jazzy", "kilted")
CUDA = ("nvidia-", "cuda-", "triton==")
"""Names that begin so come with a PyTorch for GPUs and are chosen by it: a build for CPUs needs none."""


def resolve(distro: str, extras: list[str]) -> list[str]:
    """Requirement lines, `name==version ; marker`, of the package with `extras` on one ROS distribution."""
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.10", "--no-annotate"]
    command += ["--no-header", "--quiet", *[word for extra in extras for word in ("--extra", extra)]]
    command += [str(ROOT / "pyproject.toml"), str(FOLDER / "common.in"), str(FOLDER / f"{distro}.in")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"uv could not resolve the packages for {distro}: {done.stderr.strip()}")
    return [line for line in done.stdout.splitlines() if line]


def write(name: str, lines: list[str]) -> None:
    """Write one lock file."""
    text = "\n".join(["# Written by `make lock`; change pyproject.toml or constraints/*.in instead.", *lines])
    (FOLDER / name).write_text(text + "\n")


def main() -> None:
    """Resolve both distributions; what they share goes to common.txt, the rest to models.txt and test.txt."""
    base = {distro: resolve(distro, ["sim"]) for distro in DISTROS}
    models = {distro: resolve(distro, ["sim", "models"]) for distro in DISTROS}
    test = {distro: resolve(distro, ["sim", "models", "test", "lint"]) for distro in DISTROS}
    shared = [line for line in base["jazzy"] if line in base["kilted"]]
    write("common.txt", shared)
    for distro in DISTROS:
        write(f"{distro}.txt", [line for line in base[distro] if line not in shared])
    write("models.txt", [line for line in added(base, models) if not line.startswith(CUDA)])
    write("test.txt", added(models, test))


def added(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Lines that `after` has besides those of `before`, the same on both distributions."""
    extra = {distro: [line for line in after[distro] if line not in before[distro]] for distro in DISTROS}
    if extra["jazzy"] != extra["kilted"]:
        sys.exit("What is added to the base resolves differently on the two distributions.")
    return extra["jazzy"]


if __name__ == "__main__":
    main()
