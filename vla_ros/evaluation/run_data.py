"""A recorded run as arrays: one pass over its bag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.bag import BagMessage, bag_metadata, read_bag
from vla_ros.data.message_types import stamp_of
from vla_ros.errors import DataError
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, InterventionAction

Stamps = NDArray[np.int64]
"""Times [ns of ROS time]."""


@dataclass(frozen=True)
class Setpoints:
    """`/vla/joint_setpoint`, N ticks of n joints."""

    stamps: Stamps
    sent: Stamps
    """When each left the controller [ns]."""
    ticks: NDArray[np.int64]
    positions: Array
    velocities: Array
    accelerations: Array
    widths: Array
    states: NDArray[np.int64]
    chunk_sequences: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True)
class JointSamples:
    """Joint positions (N, n) in the robot's order, measured or commanded."""

    stamps: Stamps
    positions: Array


@dataclass(frozen=True)
class Statuses:
    """`/vla/safety_status`; positions (N, 3) and quaternions (N, 4) of the tool centre point."""

    stamps: Stamps
    states: NDArray[np.int64]
    reference: Array
    measured: Array
    measured_quaternions: Array
    overruns: NDArray[np.int64]
    period_error_p99: Array
    compute_p99: Array

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True)
class InterventionEvent:
    """One intervention and when it was reported."""

    stamp: int
    action: InterventionAction
    reason: str
    subject: str
    amount: float


@dataclass(frozen=True)
class Passage:
    """Messages of one stage: the observation's stamp and sequence, and when the message was sent."""

    stamps: Stamps
    sequences: NDArray[np.int64]
    sent: Stamps


@dataclass(frozen=True)
class ChunkShapes:
    """Of `/vla/action_chunk`, one a chunk in the order of `RunData.chunks`."""

    horizons: NDArray[np.int64]
    """Steps."""
    periods: Array
    """Seconds from step to step."""
    sources: NDArray[np.int64]
    """Who answered (`Authority`)."""


@dataclass(frozen=True)
class EpisodeEvent:
    """One message of `/vla/episode_status` or of the simulator's judge."""

    stamp: int
    topic: str
    episode_id: str
    task: str
    instruction: str
    outcome: int
    reason: str
    elapsed: float


@dataclass(frozen=True)
class RunData:
    """Everything a report is made of, images apart."""

    path: Path
    start: int
    stop: int
    """First and last stamp in the bag [ns]."""
    closed: bool
    metadata: Mapping[str, str]
    arrivals: Mapping[str, Stamps]
    """Stamps of the messages of every topic, in the order of the bag."""
    setpoints: Setpoints
    statuses: Statuses
    interventions: tuple[InterventionEvent, ...]
    measured: JointSamples
    commands: JointSamples
    """What went out on the driver's own topic."""
    observations: Passage
    outputs: Passage
    chunks: Passage
    chunk_shapes: ChunkShapes
    policy_errors: tuple[tuple[int, str], ...]
    episodes: tuple[EpisodeEvent, ...]
    instructions: tuple[tuple[int, str], ...]
    cameras: Mapping[str, Stamps]
    """Stamps of the frames per camera of the robot."""

    def seconds(self, stamps: Stamps) -> Array:
        """Seconds since the start of the bag."""
        return np.asarray((np.asarray(stamps, np.int64) - self.start) * 1e-9)


def load_run(bag: Path, robot: RobotSpec) -> RunData:
    """Read the bag of a run of `robot`; one that was not closed is read as far as it goes.

    Raises `DataError` when it is no bag, is empty or damaged.
    """
    collector = _Collector(robot)
    for entry in read_bag(bag, salvage=True):
        collector.take(entry)
    return collector.result(bag, _is_closed(bag))


def _is_closed(bag: Path) -> bool:
    try:
        next(iter(read_bag(bag)))
    except DataError:
        return False
    return True


@dataclass
class _Collector:
    robot: RobotSpec
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    arrivals: dict[str, list[int]] = field(default_factory=dict)
    interventions: list[InterventionEvent] = field(default_factory=list)
    episodes: list[EpisodeEvent] = field(default_factory=list)
    first: int = 2**63 - 1
    last: int = 0

    def take(self, entry: BagMessage) -> None:
        """Sort one message into its stream; of other topics only the stamp is kept."""
        self.arrivals.setdefault(entry.topic, []).append(entry.stamp)
        # Latched messages may be far older than the recording.
        if entry.topic != "/vla/instruction":
            self.first, self.last = min(self.first, entry.stamp), max(self.last, entry.stamp)
        driver = self.robot.driver
        handlers = {
            "/vla/joint_setpoint": self._setpoint,
            "/vla/safety_status": self._status,
            "/vla/observation": self._passage,
            "/vla/policy_output": self._passage,
            "/vla/action_chunk": self._passage,
            "/vla/episode_status": self._episode,
            "/simulator/episode_status": self._episode,
            "/vla/instruction": self._instruction,
            driver.command_topic: self._command,
            driver.joint_state_topic: self._joint_state,
            **{camera.topic: self._image for camera in self.robot.cameras.values()},
        }
        handler = handlers.get(entry.topic)
        if handler is not None:
            handler(entry, entry.message)

    def _add(self, stream: str, *row: Any) -> None:
        self.rows.setdefault(stream, []).append(row)

    def _setpoint(self, entry: BagMessage, m: Any) -> None:
        if len(m.positions) != self.robot.dof:
            raise DataError(
                f"topic {entry.topic} has {len(m.positions)} joints, {self.robot.name} has {self.robot.dof}."
            )
        rest = np.full(self.robot.dof, np.nan)
        self._add(
            "setpoints",
            stamp_of(m.header.stamp),
            entry.stamp,
            m.tick,
            m.positions,
            m.velocities if len(m.velocities) == self.robot.dof else rest,
            m.accelerations if len(m.accelerations) == self.robot.dof else rest,
            m.gripper_width,
            m.state,
            m.chunk_sequence,
        )

    def _status(self, entry: BagMessage, m: Any) -> None:
        stamp = stamp_of(m.header.stamp)
        reference, measured = (
            (p.position.x, p.position.y, p.position.z) for p in (m.reference_pose, m.measured_pose)
        )
        q = m.measured_pose.orientation
        self._add(
            "statuses",
            stamp,
            m.state,
            reference,
            measured,
            (q.x, q.y, q.z, q.w),
            m.overruns,
            m.period_error_p99,
            m.compute_p99,
        )
        for item in m.interventions:
            try:
                action = InterventionAction(item.action)
            except ValueError as error:
                raise DataError(f"topic {entry.topic}: intervention {item.action} is unknown.") from error
            self.interventions.append(
                InterventionEvent(stamp, action, item.reason, item.subject, float(item.amount))
            )

    def _passage(self, entry: BagMessage, m: Any) -> None:
        row: tuple[Any, ...] = (stamp_of(m.header.stamp), m.sequence, entry.stamp)
        if entry.topic == "/vla/action_chunk":
            # bags of before persons could take over have no source
            row = (*row, len(m.gripper_width), m.period, getattr(m, "source", 0))
        self._add(entry.topic, *row)
        if entry.topic == "/vla/policy_output" and m.error:
            self._add("errors", entry.stamp, str(m.error))

    def _episode(self, entry: BagMessage, m: Any) -> None:
        self.episodes.append(
            EpisodeEvent(
                entry.stamp, entry.topic, m.episode_id, m.task, m.instruction, m.outcome, m.reason, m.elapsed
            )
        )

    def _instruction(self, entry: BagMessage, m: Any) -> None:
        self._add("instructions", entry.stamp, str(m.data))

    def _command(self, entry: BagMessage, m: Any) -> None:
        values = m.cmd if hasattr(m, "cmd") else m.data
        if len(values) == self.robot.dof:
            self._add("commands", entry.stamp, values)

    def _joint_state(self, entry: BagMessage, m: Any) -> None:
        names = list(m.name)
        # The gripper's joints may come on the same topic, in messages of their own.
        if all(name in names for name in self.robot.driver.joint_names):
            order = [names.index(name) for name in self.robot.driver.joint_names]
            self._add("measured", stamp_of(m.header.stamp), m.position[order])

    def _image(self, entry: BagMessage, m: Any) -> None:
        self._add("image " + entry.topic, stamp_of(m.header.stamp))

    def result(self, path: Path, closed: bool) -> RunData:
        """Arrays of what was taken, each stream sorted by its stamps; setpoints in the order they came."""
        n = self.robot.dof
        s = self._columns("setpoints", 9, sort=False)
        t = self._columns("statuses", 8)
        c = self._columns("/vla/action_chunk", 6)
        return RunData(
            path=path,
            start=self.first if self.last else 0,
            stop=self.last,
            closed=closed,
            metadata=bag_metadata(path),
            arrivals={topic: _ints(stamps) for topic, stamps in self.arrivals.items()},
            setpoints=Setpoints(
                stamps=_ints(s[0]),
                sent=_ints(s[1]),
                ticks=_ints(s[2]),
                positions=_floats(s[3], n),
                velocities=_floats(s[4], n),
                accelerations=_floats(s[5], n),
                widths=_floats(s[6]),
                states=_ints(s[7]),
                chunk_sequences=_ints(s[8]),
            ),
            statuses=Statuses(
                _ints(t[0]),
                _ints(t[1]),
                _floats(t[2], 3),
                _floats(t[3], 3),
                _floats(t[4], 4),
                _ints(t[5]),
                _floats(t[6]),
                _floats(t[7]),
            ),
            interventions=tuple(self.interventions),
            measured=self._joints("measured"),
            commands=self._joints("commands"),
            observations=self._stage("/vla/observation"),
            outputs=self._stage("/vla/policy_output"),
            chunks=Passage(*map(_ints, c[:3])),
            chunk_shapes=ChunkShapes(_ints(c[3]), _floats(c[4]), _ints(c[5])),
            policy_errors=tuple((int(a), str(b)) for a, b in self.rows.get("errors", ())),
            episodes=tuple(self.episodes),
            instructions=tuple((int(a), str(b)) for a, b in self.rows.get("instructions", ())),
            cameras={
                name: _ints(self._columns("image " + camera.topic, 1)[0])
                for name, camera in self.robot.cameras.items()
            },
        )

    def _columns(self, stream: str, count: int, sort: bool = True) -> list[Sequence[Any]]:
        rows = self.rows.get(stream, [])
        if sort:
            rows = sorted(rows, key=lambda row: row[0])
        return list(zip(*rows, strict=True)) if rows else [()] * count

    def _joints(self, stream: str) -> JointSamples:
        stamps, positions = self._columns(stream, 2)
        return JointSamples(_ints(stamps), _floats(positions, self.robot.dof))

    def _stage(self, topic: str) -> Passage:
        stamps, sequences, sent = self._columns(topic, 3)
        return Passage(_ints(stamps), _ints(sequences), _ints(sent))


def _ints(column: Sequence[Any]) -> NDArray[np.int64]:
    return np.array(column, np.int64)


def _floats(column: Sequence[Any], width: int = 0) -> Array:
    array = np.array(column, np.float64)
    return array.reshape(-1, width) if width else array
