"""A policy of one's own, as docs/policies.md shows it: what `policy check` passes runs in the graph."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from late_machine import StoppedError

from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.run_data import load_run
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "policies.md"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests"),
]


def test_the_page_s_policy_is_checked_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    section = PAGE.read_text(encoding="utf-8").partition("## A policy of your own")[2]
    code, commands = re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)[:2]
    (tmp_path / "my_policy.py").write_text(code, encoding="utf-8")
    check, demo = (shlex.split(line)[1:] for line in commands.strip().splitlines())
    assert check[:2] == ["policy", "check"] and demo[0] == "demo"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    said = []
    for words in (check, [*demo, "--runs", "runs"]):
        done = subprocess.run(
            [sys.executable, "-m", "vla_ros.cli", *words], cwd=tmp_path, check=False, timeout=120.0,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        said.append(done.stdout + done.stderr)
        assert "Traceback" not in said[-1], said[-1]
        # it goes down and picks nothing
        assert done.returncode == (1 if words[0] == "demo" else 0), said[-1]
    robot = load_robot("ur5e")
    run = load_run(next(tmp_path.glob("runs/*/bag")), robot)
    if len(run.chunks.stamps) <= 3:
        raise StoppedError(said[-1])
    kinematics = Kinematics(robot)
    heights = [kinematics.forward(q).position[2] for q in run.setpoints.positions[::50]]
    # five centimetres, and the steps that were already answered
    assert 0.02 < heights[0] - min(heights) < 0.085
    assert judge_run(run, robot).violations == ()
