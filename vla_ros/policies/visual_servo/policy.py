"""Closed loop on images without learned weights."""

from __future__ import annotations

import time

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.instruction import UNDERSTOOD, Verb, parse_instruction
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.policies.visual_servo.camera import FrameLookup, view_of
from vla_ros.policies.visual_servo.detection import detect
from vla_ros.policies.visual_servo.grasping import GraspTask
from vla_ros.policies.visual_servo.motion import (
    Pace,
    Plan,
    Schedule,
    deltas,
    make_plan,
    observed,
    single_step,
)
from vla_ros.policies.visual_servo.pushing import PushTask
from vla_ros.policies.visual_servo.situation import Body, Command, Situation
from vla_ros.policies.visual_servo.tool import tool_of
from vla_ros.policies.visual_servo.tracking import Tracker
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, Observation, PolicyOutput, Pose

ACTION_SPACES = ("delta_tcp", "bridge")
"""Spaces of base-frame deltas with an absolute gripper that is open at 1."""
INFERENCE_RATE = 5.0
"""Answers per second [Hz]; of single steps as many as the action rate."""
_LONGEST = 0.5
"""A single step covers what the pace allows between two observations, but no more than for this long [s]."""


class VisualServoPolicy:
    """Picks, places, stacks and pushes coloured blocks from calibrated camera images alone.

    Answers chunks of base-frame deltas of the tool centre point, planned from the pose measured at the
    observation's stamp: step k is meant for `stamp + (k + 1) / rate`.  With a horizon of 1 it answers as
    OpenVLA does: the step from the measured pose towards the goal, without a plan and without any notion of
    latency.
    """

    def __init__(
        self,
        robot: RobotSpec,
        action_space: str = "delta_tcp",
        rate: float = 5.0,
        horizon: int = 8,
        latency: float = 0.4,
        frame: FrameLookup | None = None,
    ) -> None:
        """`rate` is that of the steps [Hz].  Answers may be `latency` [s] late without disturbing the motion;
        so much later it reacts; a single step (`horizon` 1) makes no use of it.  `frame` is the kinematics of
        any URDF frame, the robot's by default.

        Raises `PolicyError` for another action space or a number out of range.
        """
        if action_space not in ACTION_SPACES:
            raise PolicyError(
                f"visual_servo answers in action space {' or '.join(ACTION_SPACES)}, "
                f"but '{action_space}' is asked for."
            )
        if not 2.0 <= rate <= 20.0:
            raise PolicyError(
                f"visual_servo answers steps at 2 to 20 Hz, but the action rate is {rate:g} Hz."
            )
        if not 1 <= horizon <= 20:
            raise PolicyError(f"visual_servo answers 1 to 20 steps a chunk, but horizon is {horizon}.")
        if horizon > 1 and not 0.0 <= latency <= (horizon - 1) / rate:
            raise PolicyError(
                f"The latency allowed for is {latency:g} s, but chunks of {horizon / rate:g} s leave room "
                f"for 0 to {(horizon - 1) / rate:g} s."
            )
        self._robot = robot
        self._horizon = horizon
        self._action_space = action_space
        self._period = 1.0 / rate
        self._committed = int(np.ceil(latency * rate - 1e-9))
        self._plan: Plan | None = None
        self._frame = frame
        self._body: Body | None = None
        self._task: GraspTask | PushTask | None = None
        self._tracker = Tracker()
        self._last: tuple[int, Array] | None = None
        self._instruction = ""

    @property
    def requirements(self) -> PolicyRequirements:
        """All calibrated cameras of the robot are used; at least one is needed."""
        cameras = tuple(CameraNeed(name, required=i == 0) for i, name in enumerate(self._robot.cameras))
        rate = INFERENCE_RATE if self._horizon > 1 else 1.0 / self._period
        return PolicyRequirements(self._action_space, rate, self._horizon, cameras)

    @property
    def grammar(self) -> str:
        """See `GrammarPolicy`."""
        return f"instructions in English of the form {UNDERSTOOD}"

    def check_instruction(self, instruction: str) -> None:
        """See `GrammarPolicy`."""
        parse_instruction(instruction)

    def load(self) -> None:
        """Read the robot's geometry.  Raises `PolicyError` when it has no camera."""
        if not self._robot.cameras:
            raise PolicyError(
                f"visual_servo needs a calibrated camera, but robot '{self._robot.name}' has none."
            )
        if self._frame is None:
            self._frame = Kinematics(self._robot).forward_frame
        self._body = Body(tool_of(self._robot, self._frame), self._robot.gripper, self._robot.workspace)

    def reset(self, instruction: str) -> None:
        """Begin anew with an instruction.  Raises `InstructionError` when it is not understood."""
        parsed = parse_instruction(instruction)
        if self._body is None:
            self.load()
        if self._body is None:
            raise PolicyError("visual_servo has not been loaded.")
        task = PushTask if parsed.verb is Verb.PUSH else GraspTask
        self._task = task(self._body, parsed)
        self._tracker = Tracker()
        self._last = None
        self._plan = None
        self._instruction = instruction

    def infer(self, observation: Observation) -> PolicyOutput:
        """Look, decide, answer a chunk.

        Raises `InstructionError` when what the instruction names is not in sight (after a while of looking),
        `PolicyError` when it is out of reach, `ObservationError` when no image is of the robot's cameras.
        """
        if observation.instruction and observation.instruction != self._instruction:
            self.reset(observation.instruction)
        if self._task is None or self._body is None:
            raise InstructionError("No instruction has been given yet.")
        begin = time.perf_counter()
        since = self._since_the_last(observation)
        self._look(observation)
        looked = time.perf_counter()
        tool = self._body.tool
        measured = observation.tcp_pose
        pose = Pose(measured.position, rotations.normalize(measured.quaternion))
        now = Situation(
            observation.stamp, pose, tool.yaw_of(pose.quaternion), observation.gripper_width, self._tracker
        )
        command = self._task.update(now)
        pace = Pace.of(self._robot)
        if self._horizon == 1:
            steps = single_step(pose, command.goal, pace, max(self._period, min(since, _LONGEST)))
        else:
            start = observation.stamp / NANOSECONDS
            schedule = Schedule(start, self._period, self._horizon, self._committed)
            begun = observed(pose, self._plan, start)
            self._plan = make_plan(begun, command.goal, pace, schedule, self._plan)
            steps = deltas(self._plan, schedule)
        values = np.column_stack([steps, np.full(self._horizon, command.gripper)])
        planned = time.perf_counter()
        return PolicyOutput(
            stamp=observation.stamp,
            sequence=observation.sequence,
            action_space=self._action_space,
            values=values,
            latency={"detect": looked - begin, "plan": planned - looked},
            terminate=command.done,
            text=self._describe(command, observation),
        )

    def _since_the_last(self, observation: Observation) -> float:
        """Seconds from the last observation to this one; 0 at the first."""
        return 0.0 if self._last is None else (observation.stamp - self._last[0]) / NANOSECONDS

    def _look(self, observation: Observation) -> None:
        """Detect in every image at hand and hand it to the tracker."""
        if self._frame is None:
            raise PolicyError("visual_servo has not been loaded.")
        used = 0
        for name, camera in self._robot.cameras.items():
            image = observation.images.get(name)
            if image is None:
                continue
            used += 1
            size = (image.rgb.shape[1], image.rgb.shape[0])
            view = view_of(camera, observation.joints, self._frame, self._robot.base_frame, size)
            moving = camera.parent_frame != self._robot.base_frame
            yaws = {estimate.key: estimate.yaw for estimate in self._tracker.confirmed()}
            speed = self._speed(observation) if moving else 0.0
            self._tracker.update(detect(view, image.rgb, yaws), image.stamp, speed)
        self._last = (observation.stamp, observation.tcp_pose.position)
        if not used:
            raise ObservationError(
                f"The observation has images of {', '.join(observation.images) or 'no camera'}, "
                f"but visual_servo needs one of {', '.join(self._robot.cameras)}."
            )

    def _speed(self, observation: Observation) -> float:
        """Speed of the tool since the last observation [m/s]."""
        if self._last is None or observation.stamp <= self._last[0]:
            return 0.0
        way = float(np.linalg.norm(observation.tcp_pose.position - self._last[1]))
        return way * NANOSECONDS / (observation.stamp - self._last[0])

    def _describe(self, command: Command, observation: Observation) -> str:
        seen = []
        for e in self._tracker.confirmed():
            age = e.age(observation.stamp)
            seen.append(f"{e.name} ({e.x:.3f}, {e.y:.3f}) m {np.degrees(e.yaw):.0f} deg {age:.1f} s ago")
        return f"{command.phase.value}: {'; '.join(seen) or 'nothing in sight'}"
