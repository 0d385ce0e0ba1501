"""The figures of a report: end-effector path, joints against their limits, tracking error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from vla_ros.evaluation.figures import clear, colour, envelope, figure, style, to_svg
from vla_ros.evaluation.run_data import RunData
from vla_ros.evaluation.urdf_chain import UrdfChain, read_urdf
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

_Curve = tuple[str, str, Array]
"""Name, colour, points (N, 3)."""
POINTS = 1500
"""Points of a path that are drawn."""


def path_figure(run: RunData, robot: RobotSpec) -> str:
    """Path of the tool centre point from above, from the side and in space: commanded and measured."""
    chain = read_urdf(robot.urdf, robot.urdf_path)
    curves: list[_Curve] = []
    if run.measured.stamps.size:
        curves.append(("measured", colour("two"), _path(chain, robot, run.measured.positions)))
    if len(run.setpoints):
        curves.append(("commanded", colour("one"), _path(chain, robot, run.setpoints.positions)))
    low, high = robot.workspace.minimum, robot.workspace.maximum
    with style():
        made = figure(10.0, 3.9)
        for place, (title, i, j) in enumerate((("from above", 0, 1), ("from the side", 0, 2)), start=1):
            axes = clear(made.add_subplot(1, 3, place))
            x, y = (low[i], high[i], high[i], low[i], low[i]), (low[j], low[j], high[j], high[j], low[j])
            axes.plot(x, y, color=colour("limit"), linestyle="--", linewidth=0.9, label="workspace")
            for name, shade, points in curves:
                axes.plot(points[:, i], points[:, j], color=shade, label=name)
            _ends(axes, curves, (i, j))
            axes.set(title=title, xlabel=f"{'xyz'[i]} [m]", ylabel=f"{'xyz'[j]} [m]", aspect="equal")
            axes.margins(0.06)
        handles, labels = made.axes[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        _in_space(made, curves)
        return to_svg(made, "Path of the tool centre point")


def joint_figures(run: RunData, robot: RobotSpec, period: float) -> list[str]:
    """Per joint: commanded position, velocity, acceleration and jerk against the applied limits.

    Velocity, acceleration and jerk are differences of the commanded positions on the tick grid.
    """
    points, limits = run.setpoints, robot.applied
    times = run.seconds(points.stamps)
    holes = np.flatnonzero(np.diff(points.ticks) != 1).astype(np.int64)
    found = []
    for j, name in enumerate(robot.joint_names):
        q = points.positions[:, j]
        rows = [
            ("position [rad]", q, limits.position_min[j], limits.position_max[j]),
            ("velocity [rad/s]", differences(q, 1, period, holes), -limits.velocity[j], limits.velocity[j]),
            (
                "acceleration [rad/s²]",
                differences(q, 2, period, holes),
                -limits.acceleration[j],
                limits.acceleration[j],
            ),
            ("jerk [rad/s³]", differences(q, 3, period, holes), -limits.jerk[j], limits.jerk[j]),
        ]
        with style():
            # Fixed places, so that the joints' figures line up under each other.
            made = figure(10.0, 1.5, arranged=False)
            made.subplots_adjust(left=0.04, right=0.995, bottom=0.14, top=0.86, wspace=0.22)
            for place, (label, values, low, high) in enumerate(rows, start=1):
                axes = clear(made.add_subplot(1, 4, place))
                _limited(axes, times, values, float(low), float(high))
                axes.set_title(label, loc="left")
                if place > 1:
                    share = float(np.nanmax(np.abs(values), initial=0.0)) / float(high)
                    shade = colour("limit" if share > 1.0 + 1e-6 else "ink")
                    text = f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
                    axes.set_title(text, loc="right", color=shade)
            found.append(to_svg(made, f"{name}: position, velocity, acceleration and jerk"))
    return found


def tracking_figure(run: RunData) -> str:
    """Largest difference between measured and commanded joint positions over time."""
    points, measured = run.setpoints, run.measured
    inside = (measured.stamps >= points.stamps[0]) & (measured.stamps <= points.stamps[-1])
    newest = np.searchsorted(points.stamps, measured.stamps[inside], side="right") - 1
    error = np.abs(measured.positions[inside] - points.positions[newest]).max(axis=1)
    with style():
        made = figure(10.0, 1.7)
        axes = clear(made.add_subplot())
        axes.plot(*envelope(run.seconds(measured.stamps[inside]), error), color=colour("one"))
        axes.set(xlabel="time [s]", ylabel="[rad]")
        axes.set_ylim(bottom=0.0)
        axes.margins(x=0.01)
        return to_svg(made, "Tracking error of the joints")


def differences(values: Array, order: int, period: float, holes: NDArray[np.int64]) -> Array:
    """Backward differences (N,) on the tick grid, NaN where they would reach across missing ticks."""
    result = np.full(len(values), np.nan)
    result[order:] = np.diff(values, n=order) / period**order
    for k in holes:
        result[k + 1 : k + 1 + order] = np.nan
    return result


def _path(chain: UrdfChain, robot: RobotSpec, joints: Array) -> Array:
    sparse = joints[np.unique(np.linspace(0, len(joints) - 1, POINTS).astype(int))]
    values = {name: sparse[:, i] for i, name in enumerate(robot.joint_names)}
    return np.asarray(chain.poses(robot.tcp_frame, values)[:, :3, 3])


def _ends(axes: Axes, curves: Sequence[_Curve], which: tuple[int, ...]) -> None:
    """Circle at the start, square at the end."""
    for _, _, points in curves[-1:]:
        for marker, point in (("o", points[0]), ("s", points[-1])):
            axes.plot(*([point[i]] for i in which), marker, color=colour("ink"), markersize=4)


def _in_space(made: Figure, curves: Sequence[_Curve]) -> None:
    axes = made.add_subplot(1, 3, 3, projection="3d")
    if not isinstance(axes, Axes3D) or not curves:
        return
    clear(axes)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.5, 0.5, 0.5, 0.08))
    for _, shade, points in curves:
        axes.plot(points[:, 0], points[:, 1], points[:, 2], color=shade)
    _ends(axes, curves, (0, 1, 2))
    every = np.concatenate([points for _, _, points in curves])
    middle, half = (
        0.5 * (every.min(axis=0) + every.max(axis=0)),
        0.55 * max(float(np.ptp(every, axis=0).max()), 0.02),
    )
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_zlim(middle[2] - half, middle[2] + half)
    axes.set(xlabel="x", ylabel="y", zlabel="z", title="in space")
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)


def _limited(axes: Axes, times: Array, values: Array, low: float, high: float) -> None:
    axes.plot(*envelope(times, values), color=colour("one"))
    for bound in (low, high):
        axes.axhline(bound, color=colour("limit"), linestyle="--", linewidth=0.9)
    least, most = float(np.nanmin(values, initial=low)), float(np.nanmax(values, initial=high))
    pad = 0.07 * (most - least)
    axes.set_ylim(least - pad, most + pad)
    axes.margins(x=0.01)
    axes.locator_params(axis="y", nbins=4)
