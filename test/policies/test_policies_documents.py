"""The tables of options in the documents name the options there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vla_ros.policies.registry import policy_names, policy_options

DOCS = Path(__file__).resolve().parents[2] / "docs"
OF_THE_CONTRACT = {"action_space", "rate"}


def options(text: str) -> set[str]:
    """Names in the first column of the tables of options."""
    found = set()
    for table in re.findall(r"^\| option[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, re.M):
        for row in table.splitlines():
            found |= set(re.findall(r"`([a-z_]+)`", row.split("|")[1]))
    return found


def test_remote_options() -> None:
    known = set(policy_options("remote") or {}) - OF_THE_CONTRACT
    assert options((DOCS / "remote.md").read_text(encoding="utf-8")) == known


def test_openvla_options() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    known = set(policy_options("openvla") or {}) - OF_THE_CONTRACT - {"towers"}
    assert options((DOCS / "policies.md").read_text(encoding="utf-8")) == known


def test_every_policy_is_told_of() -> None:
    text = (DOCS / "policies.md").read_text(encoding="utf-8") + (DOCS / "remote.md").read_text(
        encoding="utf-8"
    )
    assert [name for name in policy_names() if name not in text] == []
