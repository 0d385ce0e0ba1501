"""Streams of chunks as late, jittering, dropping policies send them, recorded before anything is run.

A stream knows what the policy meant: the path without prediction noise at the policy's own time.  For two
seconds no chunk comes; the policy then goes on from where its last chunk ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from vla_ros.actions import rotations
from vla_ros.data.rlds import read_rlds
from vla_ros.evaluation.replay_compare import BRIDGE_PERIOD, actions_path, recorded_path
from vla_ros.execution.targets import POSES
from vla_ros.execution.targets import Path as TimedPath
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, Array, Pose

BRIDGE = ROOT.parent / "shared" / "data" / "bridge_v2_sample"
START, SECONDS, SILENCE = 1.2, 12.0, 2.0
"""First observation [s]; seconds to the last one; seconds without chunks in the middle."""
JITTER, DROPPED, ASKED = (0.7, 1.5), 0.1, 0.1
"""Delay as a share of its mean; share of chunks that never arrive, never two in a row; seconds
between observations at least."""
OFFSET, DRIFT, STEP = (0.001, 0.003), (0.003, 0.01), (0.0005, 0.002)
"""Prediction noise, standard deviation [m], [rad]: of a whole chunk, added at its end, of every step."""
RATES, DELAYS = (5.0, 10.0, 30.0), (0.05, 0.2, 0.4)
"""Steps a second [Hz] and mean delays [s] of the tasks."""
HORIZONS = {5.0: (4, 8), 10.0: (8, 16), 30.0: (16, 50)}
"""Steps of a chunk by steps a second: of a policy that answers within 100 ms, and of a slower one."""

Plan = Callable[[Array, int], Array]
"""Poses (m, 7) at plan times (m,) [s], of a mode: a policy may waver between two."""


@dataclass(frozen=True)
class Delivery:
    """A chunk and when it arrives [s]; the chunk's stamp is on the same clock, in nanoseconds."""

    arrival: float
    chunk: ActionChunk

    @property
    def stamp(self) -> float:
        """Of the observation [s]."""
        return self.chunk.stamp / NANOSECONDS


@dataclass(frozen=True)
class Stream:
    """What is given to every method."""

    name: str
    group: str
    robot: str
    rate: float
    """Of the controller [Hz]."""
    step_rate: float
    delay: float
    """Mean [s]."""
    start: Array
    """Joint positions (n,) at which everything rests before the first chunk."""
    deliveries: tuple[Delivery, ...]
    """In order of arrival."""
    silence: tuple[float, float]
    """The last arrival before the starvation, and the first after it [s]."""
    last_due: float
    """When the last step before the starvation was meant to be reached [s]."""
    end: float
    intended: Callable[[Array], Array]
    """Times (m,) [s] to the poses (m, 7) the policy meant then."""


def streams(seed: int, bridge: Path = BRIDGE, small: bool = False) -> Iterator[Stream]:
    """All streams, the same for the same seed.  Bridge's only where it lies; `small`: a short one a group."""
    rates, delays = (RATES[1:2], DELAYS[1:2]) if small else (RATES, DELAYS)
    length = 0.4 * SECONDS if small else SECONDS
    for rate in rates:
        for delay in delays:
            for robot, ticks in (("panda", 250.0), ("widowx", 100.0)):
                yield _task(robot, ticks, rate, delay, seed, length)
    for delay in delays:
        if bridge.exists():
            yield _bridge(bridge, delay, seed, length)
        yield _wavering(delay, seed, length)


def _task(robot: str, rate: float, steps: float, delay: float, seed: int, length: float) -> Stream:
    """Waypoints as absolute poses for the Panda, circles as deltas for the WidowX."""
    spec, absolute = load_robot(robot), robot == "panda"
    kind = ActionKind.CARTESIAN_ABSOLUTE if absolute else ActionKind.CARTESIAN_DELTA
    random = np.random.default_rng([seed, round(steps), round(1e3 * delay), absolute])
    plan = _waypoints(spec, random) if absolute else _circles(spec)
    group = "waypoints, absolute" if absolute else "circles, deltas"
    # a policy of deltas sees where they led; those of a recording add up
    noise = (1.0, 1.0, 1.0) if absolute else (0.0, 0.1, 0.1)
    setting = Setting(group, spec, spec.home, rate, steps, delay, length, kind, plan, noise)
    return _record(setting, random)


def _wavering(delay: float, seed: int, length: float) -> Stream:
    """Two ways past an obstacle, and a policy that changes its mind at one chunk in four."""
    spec = load_robot("panda")
    home = Kinematics(spec).forward(spec.home)

    def plan(times: Array, mode: int) -> Array:
        phase = 2.0 * np.pi * times / 4.0
        side = (0.04 if mode else -0.04) * (1.0 - np.cos(2.0 * phase))
        offset = np.column_stack([side, 0.12 * np.sin(phase), np.zeros(len(times))])
        return np.hstack([home.position + offset, np.tile(home.quaternion, (len(times), 1))])

    random = np.random.default_rng([seed, 7, round(1e3 * delay)])
    kind = ActionKind.CARTESIAN_ABSOLUTE
    setting = Setting(
        "two plans, absolute", spec, spec.home, 250.0, 10.0, delay, length, kind, plan, (1.0,) * 3, 0.25
    )
    return _record(setting, random)


def _bridge(folder: Path, delay: float, seed: int, length: float) -> Stream:
    """Recorded actions of BridgeData V2, one trajectory after the other from the first one's pose."""
    spec = load_robot("widowx")
    box, count = spec.workspace, round(SECONDS / BRIDGE_PERIOD)
    random = np.random.default_rng([seed, 8, round(1e3 * delay)])
    episodes = list(read_rlds(folder))
    order = random.permutation(len(episodes))
    first = recorded_path(episodes[order[0]].states, spec.state_rotation)
    actions = np.zeros((0, episodes[0].actions.shape[1]))
    for index in [*order, *order, *order]:
        longer = np.vstack([actions, episodes[index].actions])
        path = actions_path(first, longer)
        inside = (path.positions > box.minimum).all() and (path.positions < box.maximum).all()
        turned = rotations.angle_between(path.quaternions, path.quaternions[0]).max()
        if inside and turned < 0.8 and len(actions) < count:
            actions = longer
    path = actions_path(first, actions)
    poses = TimedPath(path.times, np.hstack([path.positions, path.quaternions]), POSES)
    kind = ActionKind.CARTESIAN_DELTA
    start = Kinematics(spec).inverse(Pose(path.positions[0], path.quaternions[0]), spec.home)

    def plan(times: Array, mode: int) -> Array:
        return poses.points_at(times)

    setting = Setting(
        "Bridge, deltas", spec, start, 100.0, 1.0 / BRIDGE_PERIOD, delay, length, kind, plan,
        (0.0, 0.0, 0.0), recorded=True,
    )  # fmt: skip
    return _record(setting, random)


def _waypoints(spec: RobotSpec, random: np.random.Generator) -> Plan:
    """Minimum-jerk motions between random poses within half the tool's limits, and short rests."""
    home, tcp = Kinematics(spec).forward(spec.home), spec.tcp
    linear = [tcp.speed, tcp.acceleration, tcp.jerk]
    limits = np.repeat([linear, [tcp.angular_speed, tcp.angular_acceleration, tcp.angular_jerk]], 3, axis=0)
    points, begins, lengths = [np.zeros(6)], [], []
    time = 0.0
    while time < 2.0 * SECONDS:
        points.append(
            random.uniform([-0.03, -0.2, -0.15, -0.15, -0.15, -0.5], [0.12, 0.2, 0.05, 0.15, 0.15, 0.5])
        )
        way = np.abs(points[-1] - points[-2])[:, None]
        # peaks of the rest-to-rest quintic: 1.875 D/T, 5.774 D/T^2, 60 D/T^3
        needed = (np.array([1.875, 5.774, 60.0]) * way / (0.5 * limits)) ** (1.0 / np.arange(1, 4))
        begins.append(time)
        lengths.append(needed.max())
        time += lengths[-1] + 0.2

    def plan(times: Array, mode: int) -> Array:
        leg = np.clip(np.searchsorted(begins, times, side="right") - 1, 0, len(begins) - 1)
        share = np.clip((times - np.array(begins)[leg]) / np.array(lengths)[leg], 0.0, 1.0)[:, None]
        gone = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        stops = np.array(points)
        return _beside(home, stops[leg] + gone * (stops[leg + 1] - stops[leg]))

    return plan


def _circles(spec: RobotSpec) -> Plan:
    """Circles of 6 cm in the y-z plane below home, one in three seconds, the tool nodding."""
    home = Kinematics(spec).forward(spec.home)

    def plan(times: Array, mode: int) -> Array:
        phase = 2.0 * np.pi / 3.0 * _starting(times)
        zero = np.zeros(len(times))
        circle = 0.06 * np.column_stack([zero, np.sin(phase), np.cos(phase) - 1.0])
        return _beside(home, np.hstack([circle, np.column_stack([zero, 0.2 * np.sin(phase), zero])]))

    return plan


def _beside(home: Pose, offsets: Array) -> Array:
    """Poses (m, 7) at offsets (m, 6): translation [m] and rotation vector [rad] along base axes."""
    turned = rotations.multiply(rotations.exp(offsets[:, 3:]), home.quaternion)
    return np.hstack([home.position + offsets[:, :3], turned])


def _starting(times: Array) -> Array:
    """Plan time of a plan that gathers speed within its first second and loses half a second by that."""
    x = np.maximum(times, 0.0)
    return np.asarray(np.where(x < 1.0, x**3 - 0.5 * x**4, x - 0.5))


@dataclass(frozen=True)
class Setting:
    """What a stream is recorded from; the first fields as in `Stream`."""

    group: str
    spec: RobotSpec
    start: Array
    rate: float
    steps: float
    delay: float
    length: float
    """Seconds from the first observation to the last."""
    kind: ActionKind
    plan: Plan
    noise: tuple[float, float, float]
    """Factors of OFFSET, DRIFT and STEP."""
    wavering: float = 0.0
    """Share of chunks at which the policy goes over to its other plan."""
    recorded: bool = False
    """Observations lie on the grid of the steps, and nothing gathers speed."""


def _record(setting: Setting, random: np.random.Generator) -> Stream:
    delay, plan, recorded = setting.delay, setting.plan, setting.recorded
    period, middle = 1.0 / setting.steps, START + 0.5 * setting.length
    horizon = HORIZONS[setting.steps][delay > 0.1]
    stamps: list[float] = []
    arrivals: list[float] = []
    modes: list[int] = []
    moment, mode, lost = START, 0, False
    while moment <= START + setting.length:
        if middle < moment < middle + SILENCE:
            # what is recorded goes on where it was, on the grid of its steps
            moment += SILENCE
        mode = 1 - mode if random.random() < setting.wavering else mode
        answered = moment + delay * random.uniform(*JITTER)
        first = not stamps or stamps[-1] <= middle < moment
        lost = not (first or lost) and random.random() < DROPPED
        if not lost:
            stamps.append(moment)
            arrivals.append(answered)
            modes.append(mode)
        # one answer after the other, ten a second at most
        moment = max(answered, moment + ASKED * random.uniform(0.8, 1.2))
        if recorded:
            moment = START + period * np.ceil((moment - START) / period - 1e-9)
    last = max(i for i, stamp in enumerate(stamps) if stamp <= middle)
    due, again = stamps[last] + horizon * period, stamps[last + 1]

    def clock(times: Array) -> Array:
        """Plan time: it stands still from the end of the last chunk until the next observation."""
        after = np.maximum(times - again, 0.0)
        return np.clip(times - START, 0.0, due - START) + (after if recorded else _starting(after))

    def intended(times: Array) -> Array:
        chosen = np.array(modes)[np.maximum(np.searchsorted(arrivals, times, side="right") - 1, 0)]
        first, second = (plan(clock(times), mode) for mode in (0, 1))
        return np.where(chosen[:, None] == 0, first, second)

    deliveries = []
    for number, (stamp, arrival, chosen) in enumerate(zip(stamps, arrivals, modes, strict=True)):
        poses = plan(clock(np.asarray(stamp + period * np.arange(horizon + 1.0))), chosen)
        poses = _predicted(poses, random, setting.noise)
        chunk = _chunk(number + 1, stamp, period, setting.kind, poses, setting.spec)
        deliveries.append(Delivery(arrival, chunk))
    name = f"{setting.spec.name}, {setting.group}, {setting.steps:g} Hz, {1e3 * delay:g} ms"
    return Stream(
        name, setting.group, setting.spec.name, setting.rate, setting.steps, delay, setting.start,
        tuple(deliveries), (arrivals[last], arrivals[last + 1]), due, arrivals[-1], intended,
    )  # fmt: skip


def _predicted(poses: Array, random: np.random.Generator, noise: tuple[float, float, float]) -> Array:
    """Poses (k + 1, 7) with the noise of one prediction."""
    scale = np.array(noise)[:, None] * np.repeat([OFFSET, DRIFT, STEP], 3, axis=1)
    along = np.linspace(0.0, 1.0, len(poses))[:, None]
    offset, drift = scale[:2] * random.normal(size=(2, 6))
    wrong = offset + along * drift + scale[2] * random.normal(size=(len(poses), 6))
    turned = rotations.multiply(rotations.exp(wrong[:, 3:]), poses[:, 3:])
    return np.hstack([poses[:, :3] + wrong[:, :3], turned])


def _chunk(
    sequence: int, stamp: float, period: float, kind: ActionKind, poses: Array, spec: RobotSpec
) -> ActionChunk:
    """A chunk through poses (k + 1, 7), the first at its stamp [s]."""
    translation, quaternion = poses[1:, :3], poses[1:, 3:]
    if kind is ActionKind.CARTESIAN_DELTA:
        translation = np.diff(poses[:, :3], axis=0)
        quaternion = rotations.multiply(poses[1:, 3:], rotations.conjugate(poses[:-1, 3:]))
    widths = np.full(len(translation), spec.gripper.max_width)
    return ActionChunk(
        round(stamp * NANOSECONDS), sequence, kind, period, widths,
        translation=translation, quaternion=rotations.normalize(quaternion),
    )  # fmt: skip
