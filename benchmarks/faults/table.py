"""The table of faults in docs/safety.md, from the results: `python -m benchmarks.faults.table`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.tables import RESULTS

DOCUMENT = ROOT / "docs" / "safety.md"
RESULT = RESULTS / "faults.json"
_PLACE = re.compile(r"(<!-- faults: begin[^\n]*-->\n).*?(<!-- faults: end -->)", re.DOTALL)
_HEADS = (
    "fault",
    "last motion after [s]",
    "furthest joint [rad]",
    "state",
    "why",
    "limits broken",
    "goes on",
    "within [s]",
)


def fault_table(document: Mapping[str, Any]) -> str:
    """One row a fault; a motion that went on has no end to measure."""
    lines = [_line(_HEADS), _line(["---", "---:", "---:", "---", "---", "---:", "---", "---:"])]
    for found in document["faults"]:
        moving = _goes_on(found)
        cells = [
            found["title"],
            "goes on" if moving else f"{found['seconds']:.2f}",
            "" if moving else f"{found['angle']:.3f}",
            found["state"].lower().replace("gone", "no controller"),
            found["message"] or ("" if found["state"] == "GONE" else ", ".join(found["reasons"])),
            str(found["violations"]),
            found["recovery"],
            f"{found['recovery_seconds']:.1f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def with_faults(text: str, document: Mapping[str, Any]) -> str:
    """The document's text with the table in its place."""
    machine = document["machine"]
    head = (
        f"Measured {document['date']} with `{document['command']}` on {machine['cores']} cores "
        f"({machine['cpu']}), Linux {machine['kernel']}, load {machine['load_before']:g} before; "
        f"commit {document['versions']['commit']}."
    )
    body = "\n\n".join([head, fault_table(document)])
    return _PLACE.sub(lambda match: f"{match[1]}{body}\n{match[2]}", text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _goes_on(found: Mapping[str, Any]) -> bool:
    return bool(found["goes_on"]) and found["state"] in ("RUNNING", "LIMITED")


def main() -> None:
    """Write the committed results into the document."""
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(with_faults(DOCUMENT.read_text(encoding="utf-8"), document), encoding="utf-8")


if __name__ == "__main__":
    main()
