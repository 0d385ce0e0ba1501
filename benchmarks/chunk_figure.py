"""The picture of `chunk_execution.py`: an axis around chunk borders, peaks and path errors of all streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.chunk_runs import Motion
from benchmarks.chunk_streams import Stream
from vla_ros.evaluation.figures import PALETTE
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

CURVES = {
    "hold last target, by arrival": ("hold last target", "#9aa3b2"),
    "linear, by arrival": ("linear", "#d07a1b"),
    "cubic, rest at borders, by arrival": ("cubic, rest at borders", "#8e2bb0"),
    "controller, replace": ("vla_ros, replace", "#1f5fbf"),
}
"""Methods drawn over time: how they are called, and their colour."""
AXIS, WINDOW = 1, 1.6
"""The axis of the base frame that is drawn, and for how long [s]."""
_INK, _FAINT, _LIMIT = (PALETTE[name][0] for name in ("ink", "faint", "limit"))


@dataclass(frozen=True)
class Excerpt:
    """A part of one stream: one axis of the tool's position, ticks (m,)."""

    name: str
    times: Array
    arrivals: Array
    intended: Array
    curves: Mapping[str, Array]
    speed: float
    acceleration: float
    """Limits of the tool [m/s], [m/s^2]."""

    @classmethod
    def of(cls, stream: Stream, spec: RobotSpec, found: Mapping[str, Motion]) -> Excerpt:
        """The liveliest part of a stream: the most way of the intended axis while chunks come."""
        times = found["controller, replace"].times
        intended = stream.intended(times)[:, AXIS]
        length = round(WINDOW * stream.rate)
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(intended)))])
        chunks = (stream.deliveries[0].arrival, stream.silence[0] - WINDOW)
        begins = np.flatnonzero((times > chunks[0]) & (times < chunks[1]))
        begin = int(begins[np.argmax(way[begins + length] - way[begins])])
        part = slice(begin, begin + length)
        first, last = times[begin], times[begin + length]
        return cls(
            stream.name, times[part],
            np.array([d.arrival for d in stream.deliveries if first < d.arrival < last]),
            intended[part],
            {name: found[name].points[part, AXIS] for name in CURVES},
            spec.tcp.speed, spec.tcp.acceleration,
        )  # fmt: skip


def draw(excerpt: Excerpt, document: Mapping[str, Any], path: Path) -> None:
    """Write the picture as png."""
    settings: dict[Any, Any] = {
        "font.size": 8.5, "axes.titlesize": 9.5, "axes.edgecolor": _FAINT, "axes.spines.top": False,
        "axes.spines.right": False, "text.color": _INK, "axes.labelcolor": _INK, "lines.linewidth": 1.3,
        "legend.frameon": False, "axes.titlelocation": "left", "legend.fontsize": 8.0,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        made = Figure(figsize=(11.0, 8.2), layout="constrained")
        FigureCanvasAgg(made)
        left, right = made.subfigures(1, 2, width_ratios=(1.15, 1.0))
        _over_time(excerpt, list(left.subplots(3, 1, sharex=True)))
        peaks, errors = right.subplots(2, 1, height_ratios=(1.5, 1.0))
        _peaks(document["methods"], peaks)
        _errors(document["methods"], errors)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, dpi=130)


def _over_time(excerpt: Excerpt, axes: list[Axes]) -> None:
    period = float(excerpt.times[1] - excerpt.times[0])
    titles = (
        f"tool, {'xyz'[AXIS]} [m]: {excerpt.name}",
        "its velocity [m/s]",
        "its acceleration [m/s²]",
    )
    bounds = (None, 2.0 * excerpt.speed, 3.0 * excerpt.acceleration)
    limits = (None, excerpt.speed, excerpt.acceleration)
    for order, (axis, title, bound, limit) in enumerate(zip(axes, titles, bounds, limits, strict=True)):
        for arrival in excerpt.arrivals:
            axis.axvline(arrival, color=_FAINT, linewidth=0.7, linestyle=":")
        for name, (_, shade) in CURVES.items():
            values = np.diff(excerpt.curves[name], n=order) / period**order
            on_top = 3 if name.startswith("controller") else 2
            axis.plot(excerpt.times[order:], values, color=shade, zorder=on_top)
        if bound is not None and limit is not None:
            axis.set_ylim(-bound, bound)
            for side in (-limit, limit):
                axis.axhline(side, color=_LIMIT, linewidth=0.9, linestyle="--")
        axis.set_title(title)
        axis.margins(x=0.0)
    axes[0].plot(excerpt.times, excerpt.intended, color=_INK, linewidth=1.0, linestyle="--")
    handles = [(label, shade, "-") for label, shade in CURVES.values()]
    handles.append(("what the policy meant then", _INK, "--"))
    for label, shade, line in handles:
        axes[0].plot([], [], color=shade, linestyle=line, label=label)
    axes[0].legend(loc="best")
    axes[-1].set_xlabel("time [s]; dotted: a chunk arrives; red: limits of the tool; peaks are cut")


def _peaks(methods: Mapping[str, Any], axis: Axes) -> None:
    names = [name for name in methods if "limited" not in name and not name.startswith("executor")]
    rows = np.arange(len(names))[::-1]
    shades = {"velocity": "#4cc38a", "acceleration": "#e0b020", "jerk": "#c0262d"}
    for place, (order, shade) in enumerate(shades.items()):
        values = [methods[name]["shares"]["joints"][order] for name in names]
        axis.barh(
            rows + 0.25 * (1 - place), np.array(values) - 1e-3, 0.23, left=1e-3, color=shade, label=order
        )
    axis.set_xscale("log")
    axis.set_xlim(5e-2, None)
    axis.axvline(1.0, color=_LIMIT, linewidth=1.0, linestyle="--")
    axis.set_yticks(rows, [name.replace("controller", "vla_ros") for name in names])
    axis.set_title("greatest share of a joint limit")
    axis.legend(loc="lower right")


def _errors(methods: Mapping[str, Any], axis: Axes) -> None:
    names = [name for name in methods if "limited" not in name and not name.startswith("executor")]
    rows = np.arange(len(names))[::-1]
    kinds = (("path_error_m", "#1f5fbf", "at the right time"), ("path_deviation_m", "#9aa3b2", "at any time"))
    for place, (key, shade, label) in enumerate(kinds):
        values = [1e3 * methods[name][key]["rms"] for name in names]
        axis.barh(rows + 0.2 - 0.4 * place, values, 0.36, color=shade, label=label)
    axis.set_yticks(rows, [name.replace("controller", "vla_ros") for name in names])
    axis.set_title("distance to what was meant, rms [mm]")
    axis.legend(loc="lower right")
