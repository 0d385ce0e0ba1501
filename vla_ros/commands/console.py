"""What a user sees while a graph runs: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from vla_ros.commands.safe_console import Console

if TYPE_CHECKING:
    from vla_ros.nodes.operator import Operator

REFRESH = 0.25
PLAIN_EVERY = 2.0
"""Seconds between refreshes of the table, and between plain lines."""
HOPS = {
    "observation": "camera to observation",
    "policy": "camera to policy output",
    "chunk": "camera to action chunk",
}


class LiveView:
    """Shows an operator's view of the graph; `refresh` is cheap to call often."""

    def __init__(self, operator: Operator, console: Console) -> None:
        self._operator = operator
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._next = 0.0

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Draw again when it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (REFRESH if self._live is not None else PLAIN_EVERY)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif self._operator.episode.episode_id:
            self._console.print(self._line(), soft_wrap=True, highlight=False, markup=False)

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = []
        for name, title in HOPS.items():
            rate, latency = self._operator.hops[name].recent()
            rows.append((title, f"{rate:.1f} Hz", _milliseconds(latency)))
        safety = self._operator.safety
        if safety is not None:
            rows.append(("camera to controller", "", _milliseconds(safety.chunk_delay)))
            rows.append(
                ("control loop", f"{safety.rate:.0f} Hz", f"{_milliseconds(safety.period_error_p99)} p99")
            )
        return rows

    def _table(self) -> Table:
        episode, safety = self._operator.episode, self._operator.safety
        table = Table(title=episode.instruction or "starting", title_justify="left")
        for heading in ("what", "rate", "latency"):
            table.add_column(heading)
        for row in self._rows():
            table.add_row(*row)
        table.add_section()
        count = safety.intervention_count if safety is not None else 0
        table.add_row("safety", self._operator.safety_state, safety.message if safety is not None else "")
        last = self._operator.interventions[-1] if self._operator.interventions else None
        table.add_row(
            "interventions", str(count), f"{last.reason} {last.subject}" if last is not None else ""
        )
        table.add_row("policy", f"{episode.steps} answers", self._operator.words)
        table.add_row("time", f"{episode.elapsed:.1f} s", episode.reason)
        return table

    def _line(self) -> str:
        episode, safety = self._operator.episode, self._operator.safety
        parts = [f"{episode.elapsed:5.1f} s"]
        parts += [
            f"{title.split(' to ')[-1]} {rate} {latency}".strip() for title, rate, latency in self._rows()
        ]
        count = safety.intervention_count if safety is not None else 0
        parts += [f"safety {self._operator.safety_state}", f"interventions {count}"]
        return " | ".join(parts)


def _milliseconds(seconds: float) -> str:
    return (
        "-"
        if seconds != seconds
        else f"{1e3 * seconds:.0f} ms"
        if seconds > 0.01
        else f"{1e3 * seconds:.1f} ms"
    )
