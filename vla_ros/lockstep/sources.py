"""Where the actions of a lockstep run come from: the scripted expert, a recording, a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.actions.encode import encode
from vla_ros.actions.gripper import GripperState
from vla_ros.contract import Contract
from vla_ros.errors import ActionError
from vla_ros.policies.base import Policy
from vla_ros.robots.kinematics import Kinematics, UnreachableError
from vla_ros.sim.expert import Plan, Variation, View, draw
from vla_ros.sim.world import World
from vla_ros.types import ActionKind, Array, Composition, Observation, PolicyOutput, Pose, Source


@dataclass(frozen=True)
class Moment:
    """What there is to decide on at one instant of the action grid."""

    stamp: int
    """[ns]"""
    step: int
    """From 0."""
    observation: Observation | None
    """The newest not later than the stamp; None before the first."""
    measured: Pose
    """Of the tool."""
    target: Pose
    """Where the tool was told to be: what deltas on the previous target are added to."""
    joints: Array
    """(n,) commanded joint positions [rad]."""
    width: float
    """Measured opening [m]."""
    gripper: GripperState | None
    """Where the gripper was told to be; None: nowhere yet."""


class ActionSource(Protocol):
    """Asked once a period; answers nothing when it has nothing more to say."""

    name: str
    """Goes into the outputs as the policy's name."""
    source: Source
    device: str
    """What a person would move the robot with; empty for a policy."""
    period: float
    """Between two questions [s]."""

    def begin(self, instruction: str) -> None:
        """A new episode.  Raises `InstructionError`."""
        ...

    def act(self, moment: Moment) -> PolicyOutput | None:
        """The answer; None: the source is at its end."""
        ...


class ExpertSource:
    """The scripted expert in place of a person: an action of the contract's space at its rate."""

    name, source, device = "scripted_expert", Source.PERSON, "scripted"

    def __init__(self, contract: Contract, world: World, seed: int, variation: Variation) -> None:
        """`seed` of the manner; the world's scene is solved as it is when `begin` is called."""
        self._space, self._gripper = contract.action_space, contract.robot.gripper
        self.period = self._space.period
        self._world, self._manner = world, draw(variation, seed)
        self._kinematics = Kinematics(contract.robot)

    @property
    def retries(self) -> int:
        """Tries after the first."""
        return self._plan.retries

    def begin(self, instruction: str) -> None:
        """Plan anew."""
        self._plan = Plan(self._world, self._manner, self.period, self._kinematics)
        self._joints: Array | None = None

    def act(self, moment: Moment) -> PolicyOutput | None:
        """The next step of the plan, as a person's action."""
        wish = self._plan.step(View(moment.measured, moment.target, moment.width))
        if wish is None:
            return None
        space = self._space
        base = moment.measured if space.composition is Composition.MEASURED else moment.target
        joints = None
        if space.kind is ActionKind.JOINT_POSITION:
            joints = self._joints = self._inverse(wish.pose, moment.joints)
        row = encode(
            space, self._gripper, wish.width, pose=wish.pose, base=base, joints=joints, before=moment.gripper
        )
        return PolicyOutput(moment.stamp, moment.step + 1, space.name, row[None], source=self.source)

    def _inverse(self, pose: Pose, commanded: Array) -> Array:
        start = commanded if self._joints is None else self._joints
        try:
            return self._kinematics.inverse(pose, start)
        except UnreachableError:
            return start


class RecordedSource:
    """Recorded actions, one a step, as they were given."""

    def __init__(
        self, contract: Contract, actions: Array, rate: float = 0.0, source: Source = Source.PERSON
    ) -> None:
        """`actions` (T, dimension) in the contract's action space; `rate` [Hz], 0: the action space's.

        Raises `ActionError` when they do not fit.
        """
        space = contract.action_space
        if actions.ndim != 2 or actions.shape[1] != space.dimension:
            raise ActionError(
                f"The recorded actions have shape {actions.shape}, but action space '{space.name}' needs "
                f"(steps, {space.dimension})."
            )
        self.name, self.source = "replay", source
        self.device = "replay" if source is Source.PERSON else ""
        self.period = 1.0 / rate if rate else space.period
        self._space, self._actions = space, actions

    def begin(self, instruction: str) -> None:
        """From the first step; `act` is told which."""

    def act(self, moment: Moment) -> PolicyOutput | None:
        """The recorded row."""
        if moment.step >= len(self._actions):
            return None
        values = np.asarray(self._actions[moment.step], dtype=float)[None]
        return PolicyOutput(moment.stamp, moment.step + 1, self._space.name, values, source=self.source)


class PolicySource:
    """A loaded policy, asked at its own rate with the newest observation; its answers take no time."""

    source, device = Source.POLICY, ""

    def __init__(self, name: str, policy: Policy) -> None:
        self.name, self._policy = name, policy
        self.period = 1.0 / policy.requirements.rate

    def begin(self, instruction: str) -> None:
        """Tell the policy.  Raises `InstructionError`."""
        self._policy.reset(instruction)
        self._terminated = False

    def act(self, moment: Moment) -> PolicyOutput | None:
        """Its answer; None once it has said that the task is over.  Raises `PolicyError`."""
        if self._terminated or moment.observation is None:
            return None
        output = self._policy.infer(moment.observation)
        self._terminated = output.terminate
        return output
