"""Curves of an episode over time: one row a quantity, with marks and shaded stretches, as inline SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from vla_ros.evaluation.figures import clear, colour, envelope, figure, style, to_svg
from vla_ros.types import Array

Stretch = tuple[float, float]
"""(from, to) [s]."""
ROW, MARGIN = 0.62, 0.55
"""Height of a row and of what is around all of them [inch]."""


@dataclass(frozen=True)
class Signal:
    """One row; times in seconds."""

    name: str
    times: Array
    values: Array
    steps: bool = False
    """Held until the next value, as actions are, instead of a line between them."""
    marked: NDArray[np.bool_] | None = None
    """Samples to mark."""
    limits: Sequence[float] = ()
    """Dashed lines, drawn where they are near the curve."""
    floor: float | None = None
    """Where the axis begins."""
    more: Mapping[str, Array] = field(default_factory=dict)
    """Further curves at the same times, by name."""


@dataclass(frozen=True)
class Shade:
    """Stretches of one meaning, shaded in all rows."""

    name: str
    colour: str
    stretches: Sequence[Stretch]


def signals_figure(
    signals: Sequence[Signal],
    seconds: float,
    shades: Sequence[Shade] = (),
    label: str = "Signals",
    unit: str = "time [s]",
) -> str:
    """Rows under each other on one time axis of `seconds`; `label` is what a screen reader says."""
    with style():
        made = figure(10.0, MARGIN + ROW * max(len(signals), 1), arranged=False)
        height = MARGIN + ROW * max(len(signals), 1)
        made.subplots_adjust(left=0.15, right=0.99, top=1 - 0.2 / height, bottom=0.33 / height, hspace=0.28)
        for place, signal in enumerate(signals, start=1):
            axes = clear(made.add_subplot(len(signals), 1, place))
            for shade in shades:
                for start, stop in shade.stretches:
                    axes.axvspan(start, stop, color=colour(shade.colour), alpha=0.22, linewidth=0)
            _draw(axes, signal)
            axes.set_xlim(0.0, max(seconds, 1e-3))
            axes.set_ylabel(signal.name.replace(" [", "\n["), rotation=0, ha="right", va="center", fontsize=8)
            axes.tick_params(labelsize=7, labelbottom=place == len(signals))
            axes.locator_params(axis="y", nbins=3)
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
            if place == len(signals):
                axes.set_xlabel(unit, fontsize=8, labelpad=0)
        handles = [
            Patch(color=colour(shade.colour), alpha=0.35, label=shade.name)
            for shade in shades
            if shade.stretches
        ]
        if handles:
            made.legend(handles=handles, loc="upper right", ncols=6, fontsize=7, borderaxespad=0.0)
        return _lean(to_svg(made, escape(label, quote=True)))


def _lean(svg: str) -> str:
    """The same picture in fewer bytes: a page may hold hundreds of episodes."""
    svg = re.sub(r"font-family: [^;]*;", "font-family: sans-serif;", svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    # Coordinates only: what is written between the tags is for people.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d)\d+", r"\1", tag[0]), svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _draw(axes: Axes, signal: Signal) -> None:
    palette = ("one", "two", "running", "holding", "stopping", "fault", "limit", "ink")
    curves = {"": signal.values, **signal.more}
    for number, values in enumerate(curves.values()):
        shade = colour(palette[number % len(palette)])
        if signal.steps:
            # The last value is held as long as the others.
            last = 2 * signal.times[-1:] - signal.times[-2:-1]
            times, held = np.append(signal.times, last), np.append(values, values[-1:][: len(last)])
            axes.step(times, held, where="post", color=shade, linewidth=1.0)
        else:
            axes.plot(*envelope(signal.times, values), color=shade, linewidth=1.0)
    if signal.marked is not None and signal.marked.any():
        axes.plot(
            signal.times[signal.marked],
            signal.values[signal.marked],
            "o",
            color=colour("limit"),
            markersize=3,
        )
    every = np.concatenate([np.ravel(values) for values in curves.values()])
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    low = low if signal.floor is None else min(signal.floor, low)
    room = max(high - low, 1e-2 * max(abs(high), abs(low)), 1e-3)
    near = [limit for limit in signal.limits if low - room <= limit <= high + room]
    for limit in near:
        axes.axhline(limit, color=colour("limit"), linestyle="--", linewidth=0.8)
    low, high = min([low, *near]), max([high, *near])
    axes.set_ylim(low - 0.12 * room, high + 0.12 * room)


def stretches_of(times: Array, marked: NDArray[np.bool_], period: float) -> list[Stretch]:
    """(from, to) of marked samples that follow on each other; each lasts a `period` [s]."""
    flips = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return [
        (float(times[a]), float(times[b - 1]) + period) for a, b in zip(flips[::2], flips[1::2], strict=True)
    ]
