"""`vla-ros up`: how an episode ended is printed, once."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from vla_ros.commands.safe_console import Console
from vla_ros.commands.up import _outcome


def operator(name: str, outcome: str | None) -> Any:
    ended = SimpleNamespace(episode_id=name, outcome=SimpleNamespace(name=outcome), reason="It was lifted.")
    return SimpleNamespace(
        episode=SimpleNamespace(episode_id=name), result=lambda _: None if outcome is None else ended
    )


def test_each_end_is_printed_once() -> None:
    text = io.StringIO()
    console, last = Console(file=text, width=200), ""
    for name, outcome in (
        ("", None), ("episode_0001", None), ("episode_0001", "SUCCESS"), ("episode_0001", "SUCCESS"),
        ("episode_0002", None), ("episode_0002", "ABORTED"),
    ):  # fmt: skip
        last = _outcome(console, operator(name, outcome), last)
    assert text.getvalue().splitlines() == [
        "episode_0001: success: It was lifted.", "episode_0002: aborted: It was lifted.",
    ]  # fmt: skip
