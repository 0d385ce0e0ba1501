"""The picture of a difference: the joint that differs most, as it was and as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_ros.errors import DataError
from vla_ros.evaluation.golden import UNITS, Comparison, Golden


def plot_difference(before: Golden, now: Golden, comparison: Comparison, path: Path) -> bool:
    """Draw the first difference of the commands; false where none of them differs.

    Raises `DataError` when the file cannot be written.
    """
    one = next((item for item in comparison.differences if item.stage in UNITS), None)
    if one is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    own, unit = f"e{one.episode}/", UNITS[one.stage]
    curves = []
    for golden in (before, now):
        values = golden.arrays[own + one.stage]
        values = values.reshape(len(values), -1)[:, one.column]
        curves.append((golden.arrays[own + "ticks"][: len(values)] / 1e9, values))
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for (times, values), label, style in zip(curves, ("golden", "now"), ("-", "--"), strict=True):
        top.plot(times, values, style, label=label, linewidth=1.4)
    joint = "gripper" if one.stage == "widths" else list(now.meta["joints"])[one.column]
    top.set_title(f"{now.episodes[one.episode]}: {one.stage} of {joint}", loc="left", fontsize=10)
    top.set_ylabel(unit)
    top.legend(frameon=False)
    count = min(len(curves[0][1]), len(curves[1][1]))
    bottom.plot(curves[0][0][:count], np.abs(curves[1][1][:count] - curves[0][1][:count]), color="#c0262d")
    bottom.set_ylabel(f"difference [{unit}]")
    bottom.set_xlabel("seconds from the beginning of the episode")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    return True
