"""The one interface every policy is behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from vla_ros.actions.normalization import Normalization
from vla_ros.actions.tokens import TokenCodec
from vla_ros.types import ActionKind, Array, Observation, PolicyOutput


@dataclass(frozen=True)
class CameraNeed:
    """A camera a policy asks for.

    The ingester resizes to (width, height) by area when they are given: a policy whose training resized in
    another way leaves them out and resizes by itself.
    """

    name: str
    width: int | None = None
    height: int | None = None
    required: bool = True


@dataclass(frozen=True)
class MachineNeed:
    """What loading and running a policy takes."""

    memory: int = 0
    """Bytes of memory on `device` for weights and working space, as far as known before loading."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`: a GPU where there is one."""
    on_cpu: int = 0
    """Bytes of memory without a GPU, where weights are wider there than on one; 0: as `memory`."""


@dataclass(frozen=True)
class PolicyRequirements:
    """What a policy declares before anything is loaded; preflight compares it with robot and contract."""

    action_space: str
    rate: float
    """Outputs per second the policy is meant for [Hz]."""
    horizon: int
    cameras: tuple[CameraNeed, ...] = ()
    observation_window: int = 1
    robots: tuple[str, ...] = field(default_factory=tuple)
    """Robots it is meant for; empty: any."""
    normalization: Normalization | None = None
    """How the values or tokens it answers are scaled; None: they are physical."""
    codec: TokenCodec | None = None
    """Of the tokens it answers; None: it answers values."""
    machine: MachineNeed = MachineNeed()
    action_rate: float | None = None
    """Steps per second of the data it was trained on [Hz]; None: it answers at whatever rate it is asked."""


@runtime_checkable
class Policy(Protocol):
    """Load, warm up, infer, reset."""

    @property
    def requirements(self) -> PolicyRequirements:
        """Known without loading weights."""
        ...

    def load(self) -> None:
        """Load weights and warm up.  Raises `PolicyError`."""
        ...

    def reset(self, instruction: str) -> None:
        """Start a new episode.  Raises `InstructionError` when the instruction cannot be understood."""
        ...

    def infer(self, observation: Observation) -> PolicyOutput:
        """Answer one observation.  Raises `PolicyError` or `InstructionError`; never moves anything."""
        ...


@runtime_checkable
class GrammarPolicy(Policy, Protocol):
    """A policy that understands instructions of a certain form only, and knows that before it is loaded."""

    @property
    def grammar(self) -> str:
        """What it understands: the rest of a sentence that begins with "understands"."""
        ...

    def check_instruction(self, instruction: str) -> None:
        """Raise `InstructionError`, with what is understood, where `instruction` is not.  Loads nothing."""
        ...


@dataclass(frozen=True)
class ActionPrefix:
    """Steps that the robot will execute whatever the policy answers, as absolute targets."""

    kind: ActionKind
    """`CARTESIAN_ABSOLUTE` or `JOINT_POSITION`."""
    after: Array
    """(k,) seconds after the observation at which they are due, increasing."""
    targets: Array
    """(k, 7) position [m] and quaternion in the base frame, or (k, n) joint positions [rad]."""
    gripper_width: Array
    """(k,) opening [m]."""


@runtime_checkable
class PrefixPolicy(Policy, Protocol):
    """A policy whose next chunk can be conditioned on the steps already committed (real-time chunking)."""

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        """Like `infer`, with an answer that goes on from `prefix`."""
        ...
