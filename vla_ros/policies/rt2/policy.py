"""A vision-language model as a policy: a question about the frame, numbers in its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.rt2.answer import from_numbers
from vla_ros.policies.rt2.grammar import TextGrammar, TokenGrammar, end_tokens, last_tokens
from vla_ros.types import Observation, PolicyOutput

PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Files of a checkpoint; the code that may lie beside them is not fetched."""
INSTRUCTION = "pick up the object"


@dataclass(frozen=True)
class Setting:
    """The options of `make_rt2`."""

    requirements: PolicyRequirements
    checkpoint: str
    revision: str
    device: str
    precision: str
    answer: str
    tokens: tuple[int, ...]
    plan: bool
    horizon: int
    dimension: int


class Rt2Policy:
    """Answers greedily, and only what is a valid answer."""

    def __init__(self, setting: Setting) -> None:
        """Nothing is loaded yet."""
        self._setting = setting
        self._model: Any = None
        self._grammar: Any = None
        self._instruction = ""

    @property
    def requirements(self) -> PolicyRequirements:
        """As options and statistics say."""
        return self._setting.requirements

    def load(self) -> None:
        """Read the weights and answer once about a black frame.  Raises `PolicyError`."""
        import numpy as np
        import torch

        from vla_ros.policies.rt2.model import VisionLanguageModel

        setting = self._setting
        there = torch.cuda.is_available()
        if setting.device == "cuda" and not there:
            raise PolicyError("Device 'cuda' is asked for, but torch finds no GPU here.")
        device = torch.device("cuda" if there and setting.device != "cpu" else "cpu")
        half = device.type == "cuda" and setting.precision != "fp32"
        if setting.precision == "bf16" and not half:
            raise PolicyError("Precision 'bf16' needs a GPU; a CPU computes in fp32.")
        folder = checkpoint_folder(setting.checkpoint, PATTERNS, setting.revision)
        try:
            self._model = VisionLanguageModel(folder, device, torch.bfloat16 if half else torch.float32)
            tokenizer = self._model.tokenizer
            if setting.answer == "text":
                self._grammar = TextGrammar(tokenizer, setting.horizon, setting.dimension)
            else:
                chosen = setting.tokens or last_tokens(tokenizer)
                self._grammar = TokenGrammar(
                    chosen, end_tokens(tokenizer), setting.horizon, setting.dimension
                )
            self._ask(np.zeros((224, 224, 3), dtype=np.uint8), INSTRUCTION)
        except torch.OutOfMemoryError as error:
            raise PolicyError(f"The model does not fit into the memory of {device}.") from error

    def reset(self, instruction: str) -> None:
        """Ask about this from now on.  Raises `InstructionError` for an empty instruction."""
        if not instruction.strip():
            raise InstructionError("The instruction is empty; say what the robot should do.")
        self._instruction = instruction.strip()

    def infer(self, observation: Observation) -> PolicyOutput:
        """Normalised values (horizon, dimension), the plan as text.  Raises `PolicyError`."""
        (need,) = self.requirements.cameras
        if need.name not in observation.images:
            raise ObservationError(f"The model needs camera '{need.name}', but it is not in the observation.")
        if not self._instruction:
            raise PolicyError("The model was given no instruction.")
        found, plan, spent = self._ask(observation.images[need.name].rgb, self._instruction)
        steps = from_numbers(self._grammar.numbers(found), self._setting.horizon, self._setting.dimension)
        normalization = self.requirements.normalization
        return PolicyOutput(
            stamp=observation.stamp,
            sequence=observation.sequence,
            action_space=self.requirements.action_space,
            values=None if steps.terminate else steps.values,
            normalization_key=normalization.key if normalization else "",
            latency=spent,
            terminate=steps.terminate,
            text=f"Plan: {plan}" if plan else "",
        )

    def _ask(self, frame: Any, instruction: str) -> Any:
        return self._model.ask(
            frame, question(instruction, self._setting.plan), self._grammar, self._setting.plan
        )


def question(instruction: str, plan: bool) -> str:
    """RT-2's question (arXiv 2307.15818, section 3.2), or its beginning of a plan (section 4.4)."""
    if plan:
        return f"Instruction: {instruction} Plan:"
    return f"Q: what action should the robot take to {instruction}? A:"
