"""Octo as a policy: a window of frames and an instruction or goal image in, a normalised chunk out.

The networks run in an engine, torch's or ONNX Runtime's; nothing here depends on which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.base import ActionPrefix, PolicyRequirements
from vla_ros.policies.octo.config import OctoConfig
from vla_ros.policies.octo.engine import Engine, Floats, Tokens
from vla_ros.policies.octo.history import History
from vla_ros.policies.octo.language import Tokenizer
from vla_ros.policies.octo.prefix import guidance
from vla_ros.policies.octo.preprocess import prepare
from vla_ros.robots.spec import GripperSpec
from vla_ros.types import Image, Observation, PolicyOutput

PRIMARY = "primary"
"""The group of tokens whose images are cropped in the middle."""


@dataclass(frozen=True)
class Loaded:
    """What `OctoPolicy.load` needs to have loaded."""

    engine: Engine
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Setting:
    """How an Octo model is used on a robot."""

    config: OctoConfig
    requirements: PolicyRequirements
    space: ActionSpace
    gripper: GripperSpec
    cameras: Mapping[str, str]
    """The robot's camera for each group of image tokens that is there."""
    goals: Mapping[str, Image]
    """Goal images by group, as read; with any, the model is not shown the instruction."""
    window: int
    seed: int = 0


class OctoPolicy:
    """Samples a chunk for every observation; the same seed and observations give the same chunks."""

    def __init__(self, setting: Setting, load: Callable[[], Loaded]) -> None:
        """`load` makes the engine and the tokenizer; it may raise `PolicyError`."""
        self._setting = setting
        self._load = load
        self._loaded: Loaded | None = None
        self._history: History[dict[str, Tokens | None]] = History(setting.window, setting.space.period)
        self._goals: dict[str, Image] = {}
        self._instruction: Tokens = None
        self._random = np.random.default_rng(setting.seed)

    @property
    def requirements(self) -> PolicyRequirements:
        """As the checkpoint's configuration and statistics say."""
        return self._setting.requirements

    def load(self) -> None:
        """Read the weights and run once on black frames.  Raises `PolicyError`."""
        self._loaded = self._load()
        engine = self._loaded.engine
        self._goals = {
            name: prepare(image, engine.sizes[name], name == PRIMARY)
            for name, image in self._setting.goals.items()
        }
        self._encode("")
        frame = {
            name: engine.frame(name, np.zeros((*engine.sizes[name], 3), np.uint8), self._goals.get(name))
            for name in self._setting.cameras
        }
        self._act([frame] * self._setting.window, np.ones(self._setting.window, bool), None, {})
        self._instruction = None
        self._random = np.random.default_rng(self._setting.seed)

    def reset(self, instruction: str) -> None:
        """Forget the frames, begin the noise anew, encode the instruction once.

        Raises `InstructionError` when it is empty and there is no goal image, `PolicyError` before `load`.
        """
        if not instruction.strip() and not self._goals and self._setting.config.language is not None:
            raise InstructionError("The instruction is empty, and Octo was given no goal image either.")
        self._encode(instruction)
        self._history.clear()
        self._random = np.random.default_rng(self._setting.seed)

    def infer(self, observation: Observation) -> PolicyOutput:
        """A chunk of normalised actions (horizon, dimension).

        Raises `PolicyError` before `load` and `reset`, `ObservationError` without the primary image.
        """
        return self._answer(observation, None)

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        """The same, sampled so that it goes on from `prefix` (see `DiffusionHead.sample`)."""
        return self._answer(observation, prefix)

    def _answer(self, observation: Observation, prefix: ActionPrefix | None) -> PolicyOutput:
        if self._instruction is None:
            raise PolicyError("Octo was asked for an action before it was loaded and given an instruction.")
        setting = self._setting
        spent: dict[str, float] = {}
        begun = time.perf_counter()
        window, real = self._history.add(observation.stamp, self._frame(observation))
        spent["vision"] = time.perf_counter() - begun
        guided = None
        if prefix is not None:
            guided = guidance(
                prefix,
                observation.tcp_pose,
                setting.space,
                setting.gripper,
                setting.requirements.normalization,
                setting.requirements.horizon,
            )
        values = self._act(window, real, guided, spent)
        scaled = setting.requirements.normalization
        return PolicyOutput(
            stamp=observation.stamp,
            sequence=observation.sequence,
            action_space=setting.requirements.action_space,
            values=values.astype(float),
            normalization_key="" if scaled is None else scaled.key,
            latency=spent,
        )

    def _encode(self, instruction: str) -> None:
        """Have the instruction's tokens; with goal images they are there but masked, as in training."""
        loaded, config = self._ready(), self._setting.config
        tokens = config.instruction_tokens if config.language is not None else 0
        ids, mask = np.zeros((1, tokens), np.int64), np.zeros((1, tokens), np.int64)
        if loaded.tokenizer is not None:
            ids, mask = loaded.tokenizer("" if self._goals else instruction)
        self._instruction = loaded.engine.instruction(ids, mask, not self._goals)

    def _frame(self, observation: Observation) -> dict[str, Tokens | None]:
        """The tokens of every camera; None where there is no image."""
        engine = self._ready().engine
        found: dict[str, Tokens | None] = {}
        for name, camera in self._setting.cameras.items():
            image = observation.images.get(camera)
            if image is not None:
                prepared = prepare(image.rgb, engine.sizes[name], name == PRIMARY)
                found[name] = engine.frame(name, prepared, self._goals.get(name))
            elif name == next(iter(self._setting.cameras)):
                raise ObservationError(f"the observation has no image of camera '{camera}', which Octo needs")
            else:
                found[name] = None
        return found

    def _act(
        self,
        window: list[dict[str, Tokens | None]],
        real: NDArray[np.bool_],
        guided: tuple[Any, Any] | None,
        spent: dict[str, float],
    ) -> Floats:
        head = self._setting.config.head
        dimension = self._setting.space.dimension
        frames: dict[str, list[Tokens]] = {}
        masks: dict[str, NDArray[np.bool_]] = {}
        engine = self._ready().engine
        for name in self._setting.cameras:
            column = [frame[name] for frame in window]
            masks[name] = real & np.array([tokens is not None for tokens in column])
            # what a mask hides may be anything finite
            spare = next((tokens for tokens in column if tokens is not None), None)
            if spare is None:
                spare = engine.frame(name, np.zeros((*engine.sizes[name], 3), np.uint8), None)
            frames[name] = [spare if tokens is None else tokens for tokens in column]
        flat = head.horizon * head.dimension
        kept = np.tile(np.arange(head.dimension) < dimension, head.horizon)
        values = engine.act(
            self._instruction,
            frames,
            masks,
            self._random.standard_normal(flat, np.float32),
            self._random.standard_normal((head.steps, flat), np.float32),
            kept,
            None if guided is None else (self._padded(guided[0]), self._padded(guided[1])),
            spent,
        )
        return values[:, :dimension]

    def _padded(self, steps: NDArray[Any]) -> Floats:
        """Steps (horizon, dimension of the robot) as the head has them, flat."""
        head = self._setting.config.head
        padded = np.zeros((head.horizon, head.dimension), dtype=np.float32)
        padded[:, : steps.shape[1]] = steps
        return padded.reshape(-1)

    def _ready(self) -> Loaded:
        if self._loaded is None:
            raise PolicyError("Octo was used before it was loaded.")
        return self._loaded
