"""The words OpenVLA was trained to answer, and their tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import InstructionError, PolicyError

SPACE = 29871
"""Llama's lone space, which training put before the action tokens."""
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""How Vicuna 1.5 is introduced to a conversation."""


def prompt(instruction: str, conversation: bool = False) -> str:
    """The question for an instruction, in lower case; `conversation` for OpenVLA v0.1.

    Raises `InstructionError` for an empty one.
    """
    words = instruction.strip().lower()
    if not words:
        raise InstructionError("The instruction is empty; say what the robot should do.")
    question = f"What action should the robot take to {words}?"
    return f"{SYSTEM} USER: {question} ASSISTANT:" if conversation else f"In: {question}\nOut:"


def with_space(ids: list[int]) -> NDArray[np.int64]:
    """Token ids with the space that stands before an answer, unless it is there."""
    return np.array(ids if ids and ids[-1] == SPACE else [*ids, SPACE], dtype=np.int64)


def load_tokenizer(folder: Path) -> Callable[[str], list[int]]:
    """Text to token ids, the start token first, by a checkpoint's tokenizer.json or tokenizer.model.

    Raises `PolicyError` when there is neither, or it cannot be read.
    """
    fast, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    try:
        if fast.is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(fast))
            return lambda text: list(tokenizer.encode(text).ids)
        if pieces.is_file():
            from sentencepiece import SentencePieceProcessor

            processor = SentencePieceProcessor(model_file=str(pieces))
            return lambda text: [processor.bos_id(), *processor.encode(text)]
    except ImportError as error:
        raise PolicyError(f"The tokenizer of {folder} needs a library that is missing: {error}.") from None
    except Exception as error:
        raise PolicyError(f"The tokenizer of {folder} cannot be read: {error}.") from None
    raise PolicyError(f"{folder} has no tokenizer: neither {fast.name} nor {pieces.name} is there.")
