"""The report of a replay as one HTML page: every trajectory's recorded and driven path, errors and causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.errors import DataError
from vla_ros.evaluation.figures import clear, colour, figure, style, to_svg
from vla_ros.evaluation.judge import Verdict
from vla_ros.evaluation.page import cards, missing, page, section, table
from vla_ros.evaluation.replay_compare import PosePath, TrajectoryComparison

COLUMNS = 5
_MARGIN = 0.5
"""Seconds after the last recorded state up to which the driven path is drawn."""


@dataclass(frozen=True)
class ReplayedTrajectory:
    """One trajectory with the paths it is judged by; all times from its start."""

    number: int
    instruction: str
    recorded: PosePath
    actions: PosePath
    driven: PosePath
    comparison: TrajectoryComparison


def replay_report(
    trajectories: Sequence[ReplayedTrajectory],
    summary: dict[str, Any],
    verdict: Verdict,
    refused: Sequence[dict[str, str]],
    title: str,
    path: Path,
) -> None:
    """Write the page to `path`.  Raises `DataError` when that is not possible."""
    parts = [_cards(summary, verdict)]
    text = (
        "Seen from above [m].  The shapes differ from the recorded one by the recording's own servo errors."
    )
    figures = [_paths(trajectories)] if trajectories else [missing("Nothing was played.")]
    parts.append(section("Paths: recorded, where the actions lead, driven", text, *figures))
    parts.append(section("Trajectories", "Errors of the end points.", _table(trajectories), long=True))
    if refused:
        rows = [(entry["source"], entry["reason"]) for entry in refused]
        parts.append(section("Not played", "", table(("source", "why"), rows, words=2)))
    parts.append(section("Limits", "", missing(verdict.sentence())))
    try:
        path.write_text(page(title, f"{len(trajectories)} trajectories", parts), encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report {path} cannot be written: {error.strerror}.") from error


def _cards(summary: dict[str, Any], verdict: Verdict) -> str:
    def said(name: str, unit: str, scale: float = 1.0) -> str:
        value = summary[name]
        return "-" if value is None else f"{scale * value:.2f} {unit}"

    return cards(
        [
            ("median end-point error", said("median_position_error_m", "cm", 100.0)),
            ("median end rotation error", said("median_rotation_error_rad", "rad")),
            ("of it the recorded actions' own", said("median_actions_position_error_m", "cm", 100.0)),
            ("limit violations", str(len(verdict.violations))),
        ]
    )


def _table(trajectories: Sequence[ReplayedTrajectory]) -> str:
    head = ("no.", "instruction", "cause", "end [cm]", "end [rad]", "path rms [cm]", "actions alone [cm]")
    rows = []
    for one in trajectories:
        c = one.comparison
        errors = (100 * c.position_error_m, c.rotation_error_rad, 100 * c.path_rms_m)
        numbers = [f"{value:.2f}" for value in (*errors, 100 * c.actions_position_error_m)]
        rows.append((str(one.number), one.instruction, c.cause, *numbers))
    return table(head, rows, words=3)


def _paths(trajectories: Sequence[ReplayedTrajectory]) -> str:
    lines = -(-len(trajectories) // COLUMNS)
    with style():
        made = figure(10.0, 2.1 * lines + 0.4)
        for place, one in enumerate(trajectories, start=1):
            axes = clear(made.add_subplot(lines, COLUMNS, place))
            end = one.recorded.times[-1] + _MARGIN
            within = (one.driven.times >= 0.0) & (one.driven.times <= end)
            curves = (
                ("recorded", "ink", one.recorded.positions, "-"),
                ("actions", "faint", one.actions.positions, "--"),
                ("driven", "two", one.driven.positions[within], "-"),
            )
            for name, shade, points, dashes in curves:
                axes.plot(points[:, 0], points[:, 1], dashes, color=colour(shade), label=name)
            axes.plot(*one.recorded.positions[-1, :2], "o", color=colour("ink"), markersize=3)
            axes.set(title=f"{one.number}", aspect="equal")
            _frame(axes, np.concatenate([points for _, _, points, _ in curves if len(points)]))
        handles, labels = made.axes[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        return to_svg(made, "Recorded and driven paths from above")


def _frame(axes: Any, points: Any) -> None:
    """Square axes around the points, so that all small pictures have one shape."""
    middle = 0.5 * (points.max(axis=0) + points.min(axis=0))
    half = 0.55 * float(np.ptp(points[:, :2], axis=0).max()) + 0.005
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.locator_params(nbins=3)
