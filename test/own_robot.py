"""The robot of docs/own_robot.md, made as the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "own_robot.md"


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)


def make_files(folder: Path) -> Path:
    """Follow the page in `folder` until the files are there; the folder of the robot."""
    (folder / "urdf").symlink_to(ROOT / "urdf")
    shell = [block for block in blocks("sh") if not block.startswith("vla-ros")]
    for block in shell:
        subprocess.run(["sh", "-e", "-c", block], cwd=folder, check=True)
    for block in blocks("yaml"):
        name = block.splitlines()[0].removeprefix("# ")
        (folder / name).write_text(block, encoding="utf-8")
    (folder / "urdf").unlink()
    return folder / "my_arm"


def commands() -> list[list[str]]:
    """The arguments of every `vla-ros` command of the page, in its order."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("vla-ros ")]
    return [shlex.split(line)[1:] for line in lines]


def spoil(folder: Path, key: str, value: object) -> None:
    """Change one key of the description, named by its path with dots."""
    path = folder / "arm.yaml"
    content = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    section[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def edit_urdf(folder: Path, before: str, after: str) -> None:
    """Replace a part of the URDF."""
    path = folder / "arm.urdf"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
