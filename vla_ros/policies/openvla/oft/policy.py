"""OpenVLA-OFT as a policy: frames, the robot's state and an instruction in, a normalised chunk out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.normalization import Normalization
from vla_ros.errors import ObservationError, PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.oft.images import prepare
from vla_ros.policies.openvla.oft.state import choose_layout, read_state, scaled_state
from vla_ros.policies.openvla.policy import choose_device
from vla_ros.policies.openvla.prompt import load_tokenizer, prompt, with_space
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput

PATTERNS = ("*.json", "tokenizer.model", "*.safetensors", "*--*.pt")
"""Files of a checkpoint, its adapter's among them."""


@dataclass(frozen=True)
class Setting:
    """How an OpenVLA-OFT model is used on a robot; the options of `make_openvla_oft`."""

    config: OpenVlaConfig
    robot: RobotSpec
    requirements: PolicyRequirements
    normalization: Normalization
    state: Normalization | None
    """How the robot's state is scaled; None: the checkpoint says nothing of it."""
    layout: str
    checkpoint: str
    base: str
    revision: str
    device: str
    precision: str
    crop: bool
    dimension: int


class OftPolicy:
    """The same frames, state and instruction give the same chunk."""

    def __init__(self, setting: Setting) -> None:
        """Nothing is loaded yet."""
        self._setting = setting
        self._runner: Any = None
        self._tokenize: Any = None
        self._layout = ""
        self._ids: NDArray[np.int64] | None = None

    @property
    def requirements(self) -> PolicyRequirements:
        """As the checkpoint's configuration and statistics say."""
        return self._setting.requirements

    def load(self) -> None:
        """Read the weights and answer once on black frames.  Raises `PolicyError`."""
        import torch

        from vla_ros.policies.openvla.engine import check_precision
        from vla_ros.policies.openvla.oft.checkpoint import load_oft, merged
        from vla_ros.policies.openvla.oft.runner import Runner

        setting = self._setting
        device = choose_device(setting.device)
        precision = setting.precision
        if precision == "auto":
            precision = "bf16" if device.type == "cuda" else "fp32"
        check_precision(precision, device)
        folder = checkpoint_folder(setting.checkpoint, PATTERNS, setting.revision)
        base = folder if merged(folder) else self._base(folder)
        self._tokenize = load_tokenizer(folder if _has_tokenizer(folder) else base)
        wide = device.type == "cpu" or precision == "fp32"
        try:
            model = load_oft(
                folder, base, setting.config, setting.dimension, setting.requirements.horizon, device,
                torch.float32 if wide else torch.bfloat16,
            )  # fmt: skip
            self._layout = self._chosen_layout(model.state)
            self._runner = Runner(model, precision, device)
            self._warm_up(self._question("pick up the object"))
        except torch.OutOfMemoryError as error:
            raise PolicyError(
                f"OpenVLA-OFT in {precision} does not fit into the memory of {device}: it needs about "
                f"{setting.requirements.machine.memory / 2**30:.1f} GiB; fp8, int8 and int4 need less."
            ) from error

    def reset(self, instruction: str) -> None:
        """Tokens of the question; on a GPU the graph for them is made.

        Raises `InstructionError` for an empty instruction, `PolicyError` before `load`.
        """
        self._ids = self._question(instruction)
        if self._runner.captures:
            self._warm_up(self._ids)

    def infer(self, observation: Observation) -> PolicyOutput:
        """A chunk (horizon, dimension) of normalised actions.  Raises `PolicyError`, `ObservationError`."""
        if self._ids is None:
            raise PolicyError("OpenVLA-OFT was given no instruction.")
        return self._answer([observation], [self._ids])[0]

    def infer_batch(self, observations: Sequence[Observation]) -> list[PolicyOutput]:
        """One answer for each of several robots' observations, by its own instruction."""
        return self._answer(observations, [self._question(one.instruction) for one in observations])

    def _answer(
        self, observations: Sequence[Observation], prompts: Sequence[NDArray[np.int64]]
    ) -> list[PolicyOutput]:
        import torch

        begun = time.perf_counter()
        frames = np.stack([self._frames(one) for one in observations])
        states = np.stack([self._state(one) for one in observations]) if self._layout else None
        prepared = time.perf_counter()
        answer = self._runner.generate(torch.from_numpy(frames), prompts, states)
        latency = {"preprocess": prepared - begun, **answer.seconds}
        return [
            PolicyOutput(
                stamp=one.stamp,
                sequence=one.sequence,
                action_space=self.requirements.action_space,
                values=answer.values[row].astype(float),
                normalization_key=self._setting.normalization.key,
                latency=latency,
            )
            for row, one in enumerate(observations)
        ]

    def _frames(self, observation: Observation) -> NDArray[np.float32]:
        """The pixels of all cameras, (cameras * channels, h, w)."""
        stacked = []
        for need in self.requirements.cameras:
            if need.name not in observation.images:
                raise ObservationError(
                    f"OpenVLA-OFT needs camera '{need.name}', but it is not in the observation."
                )
            frame = observation.images[need.name].rgb
            stacked.append(prepare(frame, self._setting.config, self._setting.crop))
        return np.concatenate(stacked)

    def _state(self, observation: Observation) -> NDArray[np.float32]:
        scaling = self._setting.state
        if scaling is None:
            raise PolicyError("OpenVLA-OFT has no statistics of the robot's state.")
        state = read_state(observation, self._layout, self._setting.robot)
        return scaled_state(state, scaling).astype(np.float32)

    def _chosen_layout(self, projector: Any) -> str:
        """How the state is laid out; "" for a model that is not told it."""
        setting = self._setting
        if projector is None:
            return ""
        if setting.state is None:
            raise PolicyError(
                f"The model of {setting.checkpoint} is told the robot's state, but its statistics of "
                f"'{setting.normalization.key}' have no section 'proprio'."
            )
        size = projector.fc1.in_features
        if size != setting.state.statistics.dimension:
            raise PolicyError(
                f"The model of {setting.checkpoint} is told a state of {size} numbers, but the statistics of "
                f"'{setting.state.key}' have {setting.state.statistics.dimension}."
            )
        return choose_layout(setting.layout, setting.normalization.key, setting.checkpoint)

    def _question(self, instruction: str) -> NDArray[np.int64]:
        if self._tokenize is None or self._runner is None:
            raise PolicyError("OpenVLA-OFT is not loaded.")
        ids = with_space(self._tokenize(prompt(instruction, self._setting.config.conversation)))
        highest = int(self._setting.config.text.get("vocab_size", 32064))
        if ids.min() < 0 or ids.max() >= highest:
            raise PolicyError(f"The tokenizer answers {int(ids.max())}, but the model has {highest} tokens.")
        return ids

    def _warm_up(self, ids: NDArray[np.int64]) -> None:
        import torch

        config = self._setting.config
        black = np.zeros((config.image_size, config.image_size, 3), dtype=np.uint8)
        frames = np.concatenate([prepare(black, config, False)] * len(self.requirements.cameras))
        scaling = self._setting.state
        states = None
        if self._layout and scaling is not None:
            states = np.zeros((1, scaling.statistics.dimension), dtype=np.float32)
        self._runner.generate(torch.from_numpy(frames[None]), [ids], states)

    def _base(self, folder: Path) -> Path:
        """The model that the checkpoint's adapter was trained on."""
        from vla_ros.policies.checkpoints.lora import read_adapter_config
        from vla_ros.policies.openvla.oft.checkpoint import ADAPTER

        if not (folder / ADAPTER).is_dir():
            raise PolicyError(f"{folder} holds neither whole weights nor a folder {ADAPTER}.")
        named = self._setting.base or read_adapter_config(folder / ADAPTER).base
        return checkpoint_folder(named, PATTERNS)


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file()
