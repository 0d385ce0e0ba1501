"""Ingester, chunker and safety controller on the simulated robot's line, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from vla_ros.actions.decode import decode
from vla_ros.actions.gripper import GripperMemory, GripperState
from vla_ros.contract import Contract
from vla_ros.control.controller import SafetyController, Tick
from vla_ros.ingest import JointBuffer, Pairer, gripper_width_of
from vla_ros.lockstep.bag_log import BagLog
from vla_ros.policies.registry import policy_scaling
from vla_ros.robots.kinematics import Kinematics
from vla_ros.sim.realtime import Sample
from vla_ros.sim.reports import gripper_report
from vla_ros.types import (
    NANOSECONDS,
    ActionChunk,
    Array,
    CameraImage,
    Intervention,
    JointState,
    Observation,
    PolicyOutput,
    Pose,
    SafetyState,
    Source,
)

STATUS_PERIOD = 50_000_000
"""Between two safety statuses [ns]."""
GRIPPER_MAX_AGE = 1.0
"""Seconds a measured gripper opening stays good, as in the ingester."""
_LATCHED = (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)
Key = tuple[int, str, str]


class Line:
    """Fed with what the robot reports and a source answers; ticked at the controller's rate."""

    def __init__(self, contract: Contract, log: BagLog | None) -> None:
        """Raises what `SafetyController` and `policy_scaling` raise."""
        self._contract, self._robot, self._log = contract, contract.robot, log
        self.controller = SafetyController(contract, 1.0 / contract.control_rate)
        self._kinematics = Kinematics(contract.robot)
        self._buffer, self._grips = JointBuffer(), JointBuffer(tolerance=GRIPPER_MAX_AGE)
        names = sorted(contract.cameras, key=lambda name: name != "primary")
        period = 1.0 / min((camera.rate for camera in contract.cameras.values()), default=1.0)
        self._pairer = Pairer(names or ["primary"], period, self._buffer, self._kinematics.forward)
        self._gripper = GripperMemory(contract.action_space.gripper, contract.robot.gripper)
        self._chunks: list[ActionChunk] = []
        self._now = 0
        self._time: float | None = None
        if log is not None:
            self.controller.journal = self._tell
        self._measured: JointState | None = None
        self._told = 0
        self._worst: dict[Key, Intervention] = {}
        self._present: set[Key] = set()
        self.observation: Observation | None = None
        """The newest."""
        self.interventions = 0
        """One that lasts for many ticks counts once."""
        self.sentences: list[str] = []
        """Why chunks were refused."""

    # ---- in

    def joints(self, sample: Sample, gripper: bool) -> None:
        """What the robot reports; `gripper`: whether its gripper does so too."""
        scale = self._robot.contact.torque_per_effort
        efforts = sample.efforts if scale is None else sample.efforts / scale
        state = JointState(sample.stamp, sample.positions, sample.velocities, efforts)
        self._measured = state
        self._buffer.add(state)
        self.controller.observe([state])
        self.controller.feel(sample.wrench[:3], self._time or 0.0)
        if gripper:
            _, (positions, speeds, forces) = gripper_report(self._robot, sample)
            self._grips.add(JointState(sample.stamp, positions, speeds, forces))

    def _width(self, stamp: int) -> float | None:
        state = self._grips.at(stamp)
        return None if state is None else gripper_width_of(float(state.positions[0]), self._robot)

    def frame(self, name: str, frame: CameraImage, now: int) -> None:
        """One image of a camera."""
        observation, _ = self._pairer.add(name, frame, self._width(frame.stamp))
        if observation is not None:
            self.observation = observation
            if self._log is not None:
                self._log.observation(observation, now)

    def output(self, output: PolicyOutput, now: int) -> None:
        """An answer to the newest observation, or a person's action.  Raises `ActionError`."""
        scaling = (None, None) if output.source is Source.PERSON else policy_scaling(self._contract)
        before = self._gripper.at(output.stamp)
        chunk = decode(output, self._contract.action_space, self._robot.gripper, *scaling, before)
        self._gripper.remember(chunk)
        self._chunks.append(chunk)
        if self._log is not None:
            self._log.chunk(chunk, now, now)

    # ---- out

    def tick(self, now: int) -> Tick:
        """One tick of the controller at `now` [ns]."""
        self._now = now
        if self._time is not None:
            # summed up as the live loop does, so that who goes through the bag does the same sums
            self._time += 1.0 / self._contract.control_rate
        elif self._measured is not None:
            self._time = 0.0
            width = self._width(now)
            opened = self._robot.gripper.max_width
            self.controller.activate(self._measured, opened if width is None else width, 0.0)
        time = self._time or 0.0
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            _, sentence = self.controller.submit(chunk, time, now)
            if sentence:
                self.sentences.append(sentence)
        stamp = now if self._measured is None else self._measured.stamp
        tick = self.controller.update(time, now, self._measured, (now - stamp) / NANOSECONDS)
        self._collect(tick)
        if self._log is not None:
            self._log.setpoint(tick, self.controller.executor.sequence)
            if now - self._told >= STATUS_PERIOD:
                self._told = now
                self._log.status(now, self._status(tick))
        self._tick = tick
        return tick

    def _tell(self, event: str, values: dict[str, Any]) -> None:
        if self._log is not None:
            given = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
            line = {"event": event, "tick": self.controller.tick, **given}
            self._log.control_event(self._now, json.dumps(line))

    def _collect(self, tick: Tick) -> None:
        keys = set()
        for item in tick.interventions:
            key = (int(item.action), item.reason.value, item.subject)
            keys.add(key)
            known = self._worst.get(key)
            if known is None or abs(item.amount) > abs(known.amount):
                self._worst[key] = item
        self.interventions += len(keys - self._present)
        self._present = keys

    def _status(self, tick: Tick) -> dict[str, Any]:
        """Fields of vla_ros/SafetyStatus; there is no loop here whose timing could be told."""
        controller, worst = self.controller, self._worst
        self._worst = {}
        executor = controller.executor
        reference, measured = self._kinematics.forward(tick.setpoint.positions), self.measured()
        return {
            "state": int(controller.state), "message": controller.message,
            "interventions": [
                {"action": int(item.action), "reason": item.reason.value, "subject": item.subject,
                 "amount": float(item.amount)} for item in worst.values()
            ],
            "intervention_count": self.interventions, "moving": controller.moving, "tick": controller.tick,
            "rate": self._contract.control_rate, "chunk_delay": executor.delay,
            "chunk_sequence": executor.sequence, "observation_stamp": executor.stamp,
            "reference_pose": reference, "measured_pose": measured,
            "gripper_width": tick.setpoint.gripper_width, "chunk_delay_first": executor.delays.first,
            "chunk_delay_p50": executor.delays.p50, "chunk_delay_p95": executor.delays.p95,
            "driver": controller.supervision.driver,
        }  # fmt: skip

    # ---- what a source is told

    def measured(self) -> Pose:
        """Measured pose of the tool."""
        return self._kinematics.forward(
            self._robot.home if self._measured is None else self._measured.positions
        )

    def target(self) -> Pose:
        """What a delta that came now would be added to."""
        pose = self.controller.executor.commanded
        return Pose(pose[:3].copy(), pose[3:] / np.linalg.norm(pose[3:]))

    def gripper(self, stamp: int) -> GripperState | None:
        """Where the gripper was told to be at `stamp` [ns]; None: nowhere yet."""
        return self._gripper.at(stamp)

    def commanded(self) -> Array:
        """(n,) joint positions of the last tick [rad]."""
        return self._tick.setpoint.positions

    @property
    def latched(self) -> str:
        """Why the controller has stopped for good; empty: it has not."""
        controller = self.controller
        return controller.message or "stopped" if controller.state in _LATCHED else ""
