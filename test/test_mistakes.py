"""What newcomers typed by mistake, row by row: one right sentence, the right status, nothing started."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from mistaken import StartedError, desk, typed
from mistakes_table import STARTS, TABLE, UNDER_WAY, Row

__all__ = ["desk"]
REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "mistakes.md"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without hub, Gazebo, terminal or devices, and with a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    # the name of the shell that completion is installed for
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    monkeypatch.setattr("vla_ros.commands.teleop.own_terminal", lambda: "")
    monkeypatch.setattr("vla_ros.teleop.devices.spacemouse.find_mice", lambda folder: [])
    found = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, **how: None if name == "gz" else found(name, **how))
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")

    def unreachable(*given: Any, **options: Any) -> str:
        try:
            raise type("ConnectError", (OSError,), {})("[Errno -2] Name or service not known")
        except OSError as error:
            raise errors.LocalEntryNotFoundError("no snapshot folder for revision on .") from error

    monkeypatch.setattr(hub, "snapshot_download", unreachable)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_mistake_ends_in_a_right_sentence(row: Row, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(row.typed or row.command)
    if words[:3] == ["teleop", "--device", "gamepad"] and list(Path("/dev/input").glob("js*")):
        pytest.skip("a gamepad is connected to this machine")
    runs = desk / "runs"
    before = set(runs.rglob("*"))
    if row.status is STARTS:
        with pytest.raises(StartedError):
            typed(words, desk, monkeypatch)
        return
    answer = typed(words, desk, monkeypatch)
    assert answer.status == row.status, answer.text
    for sentence in row.sentences:
        assert sentence in answer.text
    if answer.status == 2 and words[0] in ("demo", "up", "eval", "teleop") and "Usage" not in answer.text:
        assert answer.lines == 1, answer.text
    # a run that is refused leaves no folder
    assert set(runs.rglob("*")) == before


@pytest.mark.parametrize("node", sorted(set(UNDER_WAY.values())))
def test_what_only_a_run_gives_has_a_test_of_its_own(node: str) -> None:
    name, _, function = node.partition("::")
    path = Path(__file__).parent / name
    assert re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_of_the_table_is_covered() -> None:
    if not REFERENCE.is_file():
        pytest.skip("the table of mistakes is not beside the repository")
    rows = re.findall(r"^\| `(.+?)` \| \d+ \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 90
    commands = {command.removeprefix("vla-ros ") for command in rows}
    assert commands == {row.command for row in TABLE} | set(UNDER_WAY)
