"""The table in README.md of what has been tried, from docs/proven.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "proven.yaml"
BEGIN, END = "<!-- Written by `make docs`; change docs/proven.yaml instead. -->", "<!-- End of the table. -->"
MARKS = {"real": "real", "double": "double", "none": "–"}
"""How a mark is shown."""


def load() -> dict[str, Any]:
    """The document."""
    found: dict[str, Any] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return found


def evidence(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(robot, what shows it) of every mark; the robot is empty where it does not depend on one."""
    for row in document["features"]:
        for mark in ("real", "double"):
            for entry in row.get(mark, []):
                yield from ((robot, entry["by"]) for robot in entry["robots"])
    for row in document["anywhere"]:
        if row["mark"] != "none":
            yield "", row["by"]


def marks(row: dict[str, Any], robots: list[str]) -> list[str]:
    """The mark of each robot for one feature, linked to what shows it."""
    cells = dict.fromkeys(robots, MARKS["none"])
    for mark in ("double", "real"):
        for entry in row.get(mark, []):
            for robot in entry["robots"]:
                cells[robot] = _linked(mark, entry["by"])
    return [cells[robot] for robot in robots]


def with_table(text: str, table: list[str]) -> str:
    """A page with the table between its two comments.  Raises `SystemExit` where they are missing."""
    found = re.search(f"{re.escape(BEGIN)}.*?{re.escape(END)}", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"README.md has lost the lines '{BEGIN}' and '{END}'.")
    return text.replace(found.group(0), "\n".join([BEGIN, *table, END]))


def _linked(mark: str, by: str) -> str:
    return f"[{MARKS[mark]}]({by.split('::')[0]})"


def rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Heading and rows of the table by robot, and rows of what does not depend on one."""
    robots = document["robots"]
    first = [[row["feature"], *marks(row, list(robots))] for row in document["features"]]
    second = [
        [row["what"], _linked(row["mark"], row["by"]) if "by" in row else MARKS[row["mark"]]]
        for row in document["anywhere"]
    ]
    return ["", *robots.values()], first, second
