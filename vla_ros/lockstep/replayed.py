"""A bag stepped through from its own clock: what the strip makes of it today, the same to the last bit.

Nothing here looks at a wall clock.  Joint states and frames come at their stamps, recorded answers when they
were published, a policy's own answers a fixed latency after their observation; the controller ticks on a
regular grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.contract import Contract, preflight
from vla_ros.control.controller import SafetyController, Tick
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.frames import Frames
from vla_ros.errors import ActionError, DataError
from vla_ros.execution.authority import Authority
from vla_ros.ingest import FrameRules, FrameScreen, JointBuffer, Pairer
from vla_ros.lockstep.recorded import Answer, RecordedRun, Stretch, without_forces
from vla_ros.policies.base import Policy
from vla_ros.policies.registry import policy_scaling
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    Array,
    CameraImage,
    Image,
    JointState,
    Observation,
    PolicyOutput,
    Source,
)

LEAD_IN = 0.5
"""Seconds before the first answer at which the controller begins, at rest where the robot was."""
RUN_OUT = 1.0
"""Seconds after the last target: the planned stop is part of what is compared."""
_UNSEEN: Image = np.zeros((1, 1, 3), np.uint8)
GRIPPER_MAX_AGE = 1.0
"""Seconds a measured gripper opening stays good, as in the ingester."""


@dataclass
class Trace:
    """One episode as the strip made it; times are relative to `start` [ns]."""

    episode_id: str
    instruction: str
    start: int
    ticks: list[int] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    velocities: list[Array] = field(default_factory=list)
    accelerations: list[Array] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    observations: list[tuple[int, Array]] = field(default_factory=list)
    """(time, joints with the opening behind them)"""
    outputs: list[tuple[int, Array]] = field(default_factory=list)
    """(stamp, values or tokens)"""
    chunks: list[tuple[int, Array]] = field(default_factory=list)
    """(stamp, one row a step: pose or joints, opening)"""
    interventions: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """Why frames, outputs or chunks were not used."""

    @property
    def seconds(self) -> float:
        """Length."""
        return (self.ticks[-1] - self.ticks[0]) / NANOSECONDS if self.ticks else 0.0


def replay_run(
    run: RecordedRun, contract: Contract | None = None, policy: Policy | None = None, latency: float = 0.1
) -> Iterator[Trace]:
    """Step through every episode of a recorded run.

    Args:
        run: the bag.
        contract: instead of the recorded one, of the same robot.
        policy: asked anew; None: the recorded answers are taken.
        latency: of the policy, observation to answer [s].

    Raises `ContractError` when the policy does not fit, `DataError` when an episode has no answers or the
    robot is another.
    """
    contract = contract or run.contract
    if contract.robot.name != run.contract.robot.name:
        raise DataError(
            f"{run.path} was recorded with robot '{run.contract.robot.name}', "
            f"but the contract of {contract.source} says '{contract.robot.name}'."
        )
    if policy is not None:
        preflight(contract, policy.requirements)
    if not run.episodes:
        raise DataError(f"{run.path} holds no episode: nothing on /vla/episode_status runs.")
    controller = SafetyController(without_forces(contract), 1.0 / contract.control_rate)
    kinematics = Kinematics(contract.robot)
    for stretch in run.episodes:
        yield _Episode(run, contract, stretch, controller, kinematics, policy, latency).trace()


class _Episode:
    def __init__(
        self, run: RecordedRun, contract: Contract, stretch: Stretch, controller: SafetyController,
        kinematics: Kinematics, policy: Policy | None, latency: float,
    ) -> None:  # fmt: skip
        self._run, self._contract, self._stretch = run, contract, stretch
        self._controller, self._policy = controller, policy
        self._latency = round(latency * NANOSECONDS)
        robot = contract.robot
        rate = robot.driver.joint_state_rate
        self._joints = JointBuffer(tolerance=max(0.05, 2.0 / rate))
        self._grips = JointBuffer(tolerance=GRIPPER_MAX_AGE)
        names = sorted(contract.cameras, key=lambda name: name != "primary")
        period = 1.0 / min((camera.rate for camera in contract.cameras.values()), default=1.0)
        self._pairer = Pairer(names or ["primary"], period, self._joints, kinematics.forward)
        self._screens = {name: FrameScreen(camera, FrameRules()) for name, camera in contract.cameras.items()}
        self._authority = Authority()
        self._gripper = GripperMemory(contract.action_space.gripper, robot.gripper)
        self._waiting: list[Answer] = []
        self._due = 0
        answers = [a for a in run.answers if stretch.start <= a.output.stamp <= stretch.end]
        if not answers:
            raise DataError(f"{run.path}, episode '{stretch.episode_id}' holds no answers of a policy.")
        self._answers = answers if policy is None else []
        first = min(a.output.stamp for a in answers)
        last = max(a.output.stamp for a in answers)
        horizon = max(1 if a.output.values is None else len(a.output.values) for a in answers)
        self._start = first - round(LEAD_IN * NANOSECONDS)
        self._end = last + round((horizon * contract.action_space.period + RUN_OUT) * NANOSECONDS)
        if run.joints:
            # behind the end of a bag nobody can say what the robot did
            self._end = min(self._end, run.joints[-1].stamp)
        self._trace = Trace(stretch.episode_id, stretch.instruction, self._start)

    def trace(self) -> Trace:
        """Go through the episode."""
        run, controller = self._run, self._controller
        period = round(NANOSECONDS / self._contract.control_rate)
        if self._policy is not None:
            self._policy.reset(self._stretch.instruction)
        begun = False
        events = self._events()
        event = next(events, None)
        measured: JointState | None = None
        came: list[JointState] = []
        for number in range((self._end - self._start) // period + 1):
            now = self._start + number * period
            time = number / self._contract.control_rate
            while event is not None and event[0] <= now:
                at, kind, what = event
                if kind == "joints":
                    self._joints.add(what)
                    measured = what
                    came.append(what)
                elif kind == "grip":
                    self._grips.add(JointState(at, np.array([what]), np.zeros(0), np.zeros(0)))
                elif kind == "frame":
                    self._frame(*what)
                elif kind == "authority":
                    self._authority.announce(Source(what[0]), at, what[1])
                else:
                    self._waiting.append(what)
                event = next(events, None)
            if measured is None:
                continue
            if not begun:
                width = self._width(now)
                opened = self._contract.robot.gripper.max_width
                controller.activate(measured, opened if width is None else width, time)
                begun = True
            self._take_answers(time, now)
            if came:
                controller.observe(came)
                came = []
            tick = controller.update(time, now, measured, (now - measured.stamp) / NANOSECONDS)
            self._keep(now, tick)
        if not begun:
            raise DataError(f"{run.path}, episode '{self._stretch.episode_id}' holds no joint states.")
        return self._trace

    def _events(self) -> Iterator[tuple[int, str, Any]]:
        """Everything that comes, in the order of its coming; what comes at once in this order."""
        run = self._run
        before = self._start - round(0.5 * NANOSECONDS)
        everything: list[tuple[int, int, str, object]] = []

        def add(order: int, kind: str, items: list[tuple[int, object]]) -> None:
            everything.extend((at, order, kind, what) for at, what in items if before <= at <= self._end)

        add(0, "joints", [(state.stamp, state) for state in run.joints])
        add(1, "grip", [(stamp, width) for stamp, width in run.grips])
        for stamp, source, device in run.authority:
            everything.append((max(stamp, before), 2, "authority", (source, device)))
        for name, camera in self._contract.cameras.items():
            topic, places = image_topic(run.index, camera.topic)
            if topic:
                add(3, "frame", [(stamp, (name, topic, stamp)) for stamp in places])
        add(4, "answer", [(answer.published, answer) for answer in self._answers])
        everything.sort(key=lambda item: item[:2])
        return iter([(at, kind, what) for at, _, kind, what in everything])

    def _frame(self, name: str, topic: str, stamp: int) -> None:
        """A frame has come: its pixels are read only where a policy is to see them."""
        rgb: Image = _UNSEEN
        if self._policy is not None:
            frame = CameraImage(stamp, self._frames(topic, stamp).image(0))
            newest = self._joints.newest
            verdict = self._screens[name].judge(frame, stamp, newest.positions if newest else None)
            if verdict is not None:
                self._trace.refused.append(verdict[1])
                return
            rgb = self._sized(name, frame.rgb)
        observation, given_up = self._pairer.add(name, CameraImage(stamp, rgb), self._width(stamp))
        if given_up is not None:
            self._trace.refused.append(f"A frame of {topic} was given up: {given_up.value}.")
        if observation is None or not self._stretch.start <= observation.stamp <= self._stretch.end:
            return
        row = np.append(observation.joints.positions, observation.gripper_width)
        self._trace.observations.append((observation.stamp - self._start, row))
        if self._policy is not None and observation.stamp >= self._due:
            self._ask(self._policy, observation)

    def _frames(self, topic: str, stamp: int) -> Frames:
        return self._run.index.frames(topic, [stamp], f"{self._run.path}, topic {topic}")

    def _sized(self, name: str, rgb: Image) -> Image:
        """By area to what the policy asks for, as the ingester does."""
        if self._policy is None:
            return rgb
        need = next((need for need in self._policy.requirements.cameras if need.name == name), None)
        if need is None or not need.width or not need.height:
            return rgb
        import cv2

        sized = cv2.resize(rgb, (need.width, need.height), interpolation=cv2.INTER_AREA)
        return np.asarray(sized, np.uint8)

    def _ask(self, policy: Policy, observation: Observation) -> None:
        rate = policy.requirements.rate
        self._due = max(self._due + round(NANOSECONDS / rate), observation.stamp)
        text = self._stretch.instruction
        output = policy.infer(replace(observation, instruction=text))
        arrives = observation.stamp + self._latency
        self._waiting.append(Answer(output, arrives, self._contract.policy, text))

    def _take_answers(self, time: float, now: int) -> None:
        ready = [answer for answer in self._waiting if answer.published <= now]
        self._waiting = [answer for answer in self._waiting if answer.published > now]
        for answer in ready:
            output = answer.output
            if output.values is None and output.tokens is None:
                continue
            said: Array = np.asarray(output.values if output.tokens is None else output.tokens, float)
            self._trace.outputs.append((output.stamp - self._start, said))
            if not self._authority.allows(output.source, output.stamp):
                continue
            try:
                chunk = self._decoded(output)
            except ActionError as error:
                self._trace.refused.append(f"Output {output.sequence} was refused: {error}.")
                continue
            self._trace.chunks.append((chunk.stamp - self._start, chunk_rows(chunk)))
            _, sentence = self._controller.submit(chunk, time, now)
            if sentence:
                self._trace.refused.append(sentence)

    def _decoded(self, output: PolicyOutput) -> ActionChunk:
        contract = self._contract
        scaling = (None, None) if output.source is Source.PERSON else policy_scaling(contract)
        before = self._gripper.at(output.stamp)
        chunk = decode(output, contract.action_space, contract.robot.gripper, *scaling, before)
        self._gripper.remember(chunk)
        return chunk

    def _width(self, stamp: int) -> float | None:
        state = self._grips.at(stamp)
        return None if state is None else float(state.positions[0])

    def _keep(self, now: int, tick: Tick) -> None:
        trace, setpoint = self._trace, tick.setpoint
        trace.ticks.append(now - self._start)
        trace.positions.append(setpoint.positions)
        trace.velocities.append(setpoint.velocities)
        trace.accelerations.append(setpoint.accelerations)
        trace.widths.append(setpoint.gripper_width)
        trace.states.append(int(tick.state))
        trace.sequences.append(self._controller.executor.sequence)
        for item in tick.interventions:
            key = f"{item.action.name} {item.reason.value} {item.subject}".strip()
            trace.interventions[key] = trace.interventions.get(key, 0) + 1


def image_topic(index: BagIndex, topic: str) -> tuple[str, list[int]]:
    """The topic under which a camera's images lie, as recorded or encoded, and their stamps [ns]."""
    for name in (topic, f"{topic}/compressed", f"{topic}/h264"):
        if name in index.images:
            return name, [place.stamp for place in index.images[name].places]
    return "", []


def chunk_rows(chunk: ActionChunk) -> Array:
    """A chunk as numbers, a row a step: pose (7) or joints (n), then the opening [m]."""
    if chunk.joints is not None:
        body: Array = chunk.joints
    elif chunk.translation is not None and chunk.quaternion is not None:
        body = np.hstack([chunk.translation, chunk.quaternion])
    else:
        raise ActionError(f"chunk {chunk.sequence} holds neither poses nor joints")
    return np.hstack([body, chunk.gripper_width[:, None]])
