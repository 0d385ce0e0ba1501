"""OpenVLA as a policy: one frame and an instruction in, one action in tokens out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.tokens import BINS
from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.preprocess import pixels
from vla_ros.policies.openvla.prompt import load_tokenizer, prompt, with_space
from vla_ros.types import Observation, PolicyOutput

ADAPTER = ("*.json", "*.safetensors")
"""Files of an adapter."""


@dataclass(frozen=True)
class Setting:
    """How an OpenVLA model is used on a robot; the options of `make_openvla`."""

    config: OpenVlaConfig
    requirements: PolicyRequirements
    checkpoint: str
    revision: str
    adapter: str
    device: str
    precision: str
    crop: bool
    constrained: bool
    dimension: int


class OpenVlaPolicy:
    """Answers greedily; the same frame and instruction give the same tokens."""

    def __init__(self, setting: Setting) -> None:
        """Nothing is loaded yet."""
        self._setting = setting
        self._engine: Any = None
        self._tokenize: Any = None
        self._ids: NDArray[np.int64] | None = None

    @property
    def requirements(self) -> PolicyRequirements:
        """As the checkpoint's configuration and statistics say."""
        return self._setting.requirements

    def load(self) -> None:
        """Read the weights and answer once on a black frame.  Raises `PolicyError`."""
        import torch

        from vla_ros.policies.openvla.checkpoint import PATTERNS, load_model
        from vla_ros.policies.openvla.engine import Engine, check_precision

        setting = self._setting
        device = choose_device(setting.device)
        precision = setting.precision
        if precision == "auto":
            precision = "bf16" if device.type == "cuda" else "fp32"
        check_precision(precision, device)
        folder = checkpoint_folder(setting.checkpoint, PATTERNS, setting.revision)
        self._tokenize = load_tokenizer(folder)
        wide = device.type == "cpu" or precision == "fp32"
        try:
            model = load_model(
                folder, setting.config, device, torch.float32 if wide else torch.bfloat16,
                checkpoint_folder(setting.adapter, ADAPTER) if setting.adapter else None,
            )  # fmt: skip
            last = setting.config.vocabulary
            allowed = (last - BINS, last) if setting.constrained else None
            self._engine = Engine(model, precision, device, setting.dimension, allowed)
            self._warm_up()
        except torch.OutOfMemoryError as error:
            raise PolicyError(
                f"OpenVLA in {precision} does not fit into the memory of {device}: it needs about "
                f"{setting.requirements.machine.memory / 2**30:.1f} GiB; fp8, int8 and int4 need less."
            ) from error

    def reset(self, instruction: str) -> None:
        """Tokens of the question.  Raises `InstructionError` for an empty instruction or one too long."""
        self._ids = self._question(instruction)
        config = self._setting.config
        size = (3 * len(config.towers), config.image_size, config.image_size)
        self._engine.warm_up(1, len(self._ids), size)

    def _question(self, instruction: str) -> NDArray[np.int64]:
        if self._engine is None:
            raise PolicyError("OpenVLA is not loaded.")
        ids = with_space(self._tokenize(prompt(instruction, self._setting.config.conversation)))
        highest = int(self._setting.config.text.get("vocab_size", 32064))
        if ids.min() < 0 or ids.max() >= highest:
            raise PolicyError(f"The tokenizer answers {int(ids.max())}, but the model has {highest} tokens.")
        longest = int(self._setting.config.text.get("max_position_embeddings", 2048))
        taken = len(ids) + self._setting.config.patches + self._setting.dimension + 16
        if taken > longest:
            raise InstructionError(f"The instruction is {len(ids)} tokens long, which is too long.")
        return ids

    def infer(self, observation: Observation) -> PolicyOutput:
        """Action tokens (1, dimension) for one frame.  Raises `PolicyError`, `ObservationError`."""
        if self._ids is None:
            raise PolicyError("OpenVLA was given no instruction.")
        (need,) = self.requirements.cameras
        if need.name not in observation.images:
            raise ObservationError(f"OpenVLA needs camera '{need.name}', but it is not in the observation.")
        return self._answer([observation], [self._ids])[0]

    def infer_batch(self, observations: Sequence[Observation]) -> list[PolicyOutput]:
        """One answer for each of several robots' observations, by its own instruction; one pass for all."""
        return self._answer(observations, [self._question(one.instruction) for one in observations])

    def _answer(
        self, observations: Sequence[Observation], prompts: Sequence[NDArray[np.int64]]
    ) -> list[PolicyOutput]:
        import torch

        setting, begun = self._setting, time.perf_counter()
        (need,) = self.requirements.cameras
        frames = [pixels(one.images[need.name].rgb, setting.config, setting.crop) for one in observations]
        prepared = time.perf_counter()
        generation = self._engine.generate(torch.from_numpy(np.stack(frames)), prompts)
        key = self.requirements.normalization.key if self.requirements.normalization else ""
        latency = {"preprocess": prepared - begun, **generation.seconds}
        return [
            PolicyOutput(
                stamp=one.stamp,
                sequence=one.sequence,
                action_space=self.requirements.action_space,
                tokens=generation.ids[row : row + 1],
                normalization_key=key,
                latency=latency,
            )
            for row, one in enumerate(observations)
        ]

    def _warm_up(self) -> None:
        import torch

        config = self._setting.config
        black = np.zeros((config.image_size, config.image_size, 3), dtype=np.uint8)
        ids = with_space(self._tokenize(prompt("pick up the object", config.conversation)))
        self._engine.generate(torch.from_numpy(pixels(black, config)[None]), [ids])


def choose_device(name: str) -> Any:
    """The torch device for auto, cpu or cuda.  Raises `PolicyError` for a GPU that is not there."""
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise PolicyError("Device 'cuda' is asked for, but torch finds no GPU here.")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
