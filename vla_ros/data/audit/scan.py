"""One pass over a bag: an `EpisodeRecord` for every episode, as soon as it ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import Contract, load_contract
from vla_ros.data.audit.pictures import CameraWatch
from vla_ros.data.audit.record import OUTCOMES, CameraRecord, EpisodeRecord, Noted, Output, Paired, Stream
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.bag import BagMessage, read_bag
from vla_ros.data.demonstration import Change
from vla_ros.data.episode_bag import ACTION_TOPIC, STATE_TOPIC, STATUS_TOPIC
from vla_ros.data.message_types import stamp_of
from vla_ros.data.recorded_topics import AUTHORITY
from vla_ros.errors import DataError, VlaRosError
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS

EPISODE_TOPIC, SIMULATOR, CLOCK = "/vla/episode_status", "/simulator/", "/clock"
INSTRUCTION_TOPIC = "/vla/instruction"
ENCODED = ("", "/compressed", "/h264")
"""What a recorder may append to a camera's topic when it encodes the images."""
_RUNNING = 1
_LATE = 200_000_000
"""So long after the end of an episode an action from before it may still be recorded [ns]."""
_SPARSE = 10_000_000
"""Joint positions closer than this to the last one kept are not needed [ns]."""

Handler = Callable[[BagMessage], None]


def contract_of(metadata: dict[str, str]) -> Contract | None:
    """The contract that a bag carries; None without one.  Raises `DataError` when it cannot be understood."""
    text = metadata.get("contract", "")
    if not text:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "contract.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            return load_contract(path)
        except VlaRosError as error:
            text = str(error).replace(f"{path}: ", "").rstrip(".")
            raise DataError(f"the bag's contract cannot be understood: {text}.") from None


@dataclass
class Scan:
    """Reads one bag; `topics` and `imported` are complete when `episodes` has ended."""

    path: Path
    contract: Contract | None
    rules: AuditRules = field(default_factory=AuditRules)
    pictures: bool = False
    simulated: bool = False
    """Whether the bag is known to be of a simulator; its topics and its contract may say so too."""
    topics: set[str] = field(default_factory=set)
    relabelled: dict[str, str] = field(default_factory=dict)
    """Outcomes that episodes were given after they had ended, by id."""
    first: int = 0
    last: int = 0
    """First and last recording time [ns]."""

    def __post_init__(self) -> None:
        self._open: EpisodeRecord | None = None
        self._ended: tuple[int, str] | None = None
        self._watches: dict[str, CameraWatch] = {}
        self._instruction = ""
        self._changes: list[Change] = []
        self._simulated = self.simulated or self._looks_simulated()
        self._handlers = self._by_topic()
        self._sparse = 0

    def episodes(self) -> Iterator[EpisodeRecord]:
        """Yield the episodes in order.  Raises `DataError` when the bag cannot be read."""
        for entry in read_bag(self.path, salvage=True):
            self.topics.add(entry.topic)
            if entry.topic != INSTRUCTION_TOPIC:  # latched: may be far older than the recording
                self.first = self.first or entry.stamp
                self.last = max(self.last, entry.stamp)
            if self._ended is not None and entry.stamp > self._ended[0] + _LATE:
                yield self._closed(*self._ended)
            if entry.topic in (EPISODE_TOPIC, STATUS_TOPIC):
                yield from self._status(entry)
                continue
            if entry.topic.startswith(SIMULATOR) or entry.topic == CLOCK:
                self._simulated = True
            if entry.topic == INSTRUCTION_TOPIC:
                self._say(str(entry.message.data))
            if entry.topic == AUTHORITY:  # latched: what was said before the episode still holds
                message = entry.message
                self._changes.append(Change(stamp_of(message.header.stamp), int(message.source)))
            if self._open is None or (self._ended is not None and not self._belongs(entry, self._ended[0])):
                continue
            handler = self._handlers.get(entry.topic)
            if handler is None and entry.type_name.endswith("/CompressedImage"):
                before, _, after = entry.topic.partition("/compressed")
                if before.startswith("/episode/") and not after:
                    handler = self._image(before.split("/")[2], entry.topic, 0.0)
                    self._handlers[entry.topic] = handler
            if handler is not None:
                handler(entry)
        if self._open is not None:
            yield self._closed(*(self._ended or (self.last, "")))

    def _belongs(self, entry: BagMessage, stop: int) -> bool:
        """Whether what was recorded just after the end is an action from before it, or the chunk of one."""
        if entry.topic not in ("/vla/policy_output", "/vla/action_chunk"):
            return False
        return stamp_of(entry.message.header.stamp) <= stop + self._now.offset

    def _status(self, entry: BagMessage) -> Iterator[EpisodeRecord]:
        status = entry.message
        now = self._open
        if int(status.outcome) == _RUNNING:
            if now is not None and now.episode_id == status.episode_id:
                return
            if now is not None:
                yield self._closed(*(self._ended or (entry.stamp, "")))
            self._start(status, entry)
            return
        outcome = OUTCOMES.get(int(status.outcome), "")
        if now is not None and (now.imported or now.episode_id == status.episode_id):
            # What comes last counts: a person may discard an episode after it has ended.
            stop, before = self._ended or (entry.stamp, "")
            self._ended = stop, outcome or before
        elif outcome:
            self.relabelled[str(status.episode_id)] = outcome

    def _start(self, status: Any, entry: BagMessage) -> None:
        imported = entry.topic == STATUS_TOPIC
        record = EpisodeRecord(
            str(status.episode_id), self.contract, imported, entry.stamp, task=str(status.task)
        )
        record.instructions = [str(status.instruction)] if status.instruction else []
        self._open, self._watches, self._sparse = record, {}, 0
        for name, topic, rate, needed in self._expected(imported):
            record.streams[name] = Stream(name, topic, rate, needed)

    def _closed(self, stop: int, outcome: str) -> EpisodeRecord:
        record, self._open, self._ended = self._now, None, None
        record.stop, record.outcome, record.simulated = stop, outcome, self._simulated
        record.changes = list(self._changes)
        if not record.instructions and self._instruction:
            record.instructions = [self._instruction]
        if self.contract is not None and self._simulated and not record.imported:
            record.streams["joint states"].rate = self.contract.robot.simulated_joint_state_rate
        return record

    def _say(self, text: str) -> None:
        self._instruction = text
        if self._open is not None and text and (self._open.instructions or [""])[-1] != text:
            self._open.instructions.append(text)

    def _looks_simulated(self) -> bool:
        if self.contract is None:
            return False
        robot, rate = self.contract.robot, self.contract.control_rate
        return rate == robot.simulated_control_rate != robot.control_rate

    def _expected(self, imported: bool) -> Iterator[tuple[str, str, float, bool]]:
        """(name, topic, rate, whether steps need it) of the streams an episode must have."""
        if imported:
            yield "actions", ACTION_TOPIC, 0.0, True
            yield "joint states", STATE_TOPIC, 0.0, True
            return
        contract = self.contract
        yield "actions", "/vla/policy_output", 0.0, True
        rate = min((c.rate for c in contract.cameras.values()), default=0.0) if contract is not None else 0.0
        yield "observations", "/vla/observation", rate, True
        if contract is None:
            return
        for name, camera in contract.cameras.items():
            yield f"camera {name}", camera.topic, camera.rate, True
        driver = contract.robot.driver
        yield "joint states", driver.joint_state_topic, driver.joint_state_rate, True
        gripper = str(driver.gripper.get("joint_state_topic") or "")
        if gripper and gripper != driver.joint_state_topic:
            rate = float(str(driver.gripper.get("joint_state_rate") or 0.0))
            yield "gripper", gripper, rate, False
        yield "setpoints", "/vla/joint_setpoint", contract.control_rate, False

    def _by_topic(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = {
            "/vla/policy_output": self._output,
            ACTION_TOPIC: self._output,
            STATE_TOPIC: self._state,
            "/vla/action_chunk": self._chunk,
            "/vla/observation": self._observation,
            "/vla/joint_setpoint": self._setpoint,
            "/vla/safety_status": self._safety,
        }
        if self.contract is not None:
            driver = self.contract.robot.driver
            gripper = str(driver.gripper.get("joint_state_topic") or "")
            if gripper:
                handlers[gripper] = self._gripper
            handlers[driver.joint_state_topic] = self._joints(self.contract.robot)
            for name, camera in self.contract.cameras.items():
                for suffix in ENCODED:
                    handlers[camera.topic + suffix] = self._image(name, camera.topic, camera.rate)
        return handlers

    @property
    def _now(self) -> EpisodeRecord:
        if self._open is None:
            raise RuntimeError("no episode is open")
        return self._open

    def _note(
        self, name: str, entry: BagMessage, stamp: int, rate: float = 0.0, needed: bool = False
    ) -> None:
        stream = self._now.streams.get(name)
        if stream is None:
            stream = self._now.streams[name] = Stream(name, entry.topic, rate, needed)
        stream.add(stamp, entry.stamp)

    def _image(self, camera: str, topic: str, rate: float) -> Handler:
        name = f"camera {camera}"

        def take(entry: BagMessage) -> None:
            watch = self._watches.get(camera)
            if watch is None:
                stream = self._now.streams.setdefault(name, Stream(name, topic, rate))
                record = self._now.cameras[camera] = CameraRecord(stream)
                watch = self._watches[camera] = CameraWatch(record, self.rules, self.pictures)
            message = entry.message
            header = message.header.stamp if hasattr(message, "header") else message.timestamp
            watch.take(message, entry.stamp, stamp_of(header))

        return take

    def _output(self, entry: BagMessage) -> None:
        m = entry.message
        stamp = stamp_of(m.header.stamp)
        self._note("actions", entry, stamp, needed=True)
        horizon, dimension = int(m.horizon), int(m.dimension)
        whole = horizon * dimension == len(m.values) > 0
        values = np.array(m.values, np.float64).reshape(horizon, dimension) if whole else np.zeros((0, 0))
        fits = whole or len(m.tokens) == horizon * dimension > 0
        error = str(m.error) or (
            "" if fits else f"{len(m.values)} values for horizon {horizon} x dimension {dimension}"
        )
        published = stamp_of(m.published) or entry.stamp
        self._now.outputs.append(
            Output(
                stamp, published, int(m.source), values, len(m.tokens), str(m.action_space),
                str(m.normalization_key), horizon, dimension, error, int(m.sequence), str(m.policy),
            )
        )  # fmt: skip
        if m.instruction:
            self._say(str(m.instruction))

    def _chunk(self, entry: BagMessage) -> None:
        m = entry.message
        self._now.executed.add((int(m.sequence), int(m.source), stamp_of(m.header.stamp)))

    def _observation(self, entry: BagMessage) -> None:
        m = entry.message
        stamp = stamp_of(m.header.stamp)
        self._note("observations", entry, stamp, needed=True)
        frames = tuple(
            (str(name), stamp_of(image.header.stamp))
            for name, image in zip(m.camera_names, m.images, strict=False)
        )
        finite = bool(np.isfinite(m.joint_state.position).all()) and bool(np.isfinite(m.gripper_width))
        joints = stamp_of(m.joint_state.header.stamp)
        self._now.observations.append(Paired(stamp, frames, joints, float(m.gripper_width), finite))

    def _joints(self, robot: RobotSpec) -> Handler:
        wanted = robot.driver.joint_names
        given: Any = robot.driver.gripper.get("joint_names") or ()
        fingers = set(robot.gripper.joint_names) | {str(name) for name in given}

        def take(entry: BagMessage) -> None:
            m = entry.message
            names = list(m.name)
            missing = [name for name in wanted if name not in names]
            if len(missing) == len(wanted):
                # The gripper's joints may come on the same topic, in messages of their own.
                if not set(names) & fingers:
                    self._now.wrong_joints[f"names {', '.join(names) or 'no joints'}"] += 1
            elif missing:
                self._now.wrong_joints[f"lacks {', '.join(missing)}"] += 1
            elif len(m.position) != len(names):
                self._now.wrong_joints[f"has {len(m.position)} positions for {len(names)} names"] += 1
            else:
                stamp = stamp_of(m.header.stamp)
                self._note("joint states", entry, stamp)
                positions = m.position[[names.index(name) for name in wanted]]
                self._keep_joints(stamp, positions, tuple(wanted))

        return take

    def _gripper(self, entry: BagMessage) -> None:
        self._note("gripper", entry, stamp_of(entry.message.header.stamp))

    def _state(self, entry: BagMessage) -> None:
        m = entry.message
        stamp = stamp_of(m.header.stamp)
        self._note("joint states", entry, stamp)
        self._keep_joints(stamp, m.position, tuple(str(name) for name in m.name))

    def _keep_joints(self, stamp: int, positions: Any, names: tuple[str, ...]) -> None:
        now = self._now
        if not np.isfinite(positions).all():
            now.joints_not_finite += 1
            return
        if abs(stamp - self._sparse) < _SPARSE:
            return
        if now.joint_positions and len(positions) != len(now.joint_positions[0]):
            now.wrong_joints[f"has {len(positions)} numbers, not {len(now.joint_positions[0])}"] += 1
            return
        self._sparse = stamp
        now.joint_names = names
        now.joint_stamps.append(stamp)
        now.joint_positions.append(np.array(positions, np.float64))

    def _setpoint(self, entry: BagMessage) -> None:
        m = entry.message
        stamp = stamp_of(m.header.stamp)
        self._note("setpoints", entry, stamp)
        self._now.state_stamps.append(stamp)
        self._now.states.append(int(m.state) & 0x7F)

    def _safety(self, entry: BagMessage) -> None:
        m = entry.message
        stamp = stamp_of(m.header.stamp)
        self._note("safety status", entry, stamp)
        for item in m.interventions:
            self._now.interventions.append(
                Noted(stamp, int(item.action), str(item.reason), str(item.subject))
            )


def episode_period(record: EpisodeRecord) -> float:
    """Time between actions [s]: the contract's, or the median of the recorded ones; 0 when none is known."""
    if record.contract is not None and not record.imported:
        return record.contract.action_space.period
    stream = record.streams.get("actions")
    if stream is None or len(stream) < 2:
        return 0.0
    return float(np.median(np.diff(np.sort(stream.stamps)))) / NANOSECONDS
