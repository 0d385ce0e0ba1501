"""What a person sees while driving: a few lines of text, drawn in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH = 78
"""Longest line; a terminal has 80 columns at least."""


@dataclass(frozen=True)
class PanelState:
    """Everything that is shown."""

    in_charge: str
    """`person` or `policy`."""
    device: str
    engaged: bool
    speed: float
    """[m/s]"""
    level: int
    levels: int
    closed: bool
    width: float
    """Commanded opening [m]."""
    episode: str = ""
    outcome: str = ""
    elapsed: float = 0.0
    steps: int = 0
    instruction: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)
    """[Hz] by what comes: observations, actions, cameras."""
    recording: str = ""
    """Where to; empty: nothing is recorded."""
    dropped: int = 0
    disk_free: int = -1
    """[byte]; negative: not known."""
    safety: str = "unknown"
    intervention: str = ""
    trouble: str = ""
    keys: Sequence[tuple[str, str]] = ()
    """Help; empty: hidden."""
    doing: str = ""
    """What is under way before an episode begins."""


def panel_lines(state: PanelState, columns: int = 80) -> list[str]:
    """The panel as lines no longer than the terminal is wide."""
    width = max(min(WIDTH, columns - 1), 20)
    who = f"PERSON ({state.device})" if state.in_charge == "person" else f"POLICY ({state.device} is ready)"
    engaged = "ENGAGED" if state.engaged else "let go"
    gripper = "closed" if state.closed else "open"
    lines = [
        f"in charge  {who}, {engaged}",
        f"motion     speed {state.level + 1}/{state.levels} ({state.speed * 100:.0f} cm/s), "
        f"gripper {gripper} ({state.width * 1000:.0f} mm)",
        f"episode    {_episode(state)}",
        f"task       {state.instruction or 'none'}",
        "rates      " + (", ".join(f"{name} {rate:.1f}" for name, rate in state.rates.items()) or "none"),
        f"recording  {_recording(state)}",
        f"safety     {state.safety}" + (f", last: {state.intervention}" if state.intervention else ""),
        f"trouble    {state.trouble or 'none'}",
    ]
    lines += _help(state.keys, width) if state.keys else ["keys       ? shows them"]
    return [_cut(line, width) for line in lines]


def _episode(state: PanelState) -> str:
    if state.doing:
        return state.doing
    if not state.episode:
        return "none yet; Enter starts one"
    return f"{state.episode}: {state.outcome.lower()}, {state.elapsed:.1f} s, {state.steps} steps"


def _recording(state: PanelState) -> str:
    if not state.recording:
        return "off"
    disk = f", {state.disk_free / 1e9:.1f} GB left" if state.disk_free >= 0 else ""
    return f"{state.recording}, {state.dropped} dropped{disk}"


def _help(keys: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Two columns where they fit."""
    cells = [f"{key:>6} {what}" for key, what in keys]
    half = width // 2
    lines, row = [], ""
    for cell in cells:
        if len(cell) >= half:
            lines += [row, cell] if row else [cell]
            row = ""
        elif row:
            lines.append(row + cell)
            row = ""
        else:
            row = cell.ljust(half)
    return [*lines, row.rstrip()] if row else lines


def _cut(line: str, width: int) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= width else line[: width - 3] + "..."


class Painter:
    """Draws a panel over the one before: no flicker, and only what has changed."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self._shown: list[str] = []

    def paint(self, lines: Sequence[str]) -> str:
        """What to write to the terminal; empty when nothing has changed."""
        if list(lines) == self._shown:
            return ""
        out = [f"\x1b[{len(self._shown)}A"] if self._shown else []
        for number, line in enumerate(lines):
            same = number < len(self._shown) and self._shown[number] == line
            out.append("\r\n" if same else f"\r{line}\x1b[K\r\n")
        surplus = len(self._shown) - len(lines)
        if surplus > 0:
            out.append("\x1b[J")
        self._shown = list(lines)
        return "".join(out)
