"""What was typed by mistake, in process: nothing may be started, the answer is words and a status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from demonstration_bag import Demonstration, write_bag
from typer.testing import CliRunner

from vla_ros.cli import app

CONTRACTS = {
    "as": "robot: ur5e\naction_space: joint_positions\n",
    "badcam": (
        "robot: ur5e\ncameras:\n"
        "  front: {topic: /camera/color/image_raw, width: 640, height: 480, rate: 30}\n"
    ),
    "broken": "robot: [ur5e\n",
    "deg": "robot: ur5e\naction_space: delta_tcp\naction_rate: 5\nhome: [0, -90, 90, -90, -90, 0]\n",
    "empty": "\n",
    "mm": "robot: ur5e\nworkspace: {x: [-500, 500]}\n",
    "rs": (
        "robot: ur5e\naction_space: delta_tcp\naction_rate: 5.0\ncameras:\n"
        "  primary: {topic: /camera/camera/color/image_raw, width: 640, height: 480, rate: 30.0}\n"
    ),
    "same": (
        "robot: ur5e\ncameras:\n"
        "  primary: {topic: /camera/primary/image_raw, width: 320, height: 240, rate: 15.0}\n"
        "  wrist: {topic: /camera/primary/image_raw, width: 320, height: 240, rate: 15.0}\n"
    ),
    "str": (
        "robot: ur5e\ncameras:\n"
        '  primary: {topic: camera/color/image_raw, width: "640", height: 480, rate: 30}\n'
    ),
    "swap": (
        "robot: ur5e\ncameras:\n"
        "  primary: {topic: /camera/wrist/image_raw, width: 320, height: 240, rate: 15.0}\n"
        "  wrist: {topic: /camera/primary/image_raw, width: 320, height: 240, rate: 15.0}\n"
    ),
    "te": "robot: panda\nblending: temporal_ensemble\n",
    "tiny": (
        "robot: ur5e\ncameras:\n"
        '  primary: {topic: /camera/primary/image_raw, width: 32, height: 24, rate: 1}\n'
    ),
    "typo": "robot: ur5ee\n",
    "u": "robot: ur5e\n",
    "unk": "robot: ur5e\naction_spce: delta_tcp\n",
}  # fmt: skip
"""Contracts with a mistake each, but for `rs`, `te` and `u`, which are right."""


class StartedError(AssertionError):
    """A graph was started where it should not have been."""


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    text: str
    """Of both streams, without the frame around Typer's errors, in one line."""
    lines: int


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a newcomer's: contracts, bags good, slow and cut, and files that are none of these."""
    folder = tmp_path_factory.mktemp("desk")
    for name, text in CONTRACTS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "emptyds").mkdir()
    (folder / "docs").mkdir()
    (folder / "docs" / "readme.md").write_text("# Nothing\n")
    (folder / "e.mcap").write_bytes(b"")
    (folder / "video.mp4").write_bytes(bytes(8) + b"ftypisom" + bytes(5000))
    write_bag(folder / "demo1" / "bag", Demonstration())
    write_bag(folder / "demos" / "a_good", Demonstration(episode_id="a"))
    write_bag(
        folder / "demos" / "b_slow",
        Demonstration(episode_id="b", outcome=3, keep=lambda n, t: n != "joint states" or round(t * 125) % 3),
    )
    (cut,) = write_bag(folder / "cutbag", Demonstration()).glob("*.mcap")
    cut.write_bytes(cut.read_bytes()[:-2000])
    (folder / "cutbag_repaired").mkdir()
    (folder / "mypol.py").write_text(POLICY)
    return folder


POLICY = '''
"""A policy of one's own."""
import numpy as np

from vla_ros.policies.base import PolicyRequirements
from vla_ros.types import PolicyOutput


class Mine:
    requirements = PolicyRequirements(action_space="delta_tcp", rate=5.0, horizon=1)

    def load(self):
        pass

    def reset(self, instruction):
        pass

    def infer(self, observation):
        rows = np.zeros((1, 7))
        return PolicyOutput(values=rows)


def make(robot, action_space="delta_tcp", rate=5.0, speed=0.05):
    return Mine()
'''


def typed(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Answer:
    """Type `vla-ros` and words in a folder.  Whatever would start the graph's processes fails the test."""

    def start(*given: Any, **options: Any) -> None:
        raise StartedError(f"{words} started a graph")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("vla_ros.bringup.runner.Runner.start", start)
    result = CliRunner().invoke(app, words, env={"COLUMNS": "4000", "TERMINAL_WIDTH": "4000", **environment})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    text = re.sub("[─-╿]", " ", result.output)
    assert "Traceback" not in text
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return Answer(result.exit_code, " | ".join(lines), len(lines))
