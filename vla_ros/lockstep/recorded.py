"""A recorded run as what came in at each stage, for going through it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.data.bag import bag_metadata
from vla_ros.data.bag_dataset import contract_from_text
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.bag_messages import action_chunk_of, joint_state_of, policy_output_of
from vla_ros.data.demonstration_bag import OUTCOMES
from vla_ros.data.message_types import stamp_of
from vla_ros.documents import parse_json
from vla_ros.errors import DataError
from vla_ros.ingest import gripper_width_of
from vla_ros.types import ActionChunk, Array, JointState, PolicyOutput

EVENTS = "/vla/control_events"
SETPOINT, OUTPUT, CHUNK = "/vla/joint_setpoint", "/vla/policy_output", "/vla/action_chunk"
OBSERVATION, AUTHORITY, EPISODE = "/vla/observation", "/vla/authority", "/vla/episode_status"
_RUNNING = 1


@dataclass(frozen=True)
class Answer:
    """A policy's or a person's output as recorded."""

    output: PolicyOutput
    published: int
    """[ns]"""
    policy: str
    instruction: str


@dataclass(frozen=True)
class SetpointRow:
    """One recorded tick."""

    stamp: int
    tick: int
    positions: Array
    velocities: Array
    accelerations: Array
    width: float
    state: int
    sequence: int
    observation_stamp: int
    measured_stamp: int


@dataclass
class Stretch:
    """One episode on the bag's clock [ns]."""

    episode_id: str
    instruction: str
    start: int
    end: int
    outcome: str
    over: bool = False


@dataclass
class RecordedRun:
    """Everything in the order of its stamps."""

    path: Path
    contract: Contract
    contract_text: str
    robot_text: str
    metadata: Mapping[str, str]
    index: BagIndex
    joints: list[JointState] = field(default_factory=list)
    grips: list[tuple[int, float]] = field(default_factory=list)
    """(stamp [ns], opening [m])"""
    answers: list[Answer] = field(default_factory=list)
    chunks: list[ActionChunk] = field(default_factory=list)
    setpoints: list[SetpointRow] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    """The controller's journal."""
    authority: list[tuple[int, int, str]] = field(default_factory=list)
    """(stamp [ns], source, device)"""
    observations: list[int] = field(default_factory=list)
    """Stamps [ns]."""
    episodes: list[Stretch] = field(default_factory=list)


def without_forces(contract: Contract) -> Contract:
    """The contract for a controller that goes through a recording, to which no forces at the wrist are given.

    It judges contact by joint torques alone: by forces that never come it would hold for good.
    """
    contact = replace(contract.robot.contact, force=None)
    return replace(contract, robot=replace(contract.robot, contact=contact))


def read_recorded_run(path: Path, setpoints: bool = True) -> RecordedRun:
    """Read a bag of a run or of demonstrations; images stay where they lie.

    `setpoints`: the recorded commands too, and the chunks they came from.

    Raises `DataError` when it is no bag, is not closed, empty or damaged, holds no contract, lacks a topic,
    or its clock goes backwards.
    """
    named = bag_metadata(Path(path))
    text = named.get("contract", "")
    if not text:
        raise DataError(f"{path} holds no contract, so nothing says how its actions are meant.")
    contract = contract_from_text(text, Path(path))
    driver = contract.robot.driver
    grip_topic, grip_names = str(driver.gripper["joint_state_topic"]), _strings(driver.gripper["joint_names"])
    wanted = {OUTPUT, EVENTS, OBSERVATION, AUTHORITY, EPISODE, driver.joint_state_topic, grip_topic}
    if setpoints:
        wanted |= {SETPOINT, CHUNK}
    index = BagIndex(Path(path), wanted.__contains__)
    run = RecordedRun(Path(path), contract, text, named.get("robot", ""), named, index)
    for topic in (driver.joint_state_topic, grip_topic, OUTPUT, EPISODE):
        if topic not in index.topics:
            raise DataError(f"{path} has no topic {topic}; it cannot be replayed.")
    marks: dict[str, Stretch] = {}
    for topic, at, m in index.small:
        if topic == driver.joint_state_topic or topic == grip_topic:
            _take_joints(run, topic, m, grip_topic, grip_names)
        elif topic == OUTPUT:
            if not m.error:
                output = policy_output_of(m, str(path))
                _finite(output, run)
                run.answers.append(Answer(output, stamp_of(m.published) or at, m.policy, m.instruction))
        elif topic == CHUNK:
            run.chunks.append(action_chunk_of(m, str(path)))
        elif topic == SETPOINT:
            run.setpoints.append(_row(m))
        elif topic == EVENTS:
            run.events.append(_json(m.data, f"{path}, topic {EVENTS}"))
        elif topic == AUTHORITY:
            run.authority.append((stamp_of(m.header.stamp), int(m.source), str(m.device)))
        elif topic == OBSERVATION:
            run.observations.append(stamp_of(m.header.stamp))
        elif topic == EPISODE:
            _take_status(marks, m)
    run.episodes = list(marks.values())
    index.small.clear()
    _check_clock(run)
    return run


def _take_joints(run: RecordedRun, topic: str, m: Any, grip_topic: str, grip_names: tuple[str, ...]) -> None:
    driver = run.contract.robot.driver
    if topic == driver.joint_state_topic:
        state = joint_state_of(m, driver.joint_names)
        if state is not None:
            run.joints.append(state)
    if topic == grip_topic:
        grip = joint_state_of(m, grip_names)
        if grip is not None:
            run.grips.append((grip.stamp, gripper_width_of(float(grip.positions[0]), run.contract.robot)))


def _take_status(marks: dict[str, Stretch], m: Any) -> None:
    stamp = stamp_of(m.header.stamp)
    known = marks.get(m.episode_id)
    if known is None:
        if m.outcome == _RUNNING:
            marks[m.episode_id] = Stretch(m.episode_id, m.instruction, stamp, stamp, "aborted")
    else:
        if not known.over:
            known.end = max(known.end, stamp)
        if m.outcome in OUTCOMES:
            # what comes last counts: a person may discard an episode after its end
            known.outcome, known.over = OUTCOMES[m.outcome], True


def _row(m: Any) -> SetpointRow:
    return SetpointRow(
        stamp_of(m.header.stamp), int(m.tick), np.array(m.positions), np.array(m.velocities),
        np.array(m.accelerations), float(m.gripper_width), int(m.state), int(m.chunk_sequence),
        stamp_of(m.observation_stamp), stamp_of(m.measured_stamp) if hasattr(m, "measured_stamp") else 0,
    )  # fmt: skip


def _finite(output: PolicyOutput, run: RecordedRun) -> None:
    if output.values is not None and not np.isfinite(output.values).all():
        step, column = np.argwhere(~np.isfinite(output.values))[0]
        name = run.contract.action_space.dimensions[column : column + 1]
        raise DataError(
            f"{run.path}: policy output {output.sequence}, step {step} is not finite in dimension "
            f"{name[0] if name else column}; such a bag is no reference."
        )


def _check_clock(run: RecordedRun) -> None:
    for name, stamps in (
        ("the joint states", [state.stamp for state in run.joints]),
        (OBSERVATION, run.observations),
    ):
        for before, after in zip(stamps, stamps[1:], strict=False):
            if after < before:
                raise DataError(
                    f"{run.path}: the clock goes back by {(before - after) / 1e9:.3f} s in {name}."
                )


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        given = parse_json(text)
    except ValueError as error:
        raise DataError(f"{where}: the text is not JSON: {error}.") from error
    if not isinstance(given, dict):
        raise DataError(f"{where}: the text is no JSON object.")
    return given


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else (str(value),)
