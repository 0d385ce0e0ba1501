"""Any image-text-to-text model of the transformers library, asked a question about a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image as Pillow
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from vla_ros.errors import PolicyError
from vla_ros.policies.rt2.answer import MARK
from vla_ros.types import Image

LONGEST_PLAN = 64
"""Tokens a plan may have."""


class Grammar(Protocol):
    """`TextGrammar` or `TokenGrammar`."""

    @property
    def longest(self) -> int:
        """Tokens of an answer at most."""
        ...

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Tokens that may follow those generated so far."""
        ...


class OnlyValid(LogitsProcessor):  # type: ignore[misc]
    """Leaves the tokens that a grammar allows."""

    def __init__(self, grammar: Grammar, prompt: int) -> None:
        """`prompt` is how many tokens stand before the answer."""
        self._grammar, self._prompt = grammar, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (b, vocabulary) with all others at minus infinity."""
        kept = torch.full_like(scores, -torch.inf)
        for row, ids in enumerate(input_ids):
            allowed = self._grammar.allowed(ids[self._prompt :].tolist())
            kept[row, allowed] = scores[row, allowed]
        return kept


class UntilMark(StoppingCriteria):  # type: ignore[misc]
    """Ends a plan as soon as the mark of an action stands behind it."""

    def __init__(self, tokenizer: Any, prompt: int) -> None:
        """`tokenizer` of the model; `prompt` is how many tokens stand before the plan."""
        self._tokenizer, self._prompt = tokenizer, prompt

    def __call__(self, input_ids: Any, scores: Any, **others: Any) -> Any:
        """Whether each of the rows (b, n) has come to its end, (b,)."""
        last = max(self._prompt, input_ids.shape[1] - 2 * len(MARK))
        ends = [MARK in self._tokenizer.decode(ids[last:].tolist()) for ids in input_ids]
        return torch.tensor(ends, device=input_ids.device)


class VisionLanguageModel:
    """A model and its processor."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load from a local folder; no code of the folder's is run.  Raises `PolicyError`."""
        try:
            auto: Any = AutoProcessor
            self.processor: Any = auto.from_pretrained(folder, trust_remote_code=False)
            auto = AutoModelForImageTextToText
            self.model: Any = auto.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the library raises whatever it comes across
            reason = next(
                (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
            )
            raise PolicyError(
                f"The model in {folder} cannot be loaded: {reason[:240].rstrip('.')}."
            ) from error
        self.model.to(device).eval()
        self.device = device
        if not hasattr(self.processor, "tokenizer"):
            raise PolicyError(f"The model in {folder} has no tokenizer.")
        self.tokenizer: Any = self.processor.tokenizer

    def ask(
        self, frame: Image, question: str, grammar: Grammar, plan: bool
    ) -> tuple[list[int], str, dict[str, float]]:
        """The answer's tokens, the plan before it, and seconds by stage.

        Args:
            frame: (h, w, 3).
            question: as the model was trained on.
            grammar: of the answer.
            plan: whether the model first says in words what it will do.
        """
        picture, text = Pillow.fromarray(np.ascontiguousarray(frame)), self._prompt(question)
        spent: dict[str, float] = {}
        words = ""
        if plan:
            begun = time.perf_counter()
            inputs = self._inputs(picture, text)
            length = inputs["input_ids"].shape[1]
            until = StoppingCriteriaList([UntilMark(self.tokenizer, length)])
            found = self._generate(inputs, LONGEST_PLAN, stopping_criteria=until)
            words = self.tokenizer.decode(found, skip_special_tokens=True).split(MARK)[0].strip()
            text = f"{text} {words} {MARK}"
            spent["plan"] = time.perf_counter() - begun
        begun = time.perf_counter()
        inputs = self._inputs(picture, text)
        ready = time.perf_counter()
        only = LogitsProcessorList([OnlyValid(grammar, inputs["input_ids"].shape[1])])
        found = self._generate(inputs, grammar.longest, logits_processor=only)
        spent["preprocess"] = ready - begun
        spent["decode"] = time.perf_counter() - ready
        return found, words, spent

    def _prompt(self, question: str) -> str:
        """The question behind the picture's place, as a conversation where the model has that form."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            return str(
                self.processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
                )
            )
        mark = getattr(self.processor, "image_token", "")
        return f"{getattr(mark, 'content', mark)}{question}"

    def _inputs(self, picture: Any, text: str) -> Any:
        inputs = self.processor(images=[picture], text=[text], return_tensors="pt")
        inputs.pop("labels", None)
        moved = inputs.to(self.device)
        for key, value in moved.items():
            if torch.is_tensor(value) and value.is_floating_point():
                moved[key] = value.to(self.model.dtype)
        return moved

    def _generate(self, inputs: Any, longest: int, **extra: Any) -> list[int]:
        with torch.inference_mode():
            found = self.model.generate(
                **inputs, max_new_tokens=longest, do_sample=False, num_beams=1,
                pad_token_id=self._padding(), **extra,
            )  # fmt: skip
        answer: list[int] = found[0, inputs["input_ids"].shape[1] :].tolist()
        return answer

    def _padding(self) -> int:
        token = self.tokenizer.pad_token_id
        return int(token if token is not None else self.tokenizer.eos_token_id)
