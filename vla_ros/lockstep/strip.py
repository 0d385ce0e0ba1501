"""Ingester and chunker of a bag gone through again: recorded inputs in, observations and chunks out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.contract import Contract
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.frames import Frames
from vla_ros.errors import ActionError
from vla_ros.execution.authority import Authority
from vla_ros.ingest import FrameRules, FrameScreen, JointBuffer, Pairer
from vla_ros.lockstep.recorded import Answer, RecordedRun, Stretch
from vla_ros.lockstep.trace import Trace, chunk_rows
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

BEFORE = 0.5
"""Seconds before the first tick from which on what was recorded is taken in."""
GRIPPER_MAX_AGE = 1.0
"""Seconds a measured gripper opening stays good, as in the ingester."""
_UNSEEN: Image = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class Window:
    """What of a run one trace is about."""

    trace: Trace
    stretch: Stretch
    end: int
    """[ns]; the trace's `start` is its beginning."""

    def holds(self, now: int) -> bool:
        """Whether a tick at `now` [ns] belongs to it."""
        return self.trace.start <= now <= self.end


class Strip:
    """Told the time, gives the chunks of the answers that have come: recorded ones, or a policy's."""

    def __init__(
        self, run: RecordedRun, contract: Contract, windows: Sequence[Window], begin: int, end: int,
        answers: Sequence[Answer], policy: Policy | None, latency: float,
        joint_state: Callable[[JointState], None],
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            run: the bag.
            contract: instead of the recorded one, of the same robot.
            windows: what outputs, observations and refusals belong to, by their stamps.
            begin: of the ticks [ns].
            end: of what comes in [ns].
            answers: recorded ones to take; none where a policy is asked.
            policy: asked anew; None: nobody is.
            latency: of the policy, observation to answer [s].
            joint_state: told of every joint state, at its stamp.
        """
        self._run, self._contract, self._windows = run, contract, windows
        self._answers = answers
        self._policy, self._latency = policy, round(latency * NANOSECONDS)
        self._joint_state = joint_state
        robot = contract.robot
        rate = robot.driver.joint_state_rate
        self._joints = JointBuffer(tolerance=max(0.05, 2.0 / rate))
        self._grips = JointBuffer(tolerance=GRIPPER_MAX_AGE)
        names = sorted(contract.cameras, key=lambda name: name != "primary")
        period = 1.0 / min((camera.rate for camera in contract.cameras.values()), default=1.0)
        self._pairer = Pairer(names or ["primary"], period, self._joints, Kinematics(robot).forward)
        self._screens = {name: FrameScreen(camera, FrameRules()) for name, camera in contract.cameras.items()}
        self._authority = Authority()
        self._gripper = GripperMemory(contract.action_space.gripper, robot.gripper)
        self._waiting: list[Answer] = []
        self._due = 0
        self._instructed: Stretch | None = None
        self._now = begin
        self._events = self._everything(begin, end)
        self._event = next(self._events, None)

    def until(self, now: int) -> list[ActionChunk]:
        """Take in all that has come until `now` [ns]; the chunks of the answers that have."""
        self._now = now
        while self._event is not None and self._event[0] <= now:
            at, kind, what = self._event
            if kind == "joints":
                self._joints.add(what)
                self._joint_state(what)
            elif kind == "grip":
                self._grips.add(JointState(at, np.array([what]), np.zeros(0), np.zeros(0)))
            elif kind == "frame":
                self._frame(*what)
            elif kind == "authority":
                self._authority.announce(Source(what[0]), at, what[1])
            else:
                self._waiting.append(what)
            self._event = next(self._events, None)
        ready = [answer for answer in self._waiting if answer.published <= now]
        self._waiting = [answer for answer in self._waiting if answer.published > now]
        return [chunk for answer in ready if (chunk := self._chunk(answer.output)) is not None]

    def width(self, stamp: int) -> float | None:
        """Measured opening [m] at a stamp [ns]."""
        state = self._grips.at(stamp)
        return None if state is None else float(state.positions[0])

    def refused(self, sentence: str) -> None:
        """Keep why something was not used."""
        for window in self._windows:
            if window.holds(self._now):
                window.trace.refused.append(sentence)

    def _everything(self, begin: int, end: int) -> Iterator[tuple[int, str, Any]]:
        """Everything that comes, in the order of its coming; what comes at once in this order."""
        run = self._run
        before = begin - round(BEFORE * NANOSECONDS)
        everything: list[tuple[int, int, str, object]] = []

        def add(order: int, kind: str, items: list[tuple[int, object]]) -> None:
            everything.extend((at, order, kind, what) for at, what in items if before <= at <= end)

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

    def _of(self, stamp: int) -> list[Window]:
        return [w for w in self._windows if w.stretch.start <= stamp <= w.stretch.end]

    def _frame(self, name: str, topic: str, stamp: int) -> None:
        """A frame has come: its pixels are read only where a policy is to see them."""
        rgb: Image = _UNSEEN
        if self._policy is not None:
            frame = CameraImage(stamp, self._frames(topic, stamp).image(0))
            newest = self._joints.newest
            verdict = self._screens[name].judge(frame, stamp, newest.positions if newest else None)
            if verdict is not None:
                self.refused(verdict[1])
                return
            rgb = self._sized(name, frame.rgb)
        observation, given_up = self._pairer.add(name, CameraImage(stamp, rgb), self.width(stamp))
        if given_up is not None:
            self.refused(f"A frame of {topic} was given up: {given_up.value}.")
        if observation is None:
            return
        windows = self._of(observation.stamp)
        row = np.append(observation.joints.positions, observation.gripper_width)
        for window in windows:
            window.trace.observations.append((observation.stamp - window.trace.start, row))
        if self._policy is not None and windows and observation.stamp >= self._due:
            self._ask(self._policy, observation, windows[0].stretch)

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

    def _ask(self, policy: Policy, observation: Observation, stretch: Stretch) -> None:
        if stretch is not self._instructed:
            self._instructed = stretch
            policy.reset(stretch.instruction)
        rate = policy.requirements.rate
        self._due = max(self._due + round(NANOSECONDS / rate), observation.stamp)
        output = policy.infer(replace(observation, instruction=stretch.instruction))
        arrives = observation.stamp + self._latency
        self._waiting.append(Answer(output, arrives, self._contract.policy, stretch.instruction))

    def _chunk(self, output: PolicyOutput) -> ActionChunk | None:
        if output.values is None and output.tokens is None:
            return None
        given: Array = np.asarray(output.values if output.tokens is None else output.tokens, float)
        windows = self._of(output.stamp)
        for window in windows:
            window.trace.outputs.append((output.stamp - window.trace.start, given))
        if not self._authority.allows(output.source, output.stamp):
            return None
        try:
            chunk = self._decoded(output)
        except ActionError as error:
            self.refused(f"Output {output.sequence} was refused: {error}.")
            return None
        for window in windows:
            window.trace.chunks.append((chunk.stamp - window.trace.start, chunk_rows(chunk)))
        return chunk

    def _decoded(self, output: PolicyOutput) -> ActionChunk:
        contract = self._contract
        scaling = (None, None) if output.source is Source.PERSON else policy_scaling(contract)
        before = self._gripper.at(output.stamp)
        chunk = decode(output, contract.action_space, contract.robot.gripper, *scaling, before)
        self._gripper.remember(chunk)
        return chunk


def image_topic(index: BagIndex, topic: str) -> tuple[str, list[int]]:
    """The topic under which a camera's images lie, as recorded or encoded, and their stamps [ns]."""
    for name in (topic, f"{topic}/compressed", f"{topic}/h264"):
        if name in index.images:
            return name, [place.stamp for place in index.images[name].places]
    return "", []
