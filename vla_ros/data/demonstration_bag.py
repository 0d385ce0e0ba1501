"""Demonstrations in a bag: the messages of each episode, and the steps made of them.

Actions are physical values in the contract's action space.  A policy that gave tokens or normalised values
cannot be read back without its statistics: there the action is taken from `/vla/action_chunk`, which says
what the output meant in metres and radians, and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_ros.actions import rotations
from vla_ros.actions.encode import encode, exact
from vla_ros.contract import Contract
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.demonstration import CLOCK_SET, Change, Given, Step, newest, set_back, steps_of
from vla_ros.data.episode import Episode
from vla_ros.data.frames import Frames
from vla_ros.data.message_types import stamp_of
from vla_ros.data.recorded_topics import AUTHORITY, EPISODE_STATUS, OBSERVATION
from vla_ros.errors import ActionError, DataError
from vla_ros.types import ActionKind, Array, Pose

OUTPUT, CHUNK = "/vla/policy_output", "/vla/action_chunk"
WANTED = frozenset({EPISODE_STATUS, OBSERVATION, OUTPUT, CHUNK, AUTHORITY})
OUTCOMES = {2: "success", 3: "failure", 4: "aborted", 5: "discarded"}
_RUNNING, _PERSON = 1, 1
LEAD = 1_000_000_000
"""Within so long [ns] of its beginning an episode must have been seen."""


@dataclass
class Demonstration:
    """The messages of one episode."""

    episode_id: str
    task: str
    instruction: str
    start: int
    end: int | None = None
    outcome: str = "aborted"
    """An episode without an end was cut off: aborted."""
    outputs: list[Any] = field(default_factory=list)
    chunks: dict[tuple[int, int, int], Any] = field(default_factory=dict)
    """By (sequence, source, stamp)."""
    observations: list[Any] = field(default_factory=list)
    plan: tuple[Step, ...] = ()
    gap: int | None = None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.plan)


def demonstrations(index: BagIndex, contract: Contract) -> list[Demonstration]:
    """Every episode of a bag.  Raises `DataError` for a missing topic or a clock that goes backwards."""
    for topic in (EPISODE_STATUS, OBSERVATION, OUTPUT):
        if topic not in index.topics:
            raise DataError(f"{index.path} has no topic {topic}; it holds no demonstrations.")
    found = _stretches(index)
    period = round(1e9 * contract.action_space.period)
    changes: list[Change] = []
    for topic, _, message in index.small:
        if topic == EPISODE_STATUS or topic not in WANTED:
            continue
        stamp = stamp_of(message.header.stamp)
        if topic == AUTHORITY:
            changes.append(Change(stamp, int(message.source)))
            continue
        owner = next((d for d in found if d.start <= stamp and (d.end is None or stamp <= d.end)), None)
        if owner is None:
            continue
        if topic == OUTPUT:
            if not message.error and message.horizon:
                owner.outputs.append(message)
        elif topic == CHUNK:
            owner.chunks[int(message.sequence), int(message.source), stamp] = message
        else:
            owner.observations.append(message)
    for one in found:
        _check_clock(index, OBSERVATION, one, [stamp_of(m.header.stamp) for m in one.observations])
        _check_senders(index, one)
        given = [_given(message) for message in one.outputs]
        last = max((g.stamp + g.horizon * period for g in given), default=one.start)
        end = one.end if one.end is not None else last
        one.plan, one.gap = steps_of(given, period, end, changes, one.chunks or None)
        one.plan = _seen_from(one)
        if not one.plan:
            raise DataError(f"{_where(index, one)} has no steps: no action on {OUTPUT}.")
    return found


def _seen_from(one: Demonstration) -> tuple[Step, ...]:
    """The steps from the first observation of the episode on.

    A person's actions begin with the episode, a moment before its first frame: what was seen before belongs
    to the scene before.  More than `LEAD` without one is a fault that reading names.
    """
    stamps = [stamp_of(message.header.stamp) for message in one.observations]
    first = next((k for k, step in enumerate(one.plan) if newest(stamps, step.stamp) >= 0), 0)
    return one.plan[first:] if first and one.plan[first].stamp - one.start <= LEAD else one.plan


def read_demonstration(index: BagIndex, one: Demonstration, contract: Contract, text: str) -> Episode:
    """Make the episode of its messages.  Raises `DataError`, naming bag, episode and step."""
    where = _where(index, one)
    count = len(one.plan)
    stamps = [stamp_of(m.header.stamp) for m in one.observations]
    seen = []
    for k, step in enumerate(one.plan):
        at = newest(stamps, step.stamp)
        if at < 0:
            raise DataError(f"{where}, step {k}: no observation on {OBSERVATION} is as old as the step.")
        seen.append(one.observations[at])
    actions = np.stack(
        [_action(one, step, contract, f"{where}, step {k}") for k, step in enumerate(one.plan)]
    )
    states = exact([[*m.joint_state.position, m.gripper_width] for m in seen])
    for what, values in (("action", actions), ("state", states)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{where}, step {bad[0][0]}: number {bad[0][1]} of the {what} is not finite.")
    sources = np.array([int(one.outputs[step.output].source) for step in one.plan])
    by_person = sources == _PERSON
    taken_over = by_person if not by_person.all() else np.zeros(count, np.bool_)
    last = np.arange(count) == count - 1
    tcp = np.array([_pose(m.tcp_pose) for m in seen], np.float32)
    metadata = {
        "episode_id": one.episode_id,
        "task": one.task,
        "outcome": one.outcome,
        "robot": contract.robot.name,
        "start": one.plan[0].stamp,
        # where its actions ran out before its end [ns]; 0: nowhere.  Always there: one data set, one form.
        "gap": one.gap or 0,
    }
    return Episode(
        source=where,
        actions=actions,
        states=states,
        is_first=np.arange(count) == 0,
        is_last=last,
        is_terminal=last & (one.outcome == "success"),
        instructions=tuple(one.outputs[step.output].instruction or one.instruction for step in one.plan),
        images=_images(index, seen, contract, where),
        extra={"observation/tcp_pose": tcp, "is_intervention": taken_over},
        metadata=metadata,
        rate=contract.action_space.rate,
        action_space=contract.action_space.name,
        action_names=contract.action_space.dimensions,
        state_names=(*contract.robot.joint_names, "gripper_width"),
        contract=text,
    )


def _stretches(index: BagIndex) -> list[Demonstration]:
    found: list[Demonstration] = []
    current: Demonstration | None = None
    for topic, _, message in index.small:
        if topic != EPISODE_STATUS:
            continue
        stamp, outcome = stamp_of(message.header.stamp), int(message.outcome)
        if current is not None and message.episode_id != current.episode_id:
            current.end, current = stamp, None
        if outcome == _RUNNING and current is None:
            if any(one.episode_id == message.episode_id for one in found):
                continue  # an episode that has ended does not begin again
            current = Demonstration(message.episode_id, message.task, message.instruction, stamp)
            found.append(current)
        elif outcome in OUTCOMES:
            ended = next((one for one in found if one.episode_id == message.episode_id), None)
            if ended is not None:
                # What comes last counts: a person may discard an episode after it has ended.
                ended.outcome = OUTCOMES[outcome]
                if ended is current:
                    ended.end, current = stamp, None
    return found


def _given(message: Any) -> Given:
    stamp = stamp_of(message.header.stamp)
    published = stamp_of(message.published) or stamp
    return Given(stamp, published, int(message.horizon), int(message.sequence), int(message.source))


def _check_senders(index: BagIndex, one: Demonstration) -> None:
    """Each sender's stamps go on; those of a policy that is refused are older than the person's beside them.

    Raises `DataError` when a clock was set.
    """
    stamps: dict[tuple[int, str], list[int]] = {}
    for message in one.outputs:
        sender = int(message.source), str(message.policy)
        stamps.setdefault(sender, []).append(stamp_of(message.header.stamp))
    for (_, name), times in stamps.items():
        _check_clock(index, f"{OUTPUT} of {name}" if len(stamps) > 1 else OUTPUT, one, times)
    if len(stamps) > 1:
        left = [_given(message).published for message in one.outputs]
        _check_clock(index, OUTPUT, one, left, CLOCK_SET)


def _check_clock(
    index: BagIndex, topic: str, one: Demonstration, times: Sequence[int], tolerance: int = 0
) -> None:
    for before, after in set_back(times, tolerance)[:1]:
        raise DataError(
            f"{_where(index, one)}: the stamps on {topic} go back from {before} to {after} ns; "
            "the clock was set."
        )


def _images(index: BagIndex, seen: Sequence[Any], contract: Contract, where: str) -> Mapping[str, Frames]:
    images: dict[str, Frames] = {}
    for camera, spec in contract.cameras.items():
        topics = (spec.topic, f"{spec.topic}/compressed", f"{spec.topic}/h264")
        topic = next((name for name in topics if name in index.images), None)
        if topic is None:
            raise DataError(f"{where}: no topic {' or '.join(topics)} of camera '{camera}' is in the bag.")
        stamps = []
        for k, message in enumerate(seen):
            if camera not in message.camera_names:
                raise DataError(f"{where}, step {k}: the observation has no camera '{camera}'.")
            stamps.append(stamp_of(message.images[list(message.camera_names).index(camera)].header.stamp))
        images[camera] = index.frames(topic, stamps, f"{where}, camera '{camera}'")
    return images


def _action(one: Demonstration, step: Step, contract: Contract, where: str) -> Array:
    output, space = one.outputs[step.output], contract.action_space
    if output.action_space != space.name:
        raise DataError(f"{where}: the action speaks '{output.action_space}', the contract '{space.name}'.")
    if len(output.values) and not output.normalization_key:
        if output.dimension != space.dimension or len(output.values) != output.horizon * output.dimension:
            raise DataError(
                f"{where}: {len(output.values)} numbers are no {output.horizon} actions of {space.dimension}."
            )
        return exact(np.asarray(output.values).reshape(output.horizon, -1)[step.row])
    key = (int(output.sequence), int(output.source), stamp_of(output.header.stamp))
    chunk = one.chunks.get(key)
    if chunk is None or step.row >= len(chunk.gripper_width):
        raise DataError(
            f"{where}: the action is normalised or in tokens, and {CHUNK} does not say what it means."
        )
    width, gripper = float(chunk.gripper_width[step.row]), contract.robot.gripper
    try:
        if space.kind is ActionKind.JOINT_POSITION:
            joints = np.asarray(chunk.joint_positions).reshape(-1, chunk.joint_count)[step.row]
            return encode(space, gripper, width, joints=joints)
        pose = _pose(chunk.poses[step.row])
        if space.kind is ActionKind.CARTESIAN_ABSOLUTE:
            return encode(space, gripper, width, pose=Pose(pose[:3], pose[3:]))
        return encode(space, gripper, width, translation=pose[:3], rotation=rotations.log(pose[3:]))
    except (ActionError, ValueError, IndexError) as error:
        raise DataError(f"{where}: the action on {CHUNK} cannot be encoded: {error}.") from error


def _pose(message: Any) -> Array:
    p, q = message.position, message.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def _where(index: BagIndex, one: Demonstration) -> str:
    return f"{index.path}, episode '{one.episode_id}'"
