"""Pages of an open-loop comparison: one of all episodes, and one of each with its pictures and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from vla_ros.data.episode import Episode
from vla_ros.evaluation.open_loop import OpenLoop
from vla_ros.evaluation.page import cards, missing, page, section, strip, table
from vla_ros.evaluation.signal_plots import Signal, signals_figure
from vla_ros.evaluation.view_page import pictures

SCALES = {"m": (1000.0, "mm"), "rad": (1000.0, "mrad")}
"""Errors are small: what a unit is multiplied with on pages and the screen."""


def episode_page(one: OpenLoop, figures: Mapping[str, Any], episode: Episode, cameras: Sequence[str]) -> str:
    """The page of one episode; `figures` as `open_loop_result.figures_of` gives them."""
    parts = [cards(_cards(figures))]
    for camera in cameras:
        parts.append(section(f"Camera {camera}", "", strip(pictures(episode.images[camera], one.rate))))
    times = np.arange(len(one.recorded)) / one.rate
    signals = [
        Signal(f"{name} [{unit}]", times, one.recorded[:, k], steps=True, more={"predicted": one.now[:, k]})
        for k, (name, unit) in enumerate(zip(one.names, one.units, strict=True))
    ]
    text = "Blue: recorded.  Orange: what the policy said for the very step, shown the recording up to it."
    drawn = signals_figure(signals, len(one.recorded) / one.rate, label="Recorded and predicted actions")
    parts += [section("Actions", text, drawn, long=True), *_errors(figures), *_refused(one.refused)]
    return page(f"Episode {one.number}", one.instruction or "no instruction", parts)


def summary_page(
    title: str, subtitle: str, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> str:
    """The page of all episodes; `rows`: figures of each, with `page` and `episode`."""
    parts = [cards(_cards(figures)), *_errors(figures)]
    links = [f'<a href="{escape(str(row["page"]), quote=True)}">episode {row["episode"]}</a>' for row in rows]
    lines = [
        [str(row["episode"]), row["instruction"], str(row["steps"]), *(v for _, v in _cards(row)[2:5])]
        for row in rows
    ]
    heads = [name for name, _ in _cards(figures)[2:5]]
    parts.append(
        section(
            "Episodes", "", table(["episode", "instruction", "steps", *heads], lines, words=2),
            f"<p>{' · '.join(links)}</p>", long=True,
        )
    )  # fmt: skip
    return page(title, subtitle, parts)


def shown_error(value: float | None, unit: str) -> str:
    """An error in a unit that suits it."""
    if value is None:
        return "-"
    factor, name = SCALES.get(unit, (1.0, unit))
    return f"{factor * value:.3g} {name}"


def dimension_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row a dimension: what the tables of pages and screen hold."""
    return [_row(row) for row in figures["dimensions"]]


def _row(row: Mapping[str, Any]) -> list[str]:
    factor, unit = SCALES.get(row["unit"], (1.0, row["unit"]))
    names = ("mean_absolute", "rms", "worst", "bias", "held_rms", "repeated_rms")
    told = {name: "-" if row[name] is None else f"{factor * row[name]:.2f}" for name in names}
    correlation = "-" if row["correlation"] is None else f"{row['correlation']:.3f}"
    return [
        f"{row['name']} [{unit}]",
        *(told[n] for n in names[:4]),
        correlation,
        *(told[n] for n in names[4:]),
    ]


DIMENSION_HEAD = ("", "mean", "rms", "largest", "bias", "corr.", "staying", "going on")


def _cards(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    share = figures["gripper"]["agreement"]
    shown = [("steps", str(figures["steps"])), ("answers", str(figures["answers"]))]
    shown += [(f"{name}, rms", shown_error(v["rms"], v["unit"])) for name, v in figures["groups"].items()]
    shown.append(("gripper agrees", "-" if share is None else f"{100 * share:.1f} %"))
    gripper = figures["gripper"]
    shown.append(("gripper changes found", f"{gripper['found']} of {gripper['changes']}"))
    return shown


def _errors(figures: Mapping[str, Any]) -> list[str]:
    text = (
        "Errors of what was said for the very step.  The last two are rms errors of answers "
        "that know nothing: staying (no motion, the gripper as before), going on (the last action again)."
    )
    parts = [
        section("By dimension", text, table(DIMENSION_HEAD, dimension_rows(figures)), long=True),
    ]
    horizon = figures["horizon"]
    length = max((len(values) for values in horizon.values()), default=0)
    if length > 1:
        ahead: Any = np.arange(length, dtype=float)
        units = {"translation": " [m]", "rotation": " [rad]", "joints": " [rad]", "drift": " [m]"}
        signals = [
            Signal(
                name + units.get(name, ""), ahead, np.array([np.nan if v is None else v for v in values]),
                floor=0.0,
            )
            for name, values in horizon.items()
        ]  # fmt: skip
        drawn = signals_figure(signals, float(length - 1), label="Errors by steps ahead", unit="steps ahead")
        text = (
            "Root mean square of what was said for so many steps ahead; agreement: of the gripper; "
            "drift: how far the tool would be off if the answer was followed so far."
        )
        parts.append(section("Over the horizon", text, drawn))
    return parts


def _refused(sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return [
        section("Answers that could not be used", "", *(missing(sentence) for sentence in sentences[:20]))
    ]
