"""Live tests are run again where the machine was late, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import time
from pathlib import Path
import late_machine
import pytest

late_machine.PAUSE = 0.0
COUNT = Path(__file__).with_suffix(".count")

def tries():
    COUNT.write_text(str(int(COUNT.read_text()) + 1 if COUNT.exists() else 1))
    return int(COUNT.read_text())

@pytest.fixture(scope="module")
def graph():
    return tries()
"""
LATE = """
class Told(late_machine.Lateness):
    def __exit__(self, *error):
        super().__exit__(*error)
        self.worst = 0.3
late_machine.Lateness = Told
"""
IN_TIME = LATE.replace("0.3", "0.01")


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def outcome(
    pytester: pytest.Pytester, body: str, marks: str = "@pytest.mark.live", *more: str
) -> tuple[str, int]:
    """The summary, and how often the graph was made."""
    pytester.makeini("[pytest]\nmarkers = live: runs nodes\ntimeout = 60")
    test = pytester.makepyfile(test_it=f"{HEAD}\n{body}")
    test.write_text(test.read_text().replace("@live", marks))
    done = pytester.runpytest_subprocess("-p", "late_machine", "-p", "no:cacheprovider", *more)
    return done.stdout.str(), int(test.with_suffix(".count").read_text())


def test_a_robot_that_was_stopped_gets_another_graph(pytester: pytest.Pytester) -> None:
    body = '@live\ndef test_it(graph):\n    if graph < 3: raise late_machine.StoppedError("states are old")'
    said, tries = outcome(pytester, body)
    assert "1 passed" in said and tries == 3
    assert said.count("test_it: the robot was stopped (late_machine.StoppedError: states are old)") == 2


def test_another_process_says_so_too(pytester: pytest.Pytester) -> None:
    body = '@live\ndef test_it(graph):\n    if graph < 2: raise late_machine.StoppedError("states are old")'
    said, tries = outcome(pytester, body, "@pytest.mark.live", "-n", "1")
    assert "1 passed" in said and tries == 2 and said.count("test_it: the robot was stopped") == 1


def test_a_robot_that_is_always_stopped_fails(pytester: pytest.Pytester) -> None:
    said, tries = outcome(pytester, '@live\ndef test_it(graph): raise late_machine.StoppedError("old")')
    assert "1 failed" in said and tries == 4


def test_a_failure_on_a_late_machine_is_tried_again(pytester: pytest.Pytester) -> None:
    said, tries = outcome(pytester, f"{LATE}\n@live\ndef test_it(graph): assert graph == 2")
    assert "1 passed" in said and tries == 2 and "the machine was 0.30 s late (assert 1 == 2)" in said


def test_time_that_was_really_lost_is_seen(pytester: pytest.Pytester) -> None:
    # the interpreter is held, as by a machine that lets nobody run
    held = "import re\nre.match(r'(a+)+$', 'a' * 24 + 'b')"
    body = f"@live\ndef test_it(graph):\n    exec({held!r})\n    assert graph == 2"
    said, tries = outcome(pytester, body)
    assert "1 passed" in said and tries == 2 and "s late" in said


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        (f"{IN_TIME}\n@live\ndef test_it(graph): assert graph == 2", "@pytest.mark.live"),
        (f"{LATE}\n@live\ndef test_it(graph): assert graph == 2", ""),  # not live
        (f"{LATE}\n@live\ndef test_it(graph):\n    violations = ['speed']\n    assert violations == []",
         "@pytest.mark.live"),
        (f"{LATE}\n@live\n@pytest.mark.timeout(1.5)\ndef test_it(graph):\n    time.sleep(0.7)\n    assert 0",
         "@pytest.mark.live"),  # no time left
    ],
)  # fmt: skip
def test_what_is_not_tried_again(pytester: pytest.Pytester, body: str, marks: str) -> None:
    said, tries = outcome(pytester, body, marks)
    assert "1 failed" in said and tries == 1 and "run again" not in said
