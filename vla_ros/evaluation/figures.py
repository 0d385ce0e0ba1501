"""Figures as SVG text that takes its colours from the page, so that light, dark and print all work."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vla_ros.types import Array

PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1d2330", "#e7eaf0"),
    "faint": ("#9aa3b2", "#667085"),
    "one": ("#1f5fbf", "#7db2ff"),
    "two": ("#d07a1b", "#f2b063"),
    "limit": ("#c0262d", "#ff7b7b"),
    "idle": ("#c3c9d4", "#4a5263"),
    "running": ("#2f9e63", "#4cc38a"),
    "limited": ("#e0b020", "#e8c14b"),
    "holding": ("#4a86d8", "#6ea5ee"),
    "stopping": ("#e07b2a", "#f0954d"),
    "stopped": ("#c0262d", "#ef5f5f"),
    "fault": ("#8e2bb0", "#c06be0"),
}
"""Colour names of a page: (light, dark)."""
_STAND_INS = {name: f"#0101{index + 16:02x}" for index, name in enumerate(PALETTE)}
COLUMNS = 400
"""Horizontal resolution of curves: each column keeps its least and its greatest value."""


def colour(name: str) -> str:
    """What to tell matplotlib for a colour of the palette."""
    return _STAND_INS[name]


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure."""
    ink, faint = colour("ink"), colour("faint")
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "vla_ros",
        "font.family": "sans-serif",
        "font.size": 9.0,
        "axes.edgecolor": faint,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 9.0,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": ink,
        "text.parse_math": False,  # words from a bag are words
        "xtick.color": faint,
        "ytick.color": faint,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "lines.linewidth": 1.2,
        "legend.frameon": False,
        "legend.labelcolor": ink,
        "axes3d.grid": False,
    }
    with matplotlib.rc_context(settings):
        yield


def figure(width: float, height: float, arranged: bool = True) -> Figure:
    """A figure without background, in inches; `arranged`: matplotlib finds room for all labels."""
    made = Figure(figsize=(width, height), layout="constrained" if arranged else None)
    FigureCanvasSVG(made)
    made.patch.set_alpha(0.0)
    return made


def clear(axes: Axes) -> Axes:
    """Axes without background."""
    axes.patch.set_alpha(0.0)
    return axes


def to_svg(made: Figure, label: str) -> str:
    """Inline SVG of a figure; `label` is what a screen reader says."""
    buffer = io.StringIO()
    with style():
        made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for name, stand_in in _STAND_INS.items():
        text = text.replace(stand_in, f"var(--{name})")
    # The page scales the figure: absolute sizes go, the view box stays.
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    text = re.sub(r"<metadata>.*?</metadata>", "", f"{head}>{rest}", flags=re.S)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def envelope(times: Array, values: Array, columns: int = COLUMNS) -> tuple[Array, Array]:
    """Curve of at most 2 points a column that keeps every extreme; NaN are left out."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    if len(times) <= 2 * columns:
        return times, values
    edges = np.linspace(0, len(times), columns + 1).astype(int)
    chosen: list[int] = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        chosen += sorted({int(a + np.argmin(values[a:b])), int(a + np.argmax(values[a:b]))})
    return times[chosen], values[chosen]
