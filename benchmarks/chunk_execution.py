"""What becomes of late, jittering, dropping chunks: ours against what public stacks do with them.

`python benchmarks/chunk_execution.py --json benchmarks/results/chunk_execution.json --figure
docs/images/chunk_execution.png`; docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.chunk_figure import Excerpt, draw
from benchmarks.chunk_runs import Motion, motions
from benchmarks.chunk_streams import BRIDGE, Stream, streams
from benchmarks.tables import chunk_rows
from vla_ros.actions import rotations
from vla_ros.commands.shared import plain_errors
from vla_ros.robots import load_robot
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

SETTLED = 1.0
"""Seconds after the first chunk, and after the first one that follows the starvation, in which path errors do
not count: the policy's plan has gone on without the robot."""
NEAR = 1.0
"""The nearest point of the intended path is looked for among the times that differ by no more [s]."""
STANDS = 1e-3, 1e-2
"""Slower than this the tool stands [m/s], [rad/s]."""
ROUNDING = 1e-6
"""Share of a limit that rounding of finite differences may add."""
ORDERS = ("velocity", "acceleration", "jerk")
WAVERING = "two plans, absolute"
"""The group in which what is intended jumps: its path errors say little and are not added to the others'."""
SHOWN = "panda, waypoints, absolute, 10 Hz, 200 ms"
"""The stream of the figure."""


@dataclass
class Pool:
    """Figures of one method over several streams."""

    shares: dict[str, Array] = field(default_factory=dict)
    """(3,) greatest share of the limits on velocity, acceleration and jerk, of "tool" and of "joints"."""
    jumps: Array = field(default_factory=lambda: np.zeros((3, 2)))
    errors: list[Array] = field(default_factory=list)
    """(m, 3) distance [m], angle [rad] to the intended pose, and distance to the nearest intended point."""
    stops: list[float] = field(default_factory=list)
    refused: int = 0
    interventions: int = 0

    def add(self, stream: Stream, spec: RobotSpec, motion: Motion) -> None:
        """Count a stream's motion in."""
        for name, shares in limit_shares(spec, motion, 1.0 / stream.rate).items():
            self.shares[name] = np.maximum(self.shares.get(name, shares), shares)
        self.jumps = np.maximum(self.jumps, motion.jumps)
        self.errors.append(path_errors(stream, motion))
        self.stops.append(time_to_stop(stream, motion))
        self.refused += motion.refused
        self.interventions += motion.interventions

    def document(self) -> dict[str, Any]:
        """Plain numbers."""
        errors = np.vstack(self.errors)
        rms, p95 = np.sqrt(np.mean(errors**2, axis=0)), np.percentile(errors, 95.0, axis=0)
        return {
            "shares": {
                name: dict(zip(ORDERS, values.tolist(), strict=True)) for name, values in self.shares.items()
            },
            "border_jump": dict(zip(("position", *ORDERS[:2]), self.jumps.tolist(), strict=True)),
            "path_error_m": {"rms": float(rms[0]), "p95": float(p95[0])},
            "path_error_rad": {"rms": float(rms[1]), "p95": float(p95[1])},
            "path_deviation_m": {"rms": float(rms[2]), "p95": float(p95[2])},
            "seconds_to_stop": {"median": float(np.median(self.stops)), "most": float(np.max(self.stops))},
            "chunks_refused": self.refused,
            "ticks_with_interventions": self.interventions,
        }


def limit_shares(spec: RobotSpec, motion: Motion, period: float) -> dict[str, Array]:
    """(3,) greatest |velocity|, |acceleration|, |jerk| by differences from tick to tick, over the limits.

    Of the tool per axis of the base frame (angular ones about base axes), of the joints where there are any.
    """
    turns = rotations.log(
        rotations.multiply(motion.points[1:, 3:], rotations.conjugate(motion.points[:-1, 3:]))
    )
    speeds = np.hstack([np.diff(motion.points[:, :3], axis=0), turns]) / period
    tcp, joints = spec.tcp, spec.applied
    linear = [tcp.speed, tcp.acceleration, tcp.jerk]
    tool = np.repeat([linear, [tcp.angular_speed, tcp.angular_acceleration, tcp.angular_jerk]], 3, axis=0)
    found = {"tool": _peaks(speeds, period) / tool.T}
    if motion.joints.shape[1]:
        limits = np.array([joints.velocity, joints.acceleration, joints.jerk])
        found["joints"] = _peaks(np.diff(motion.joints, axis=0) / period, period) / limits
    return {name: shares.max(axis=1) for name, shares in found.items()}


def _peaks(speeds: Array, period: float) -> Array:
    """(3, d) greatest absolute value of speeds (m, d) and of their two derivatives."""
    return np.array([np.abs(np.diff(speeds, n=n, axis=0)).max(axis=0) / period**n for n in range(3)])


def counted(stream: Stream, times: Array) -> Array:
    """Which ticks count for path errors: those while chunks come, after the motion has caught up."""
    first = stream.deliveries[0].arrival
    before = (times > first + SETTLED) & (times < stream.silence[0])
    return np.asarray(before | ((times > stream.silence[1] + SETTLED) & (times < stream.end)))


def path_errors(stream: Stream, motion: Motion) -> Array:
    """(m, 3) as in `Pool.errors`."""
    chosen = np.flatnonzero(counted(stream, motion.times))
    intended = stream.intended(motion.times)
    points, goals = motion.points[chosen], intended[chosen]
    distances = np.linalg.norm(points[:, :3] - goals[:, :3], axis=1)
    reach = round(NEAR * stream.rate)
    nearest = np.full(len(chosen), np.inf)
    for shift in range(-reach, reach + 1, 2):
        other = intended[np.clip(chosen + shift, 0, len(intended) - 1), :3]
        nearest = np.minimum(nearest, np.linalg.norm(points[:, :3] - other, axis=1))
    return np.column_stack([distances, rotations.angle_between(points[:, 3:], goals[:, 3:]), nearest])


def time_to_stop(stream: Stream, motion: Motion) -> float:
    """Seconds from when the last step before the starvation was meant to be reached until the tool stands."""
    turns = rotations.angle_between(motion.points[1:, 3:], motion.points[:-1, 3:])
    moved = np.linalg.norm(np.diff(motion.points[:, :3], axis=0), axis=1)
    moving = (moved * stream.rate > STANDS[0]) | (turns * stream.rate > STANDS[1])
    ends = motion.times[1:]
    within = moving & (ends < stream.silence[1])
    return float(ends[within][-1] - stream.last_due)


def measure(seed: int, bridge: Path = BRIDGE, small: bool = False) -> tuple[dict[str, Any], Excerpt | None]:
    """Every method under every stream: the document, and what the figure shows."""
    pools: dict[str, Pool] = defaultdict(Pool)
    groups: dict[str, dict[str, Pool]] = defaultdict(lambda: defaultdict(Pool))
    names, excerpt = [], None
    for stream in streams(seed, bridge, small):
        spec = load_robot(stream.robot)
        names.append(stream.name)
        found = motions(stream)
        for name, motion in found.items():
            groups[stream.group][name].add(stream, spec, motion)
            if stream.group != WAVERING:
                pools[name].add(stream, spec, motion)
        if stream.name == SHOWN:
            excerpt = Excerpt.of(stream, spec, found)
    document = {
        "seed": seed,
        "bridge": bridge.exists(),
        "streams": names,
        "methods": {name: pool.document() for name, pool in pools.items()},
        "groups": {
            group: {name: pool.document() for name, pool in methods.items()}
            for group, methods in groups.items()
        },
    }
    return {**document, "claims": claims(document)}, excerpt


def claims(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is claimed of ours, over all streams."""
    everything = [document["methods"], *document["groups"].values()]
    ours = [
        (n, m) for part in everything for n, m in part.items() if n.startswith(("executor", "controller"))
    ]
    jumps = [max(pair) for name, m in ours if "limited" not in name for pair in m["border_jump"].values()]
    shares = [max(m["shares"]["joints"].values()) for name, m in ours if name.startswith("controller")]
    keeping = {
        name: m["path_error_m"]["rms"]
        for name, m in document["methods"].items()
        if max(m["shares"].get("joints", {"": np.inf}).values()) <= 1.0 + ROUNDING
    }
    shaped = {n: m["path_error_m"]["rms"] for n, m in document["methods"].items() if n.endswith(", limited")}
    return {
        "greatest_border_jump": max(jumps),
        "greatest_share_of_a_joint_limit": max(shares),
        "least_path_error_within_joint_limits": min(keeping, key=lambda name: keeping[name]),
        "least_path_error_behind_the_tool_limiter": min(shaped, key=lambda name: shaped[name]),
    }


@plain_errors
def main(
    seed: Annotated[int, typer.Option(help="Of all streams.")] = 0,
    bridge: Annotated[Path, typer.Option(help="RLDS folder of recorded actions.")] = BRIDGE,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
    figure: Annotated[Path | None, typer.Option(help="File for the picture (png).")] = None,
) -> None:
    """Give the same recorded streams of chunks to every method."""
    document: dict[str, Any] = {"benchmark": "chunk_execution", **machine.describe()}
    console = Console()
    if not bridge.exists():
        console.print(f"{bridge} is not there: no recorded actions among the streams.", style="yellow")
    found, excerpt = measure(seed, bridge)
    document.update(found)
    console.print(*(rows.rich() for rows in chunk_rows(document)), document["claims"], sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)
    if figure is not None and excerpt is not None:
        draw(excerpt, document, figure)


if __name__ == "__main__":
    typer.run(main)
