"""A policy asked at every recorded step: how near its answers are to what was done.

Both sides are decoded by the same action space, so that everything is compared in metres, radians and
opening widths, whatever the numbers of a data set or a policy look like.  The robot does not move: what is
measured is imitation step by step, not success.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import rotations
from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.contract import Contract
from vla_ros.data.episode import Episode
from vla_ros.errors import ActionError, DataError
from vla_ros.evaluation.recorded_observation import Observer
from vla_ros.policies.base import Policy
from vla_ros.policies.registry import policy_scaling
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, Array, PolicyOutput

NEAR = 5
"""Steps within which a change of the gripper is looked for."""


@dataclass(frozen=True)
class OpenLoop:
    """One episode: T steps, answers up to H steps ahead, D dimensions.

    Dimensions are translation [m] and rotation vector [rad] in the base frame, or joints [rad]; then the
    opening [m].  Absolute rotations are told from the first recorded one, so that none is near a half turn.
    """

    number: int
    instruction: str
    rate: float
    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    recorded: Array
    """(T, D)."""
    predicted: Array
    """(T, H, D): row (t, h) is what was said at step t for step t + h; nan: not asked, or fewer steps."""
    middle: float
    """Opening above which the gripper counts as open [m]."""
    refused: tuple[str, ...] = ()
    """Answers that could not be used, a sentence each."""
    seconds: tuple[float, ...] = ()
    """That each answer took."""

    @property
    def horizon(self) -> int:
        """Steps of the longest answer."""
        return int(self.predicted.shape[1])

    @property
    def now(self) -> Array:
        """(T, D) what was said for the very step."""
        return np.asarray(self.predicted[:, 0])

    def held(self) -> Array:
        """(T, D) the answers of a robot that stays: no motion, or the target before; the gripper likewise."""
        before = np.vstack([self.recorded[:1], self.recorded[:-1]])
        if self.kind is ActionKind.CARTESIAN_DELTA:
            before = np.hstack([np.zeros_like(before[:, :-1]), before[:, -1:]])
        return before

    def repeated(self) -> Array:
        """(T, D) the answers of a robot that goes on as before: the last delta, or the last change again."""
        before = np.vstack([self.recorded[:1], self.recorded[:-1]])
        if self.kind is not ActionKind.CARTESIAN_DELTA:
            change = np.diff(np.vstack([before[:1], before]), axis=0)
            before = np.hstack([(before + change)[:, :-1], before[:, -1:]])
        return before


def open_loop(
    episode: Episode, number: int, contract: Contract, policy: Policy, observer: Observer, every: int = 1,
    on_step: Callable[[int], None] | None = None,
) -> OpenLoop:  # fmt: skip
    """Ask a loaded policy at every `every`-th step of an episode.

    Raises `DataError` when the recorded actions are not of the contract's action space, `PolicyError` and
    `InstructionError` as the policy does.
    """
    space, gripper = contract.action_space, contract.robot.gripper
    recorded = _recorded(episode, contract)
    reference = _reference(recorded)
    rows = numbers(recorded, reference)
    scaling = policy_scaling(contract)
    memory = GripperMemory(space.gripper, gripper)
    answers: dict[int, Array] = {}
    refused: list[str] = []
    seconds: list[float] = []
    policy.reset(episode.instruction)
    for step in range(0, len(episode), every):
        observation = observer.observation(episode, step)
        begun = time.perf_counter()
        output = policy.infer(observation)
        seconds.append(time.perf_counter() - begun)
        if output.values is None and output.tokens is None:
            refused.append(f"step {step}: the policy answered nothing{_said(output)}")
        else:
            # what the gripper was told before is taken from the recording: each answer is judged by itself
            if step:
                memory.remember(_until(recorded, step, observation.stamp, space.period))
            try:
                chunk = decode(output, space, gripper, *scaling, memory.at(observation.stamp))
                answers[step] = numbers(chunk, reference)
            except ActionError as error:
                refused.append(f"step {step}: {error}")
        if on_step is not None:
            on_step(step)
    longest = max((len(answer) for answer in answers.values()), default=1)
    predicted = np.full((len(episode), longest, rows.shape[1]), np.nan)
    for step, answer in answers.items():
        predicted[step, : len(answer)] = answer
    names, units = dimension_names(contract)
    return OpenLoop(
        number, episode.instruction, space.rate, space.kind, names, units, rows, predicted,
        _middle(gripper), tuple(refused), tuple(seconds),
    )  # fmt: skip


def numbers(chunk: ActionChunk, reference: Array) -> Array:
    """A chunk as (steps, D), see `OpenLoop`; `reference`: quaternion that rotations are told from."""
    if chunk.joints is not None:
        return np.hstack([chunk.joints, chunk.gripper_width[:, None]])
    if chunk.translation is None or chunk.quaternion is None:
        raise ActionError(f"chunk {chunk.sequence} holds neither poses nor joints")
    back = rotations.conjugate(reference)
    turned = np.array([rotations.log(rotations.multiply(q, back)) for q in chunk.quaternion])
    return np.hstack([chunk.translation, turned.reshape(-1, 3), chunk.gripper_width[:, None]])


def dimension_names(contract: Contract) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of the dimensions of `OpenLoop`."""
    if contract.action_space.kind is ActionKind.JOINT_POSITION:
        joints = contract.robot.joint_names
        return (*joints, "gripper"), (*("rad",) * len(joints), "m")
    return ("x", "y", "z", "rx", "ry", "rz", "gripper"), ("m",) * 3 + ("rad",) * 3 + ("m",)


@dataclass(frozen=True)
class Errors:
    """Of predicted against recorded, per dimension (D,); nan where nothing can be said."""

    mean_absolute: Array
    rms: Array
    worst: Array
    bias: Array
    """Mean of predicted less recorded."""
    correlation: Array
    count: int


def errors(predicted: Array, recorded: Array) -> Errors:
    """Both (N, D); rows with nan are left out.  Correlation is Pearson's."""
    kept = np.isfinite(predicted).all(axis=1)
    said, done = predicted[kept], recorded[kept]
    dimensions = recorded.shape[1]
    if not len(said):
        nothing = np.full(dimensions, np.nan)
        return Errors(nothing, nothing, nothing, nothing, nothing, 0)
    apart = said - done
    correlation = np.full(dimensions, np.nan)
    for k in range(dimensions):
        # what hardly changes correlates with nothing: only its noise would be compared
        if min(np.ptp(said[:, k]), np.ptp(done[:, k])) > 1e-6:
            correlation[k] = np.corrcoef(said[:, k], done[:, k])[0, 1]
    return Errors(
        np.abs(apart).mean(0), np.sqrt((apart**2).mean(0)), np.abs(apart).max(0), apart.mean(0), correlation,
        len(said),
    )  # fmt: skip


@dataclass(frozen=True)
class Grip:
    """How the gripper agrees."""

    agreement: float
    """Share of steps at which both are open or both closed; nan: none was asked."""
    changes: int
    """Recorded openings and closings."""
    found: int
    """Those that the policy made too, within `NEAR` steps."""
    late: float
    """Mean steps by which those come later than recorded; nan: none."""


def grip(predicted: Array, recorded: Array, middle: float) -> Grip:
    """Openings (T,) [m]; nan in `predicted`: not asked."""
    asked = np.flatnonzero(np.isfinite(predicted))
    if not len(asked):
        return Grip(float("nan"), 0, 0, float("nan"))
    said, done = predicted[asked] > middle, recorded[asked] > middle
    mine = _changes(said)
    offsets = []
    changes = _changes(done)
    for place, opened in changes:
        near = [
            int(asked[p] - asked[place])
            for p, o in mine
            if o == opened and abs(asked[p] - asked[place]) <= NEAR
        ]
        if near:
            offsets.append(min(near, key=abs))
    late = float(np.mean(offsets)) if offsets else float("nan")
    return Grip(float(np.mean(said == done)), len(changes), len(offsets), late)


def horizon_errors(one: OpenLoop) -> Mapping[str, Array]:
    """Per step ahead (H,): root mean square of `translation` [m] and `rotation` [rad] or `joints` [rad],
    the gripper's `agreement`, and for deltas `drift` [m]: the tool's distance after that many steps.
    """
    steps, horizon = one.recorded.shape[0], one.horizon
    groups = {"joints": slice(0, -1)}
    if one.kind is not ActionKind.JOINT_POSITION:
        groups = {"translation": slice(0, 3), "rotation": slice(3, 6)}
    result = {name: np.full(horizon, np.nan) for name in (*groups, "agreement", "drift")}
    gone: Array = np.zeros((steps, 3))
    for ahead in range(min(horizon, steps)):
        said = one.predicted[: steps - ahead, ahead]
        done = one.recorded[ahead:]
        kept = np.isfinite(said).all(axis=1)
        if not kept.any():
            break
        for name, part in groups.items():
            apart = np.linalg.norm(said[kept, part] - done[kept, part], axis=1)
            result[name][ahead] = np.sqrt(np.mean(apart**2))
        result["agreement"][ahead] = np.mean((said[kept, -1] > one.middle) == (done[kept, -1] > one.middle))
        if one.kind is ActionKind.CARTESIAN_DELTA:
            gone[: steps - ahead] += said[:, :3] - done[:, :3]
            result["drift"][ahead] = np.sqrt(np.mean(np.sum(gone[: steps - ahead][kept] ** 2, axis=1)))
    return {name: values for name, values in result.items() if np.isfinite(values).any()}


def pooled(ones: list[OpenLoop]) -> OpenLoop:
    """Several episodes as one, for the errors of all; the steps of two are never mixed in a horizon."""
    if len(ones) == 1:
        return ones[0]
    horizon = max(one.horizon for one in ones)
    # between two episodes stand rows that were not asked, as many as an answer is long
    recorded, predicted = [], []
    for one in ones:
        gap = np.full((horizon, len(one.names)), np.nan)
        wide = np.full((len(one.recorded) + horizon, horizon, len(one.names)), np.nan)
        wide[: len(one.recorded), : one.horizon] = one.predicted
        for ahead in range(1, horizon):  # what is said beyond the end is compared with nothing
            wide[max(0, len(one.recorded) - ahead) : len(one.recorded), ahead] = np.nan
        recorded += [one.recorded, gap]
        predicted.append(wide)
    return replace(
        ones[0],
        recorded=np.vstack(recorded),
        predicted=np.concatenate(predicted),
        refused=tuple(sentence for one in ones for sentence in one.refused),
        seconds=tuple(value for one in ones for value in one.seconds),
    )


def _recorded(episode: Episode, contract: Contract) -> ActionChunk:
    """The recorded actions as one chunk."""
    space = contract.action_space
    if episode.action_space and episode.action_space != space.name:
        raise DataError(
            f"{episode.source} holds actions of '{episode.action_space}', "
            f"but the contract of {contract.source} says '{space.name}'."
        )
    said = PolicyOutput(0, 0, space.name, values=np.asarray(episode.actions, float))
    try:
        return decode(said, space, contract.robot.gripper)
    except ActionError as error:
        raise DataError(
            f"{episode.source}: its actions cannot be read as '{space.name}': {error}."
        ) from error


def _reference(recorded: ActionChunk) -> Array:
    if recorded.kind is ActionKind.CARTESIAN_ABSOLUTE and recorded.quaternion is not None:
        return np.asarray(recorded.quaternion[0])
    return np.array([0.0, 0.0, 0.0, 1.0])


def _until(recorded: ActionChunk, step: int, stamp: int, period: float) -> ActionChunk:
    """The recording up to `step` as one chunk that ends at `stamp`."""
    begun = stamp - round(step * period * NANOSECONDS)
    return replace(recorded, stamp=begun, gripper_width=recorded.gripper_width[:step])


def _middle(gripper: GripperSpec) -> float:
    return 0.5 * (gripper.min_width + gripper.max_width)


def _said(output: PolicyOutput) -> str:
    return f" and said: {output.text}" if output.text else ""


def _changes(opened: NDArray[np.bool_]) -> list[tuple[int, bool]]:
    places = np.flatnonzero(opened[1:] != opened[:-1]) + 1
    return [(int(place), bool(opened[place])) for place in places]
