"""The command line as a user meets it; nothing is simulated here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vla_ros import __version__
from vla_ros.cli import app

runner = CliRunner()


def vla_ros(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["demo", "up", "eval", "replay", "doctor", "robot"])
def test_every_command_explains_itself(command: str) -> None:
    shown = runner.invoke(app, [command, "--help"])
    assert shown.exit_code == 0 and len(shown.output) > 200
    assert command in runner.invoke(app, ["--help"]).output


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).output.strip() == __version__


@pytest.mark.parametrize("robot", ["panda", "fr3", "widowx", "ur5", "ur5e", "franka"])
def test_robot_info_names_every_joint(robot: str) -> None:
    from vla_ros.robots import load_robot

    shown = runner.invoke(app, ["robot", "info", robot], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert all(joint in shown.output for joint in load_robot(robot).joint_names)


BAD = [
    (["robot", "info", "r2d2"], "r2d2"),
    (["demo", "--robot", "r2d2"], "r2d2"),
    (["demo", "--policy", "crystal_ball"], "crystal_ball"),
    (["demo", "--instruction", " "], "instruction is empty"),
    (["up", "panda", "--sim", "holodeck"], "holodeck"),
    (["eval", "--tasks", "juggle"], "juggle"),
    (["eval", "--robot", "missing.yaml"], "missing.yaml"),
    (["replay", "--rlds", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "fragment"), BAD)
def test_bad_input_is_one_sentence_and_status_2(arguments: list[str], fragment: str, tmp_path: Path) -> None:
    runs = [] if arguments[0] == "robot" else ["--runs", str(tmp_path / "runs")]
    refused = vla_ros(*arguments, *runs)
    assert refused.returncode == 2
    assert fragment in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    assert "Traceback" not in refused.stderr + refused.stdout
    assert not list(tmp_path.glob("runs/*/log"))


def test_a_domain_that_is_none_is_refused(tmp_path: Path) -> None:
    refused = vla_ros("demo", "--runs", str(tmp_path), ROS_DOMAIN_ID="many")
    assert refused.returncode == 2 and "ROS_DOMAIN_ID" in refused.stderr


def test_a_broken_contract_is_named_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("robot: panda\npolicy: [visual\n", encoding="utf-8")
    refused = vla_ros("demo", "--robot", str(broken), "--runs", str(tmp_path / "runs"))
    assert refused.returncode == 2 and "broken.yaml" in refused.stderr and "line" in refused.stderr
