"""The last run of the first day as a table for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import Rows


def rows(document: Mapping[str, Any]) -> list[Rows]:
    """Every step with what came of it."""
    lines = [
        [step["step"], "yes" if step["good"] else "NO", f"{step['seconds']:.0f} s", step["result"]]
        for step in document["steps"]
    ]
    count, niceness = document["demonstrations"], document["niceness"]
    title = f"{document['robot']}, {count} demonstrations, niceness {niceness}"
    return [Rows(title, ["step", "as the page says", "took", "result"], lines)]
