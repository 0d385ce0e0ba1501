"""The verdict on a recorded run: every limit, at every tick, from the recorded commands alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.evaluation.clearance import floor_shapes, lowest, pair_distances, shape_pairs, sparse_samples
from vla_ros.evaluation.run_data import JointSamples, RunData, Setpoints, load_run
from vla_ros.evaluation.speeds import Speeds, judge_speeds
from vla_ros.evaluation.surroundings import moving_shapes, obstacle_distances
from vla_ros.evaluation.urdf_chain import UrdfChain, joint_values, read_urdf
from vla_ros.evaluation.violations import (
    RELATIVE_TOLERANCE,
    Run,
    Violation,
    count_violations,
    further_out,
    rounding,
    split_runs,
)
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, SafetyState

LENGTH_TOLERANCE = 1e-5
"""Tolerance on lengths [m]: rounding of forward kinematics and of rounded angles in URDF files."""
COLLISION_TOLERANCE = 1e-4
"""Tolerance on distances between bodies [m]: what the projections may still be from convergence."""
COLLISION_SPACING = 0.01
"""Joint motion between two checks for self-collision [rad]."""
PAUSE = 1_000_000_000
"""A hole in the stamps of consecutive ticks that means the controller was activated anew [ns]."""


@dataclass(frozen=True)
class Verdict:
    """What the judge found.  No violation is claimed of what `notes` says was not judged."""

    violations: tuple[Violation, ...]
    ticks: int
    runs: int
    missing_ticks: int
    """Ticks between the first and the last that the bag does not have; not judged."""
    period: float
    """Nominal tick the differences were taken on [s]."""
    peaks: Array
    """(3, n) largest |velocity|, |acceleration|, |jerk| as shares of the applied limits."""
    noise: Array
    """(3, n) share of the limits that rounding of the recorded numbers can explain."""
    speeds: Speeds | None
    """Largest speeds of tool, turn and elbow; None when they were not judged."""
    lowest_point: float
    """Least height of a judged body above the floor [m]."""
    nearest_distance: float
    """Least distance between own bodies [m]; infinity when none came closer than the slow-down."""
    notes: tuple[str, ...]

    @property
    def by_kind(self) -> Counter[str]:
        """Violations per kind."""
        return Counter(v.kind for v in self.violations)

    def sentence(self) -> str:
        """One plain sentence."""
        if self.ticks == 0:
            return "Nothing to judge: the bag has no joint setpoints."
        judged = f"{self.ticks} ticks in {self.runs} run{'s' * (self.runs != 1)}"
        if not self.violations:
            return f"No limit was broken in {judged}."
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.by_kind.most_common())
        first = self.violations[0]
        return (
            f"{len(self.violations)} violations in {judged} ({kinds}); the first is the {first.kind} of "
            f"{first.subject} at tick {first.tick}: {first.value:.6g}, limit {first.limit:.6g}."
        )


def judge_run(run: RunData, robot: RobotSpec) -> Verdict:
    """Judge `/vla/joint_setpoint` and the driver's command topic against the robot's applied limits.

    Raises `ConfigurationError` when the URDF cannot be read.
    """
    return judge_setpoints(run.setpoints, robot, run.commands)


def judge_setpoints(points: Setpoints, robot: RobotSpec, commands: JointSamples | None = None) -> Verdict:
    """Judge setpoints, and the driver's commands when there are any.  Raises as `judge_run`."""
    if len(points) == 0:
        zeros = np.zeros((3, robot.dof))
        return Verdict((), 0, 0, 0, 0.0, zeros, zeros, None, np.nan, np.inf, ())
    period = nominal_period(points, robot)
    restarts = _restarts(points)
    # A recording that joined later may have joined in motion.
    from_rest = bool(points.ticks[0] <= 1)
    runs = split_runs(points.ticks, restarts, from_rest)
    violations = count_violations(
        points.ticks, points.positions, robot.applied, period, robot.joint_names, restarts, from_rest
    )
    notes = []
    if commands is not None and commands.stamps.size:
        violations += _foreign_commands(points, commands, robot)
    elif commands is not None:
        notes.append(
            f"The bag has no commands on {robot.driver.command_topic}; the setpoints alone were judged."
        )
    if not np.isfinite(points.positions).all():
        notes.append("Positions that are not finite: workspace, floor, collisions, speeds were not judged.")
        speeds, low, near = None, np.nan, np.inf
    else:
        chain = read_urdf(robot.urdf, robot.urdf_path)
        values = joint_values(robot.joint_names, points.positions, robot.gripper, points.widths)
        tcp = chain.poses(robot.tcp_frame, values)[:, :3, 3]
        violations += _workspace(tcp, points, runs, robot)
        speeds, too_fast = judge_speeds(chain, values, points.ticks, runs, robot, period)
        violations += too_fast
        low = _floor(chain, values, points, runs, robot, violations)
        near = _collisions(chain, points, runs, robot, violations)
        violations += _obstacles(chain, values, points, runs, robot)
    steps = np.diff(points.ticks)
    peaks, noise = _peaks(points, runs, robot, period)
    violations.sort(key=lambda v: v.tick)
    return Verdict(
        tuple(violations),
        len(points),
        len(runs),
        int(np.sum(steps[steps > 1] - 1)),
        period,
        peaks,
        noise,
        speeds,
        low,
        near,
        tuple(notes),
    )


def nominal_period(points: Setpoints, robot: RobotSpec) -> float:
    """The controller's tick [s]: the known rate nearest to the stamps, else the stamps' median."""
    steps = np.diff(points.stamps)[np.diff(points.ticks) == 1]
    if len(steps) == 0:
        return 1.0 / robot.control_rate
    measured = float(np.median(steps)) * 1e-9
    known = [
        1.0 / rate for rate in (robot.control_rate, robot.simulated_control_rate, 100.0, 125.0, 250.0, 500.0)
    ]
    best = min(known, key=lambda period: abs(period - measured))
    return best if abs(best - measured) < 0.05 * best else measured


def _restarts(points: Setpoints) -> NDArray[np.bool_]:
    latched = np.isin(points.states, (SafetyState.STOPPED, SafetyState.FAULT))
    restart = np.zeros(len(points), np.bool_)
    # after activation the robot stands for a tick; a clock that was set forward in motion is no hole
    stands = (points.positions[1:] == points.positions[:-1]).all(axis=1)
    begins = np.append(stands[1:], True) & (np.diff(points.stamps) > PAUSE)
    restart[1:] = (latched[:-1] & ~latched[1:]) | begins
    return restart


def _foreign_commands(points: Setpoints, commands: JointSamples, robot: RobotSpec) -> list[Violation]:
    """Commands on the driver's topic that are no setpoint, rounded to the driver's format."""
    kind = np.float32 if "interbotix" in robot.driver.command_type else np.float64
    known = {row.tobytes() for row in points.positions.astype(kind)}
    found = []
    for stamp, row in zip(commands.stamps, commands.positions, strict=True):
        # Before the first and after the last recorded setpoint there is nothing to compare with.
        if points.stamps[0] <= stamp <= points.stamps[-1] and row.astype(kind).tobytes() not in known:
            tick = int(points.ticks[np.searchsorted(points.stamps, stamp) - 1])
            nearest = np.abs(points.positions - row).max(axis=1).min()
            found.append(Violation("foreign_command", robot.driver.command_topic, tick, float(nearest), 0.0))
    # A setpoint that the recorder lost leaves its command without a partner: not the controller's doing.
    lost = int(np.sum(np.maximum(np.diff(points.ticks) - 1, 0)))
    return found if len(found) > lost else []


def _workspace(tcp: Array, points: Setpoints, runs: list[Run], robot: RobotSpec) -> list[Violation]:
    found = []
    box = robot.workspace
    for run in runs:
        part = tcp[run.start : run.stop]
        for side, excess, limits in (
            ("max", part - box.maximum, box.maximum),
            ("min", box.minimum - part, box.minimum),
        ):
            for k, axis in np.argwhere(further_out(excess, LENGTH_TOLERANCE)):
                tick = int(points.ticks[run.start + k])
                subject = f"tcp {'xyz'[axis]} {side}"
                found.append(Violation("workspace", subject, tick, float(part[k, axis]), float(limits[axis])))
    return found


def _floor(
    chain: UrdfChain,
    values: dict[str, Array],
    points: Setpoints,
    runs: list[Run],
    robot: RobotSpec,
    found: list[Violation],
) -> float:
    floor, least = robot.workspace.floor, np.inf
    shapes = floor_shapes(chain, robot.elbow_frame)
    poses = {link: chain.poses(link, values) for link in {shape.link for shape in shapes}}
    for shape in shapes:
        height = lowest(shape, poses[shape.link])
        least = min(least, float(height.min()) - floor)
        for run in runs:
            part = height[run.start : run.stop]
            for k in np.flatnonzero(further_out(floor - part, LENGTH_TOLERANCE)):
                found.append(
                    Violation("floor", shape.link, int(points.ticks[run.start + k]), float(part[k]), floor)
                )
    return least


def _collisions(
    chain: UrdfChain, points: Setpoints, runs: list[Run], robot: RobotSpec, found: list[Violation]
) -> float:
    stop, slow, nearest = robot.collision.stop_distance, robot.collision.slow_distance, np.inf
    chosen = [
        run.start + sparse_samples(points.positions[run.start : run.stop], COLLISION_SPACING) for run in runs
    ]
    samples = np.concatenate(chosen)
    values = joint_values(robot.joint_names, points.positions[samples], robot.gripper, points.widths[samples])
    poses = {link: chain.poses(link, values) for link in {shape.link for shape in chain.shapes}}
    ends = np.cumsum([len(part) for part in chosen])
    for a, b in shape_pairs(chain, robot):
        distances = pair_distances(a, b, poses, slow)
        nearest = min(nearest, float(distances.min()))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part = distances[start:end]
            for k in np.flatnonzero(further_out(stop - part, COLLISION_TOLERANCE)):
                tick = int(points.ticks[samples[start + k]])
                found.append(Violation("self_collision", f"{a.link} - {b.link}", tick, float(part[k]), stop))
    return nearest if nearest < slow else np.inf


def _obstacles(
    chain: UrdfChain, values: dict[str, Array], points: Setpoints, runs: list[Run], robot: RobotSpec
) -> list[Violation]:
    stop, found = robot.environment.stop_distance, []
    if not robot.environment.obstacles:
        return []
    shapes = moving_shapes(chain)
    poses = {link: chain.poses(link, values) for link in {shape.link for shape in shapes}}
    for obstacle in robot.environment.obstacles:
        for shape in shapes:
            if shape.link in obstacle.allowed_links:
                continue
            distance = obstacle_distances(shape, obstacle, poses, robot.environment.slow_distance)
            for run in runs:
                part = distance[run.start : run.stop]
                short = stop - np.minimum(part, robot.environment.slow_distance)
                for k in np.flatnonzero(further_out(short, COLLISION_TOLERANCE)):
                    tick = int(points.ticks[run.start + k])
                    subject = f"{shape.link} - {obstacle.name}"
                    found.append(Violation("environment", subject, tick, float(part[k]), stop))
    return found


def _peaks(points: Setpoints, runs: list[Run], robot: RobotSpec, period: float) -> tuple[Array, Array]:
    limits = (robot.applied.velocity, robot.applied.acceleration, robot.applied.jerk)
    peaks, noise = np.zeros((3, robot.dof)), np.zeros((3, robot.dof))
    size = np.abs(points.positions).max(axis=0)
    epsilon = float(np.finfo(np.float64).eps)
    for order, limit in enumerate(limits, start=1):
        noise[order - 1] = rounding(size, epsilon, period, order) / limit + RELATIVE_TOLERANCE
        for run in runs:
            value = np.abs(np.diff(points.positions[run.start : run.stop], n=order, axis=0)) / period**order
            if len(value):
                peaks[order - 1] = np.maximum(peaks[order - 1], value.max(axis=0) / limit)
    return peaks, noise


def judge_bag(bag: Path, robot: RobotSpec) -> Verdict:
    """Judge a recorded run.  Raises `DataError` when the bag cannot be read."""
    return judge_run(load_run(bag, robot), robot)
