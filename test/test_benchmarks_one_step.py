"""Single steps that come late, in closed loop with the simulated world."""

from __future__ import annotations

import pytest

from benchmarks.one_step import document, rows
from benchmarks.one_step_run import Cell, episode


@pytest.mark.parametrize(
    ("robot", "rate", "age"), [("widowx", 5.0, 0.35), ("widowx", 10.0, 0.05), ("ur5", 3.0, 0.5)]
)
def test_a_policy_of_single_steps_picks_however_late_it_answers(robot, rate, age):
    cell = Cell(robot, rate, age)
    found = episode(cell, "pick", 1)
    assert found.success, found.reason
    assert (found.refused, found.rests, found.broken) == (0, 0, 0)
    assert found.answers > 10
    assert found.pace == pytest.approx(1.0) if age < 0.1 else found.pace < 0.5


def test_the_tables_hold_every_cell():
    found = episode(Cell("widowx", 5.0, 0.05), "pick", 2)
    done = {(Cell("widowx", 5.0, 0.05), 2): found, (Cell("panda", 3.0, 0.5), 2): found}
    result = document({"date": "today"}, "pick", done)
    assert result["episodes"] == 2 and len(result["cells"]) == 2 and len(result["every_episode"]) == 2
    tables = rows(result)
    assert [table.title.split(",")[0] for table in tables] == ["widowx", "panda", "All"]
    assert tables[0].cells[0][1].startswith("1 of 1")
