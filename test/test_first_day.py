"""The page 'Monday in a lab' and its program agree; the table of what has been tried names what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from benchmarks.first_day.commands import LAUNCH_FILES, Commands, of_page
from benchmarks.first_day.steps import StepFailedError, require
from benchmarks.first_day.terminal import INTERRUPT, Terminal
from vla_ros.cli import app
from vla_ros.robots import robot_names

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "first_day.md"


def test_the_page_has_the_programs_commands_in_their_order() -> None:
    assert of_page(PAGE) == Commands().all()


def test_a_command_that_only_the_page_has_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8") + "\n```\nvla-ros doctor\n```\n", encoding="utf-8")
    assert of_page(page) != Commands().all()


def parsed(command: str) -> Any:
    """Parse a command without doing it."""
    _, *words = shlex.split(command.replace("$(", "").replace(")", ""))
    context = typer.main.get_command(app).make_context("vla-ros", words, resilient_parsing=False)
    while (group := context.command) and hasattr(group, "commands"):
        name, found, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        context = found.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("robot", robot_names())
def test_every_command_parses(robot: str) -> None:
    for command in Commands(robot).all():
        if command.startswith("vla-ros "):
            parsed(command)


def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--nowhere"):
        parsed("vla-ros doctor --nowhere")


def test_every_robot_has_its_launch_file() -> None:
    assert sorted(LAUNCH_FILES) == sorted(robot_names())
    for name in LAUNCH_FILES.values():
        assert (ROOT / "launch" / f"{name}.launch.py").is_file()


def test_a_step_that_fails_says_why() -> None:
    with pytest.raises(StepFailedError, match="no report"):
        require(False, "There is no report.")


def test_ctrl_c_in_the_terminal_is_a_signal_and_the_folder_is_its_own(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "try:\n  print(os.getcwd(), flush=True)\n  time.sleep(30)\n"
        "except KeyboardInterrupt:\n  exit(7)"
    )
    with Terminal([sys.executable, "-c", code], tmp_path) as terminal:
        assert terminal.wait_for(re.escape(str(tmp_path)), 20.0)
        terminal.press(INTERRUPT)
        assert terminal.wait(20.0) == 7


@pytest.fixture(scope="module")
def proven() -> ModuleType:
    spec = importlib.util.spec_from_file_location("proven", ROOT / "scripts" / "proven.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mark_names_a_test_or_result_that_exists_and_knows_the_robot(proven: ModuleType) -> None:
    document = proven.load()
    assert list(document["robots"]) == [*dict.fromkeys(document["robots"])]
    assert set(document["robots"]) == {*robot_names(), "own"}
    for robot, by in proven.evidence(document):
        file, _, function = by.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".json") and function:
            result = json.loads(text)
            assert result["robot"] == robot
            assert [row["good"] for row in result["steps"] if row["step"] == function] == [True], by
            assert function != "launch" or result["figures"]["launched_by"] == "ros2 launch"
            continue
        assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), by
        assert robot in ("", "own") or f'"{robot}"' in text, f"{by} does not name {robot}"


def test_a_robot_without_evidence_has_no_mark(proven: ModuleType) -> None:
    row = {"real": [{"robots": ["ur5"], "by": "test/test_graph.py"}]}
    assert proven.marks(row, ["panda", "ur5"]) == ["–", "[real](test/test_graph.py)"]


def test_the_readme_shows_that_table(proven: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, by_robot, anywhere = proven.rows(proven.load())
    for row in (*by_robot, *anywhere):
        assert "| " + " | ".join(row) + " |" in readme
    assert "docs/first_day.md" in readme
