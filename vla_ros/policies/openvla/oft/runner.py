"""OpenVLA-OFT on fused weights: on a GPU in the engine's kernels, one graph for the whole answer.

Everybody sees everybody, so prompts are not filled up: there is a graph for each length of prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.errors import PolicyError
from vla_ros.policies.openvla import engine_ops
from vla_ros.policies.openvla.engine import check_precision, see
from vla_ros.policies.openvla.engine_layers import fuse
from vla_ros.policies.openvla.engine_read import Reader, StageClock, record
from vla_ros.policies.openvla.llama import rotary_table
from vla_ros.policies.openvla.oft.model import OftModel

STAGES = ("vision", "prefill", "decode")
KEPT = 4
"""Graphs that are kept; the oldest is forgotten."""


@dataclass(frozen=True)
class Answer:
    """Of the runner."""

    values: NDArray[np.float32]
    """(b, chunk, dimension), normalised."""
    seconds: dict[str, float]
    """By stage: upload, vision, prefill (the language model), decode (the action head)."""


class _Work:
    """Buffers of one shape of input, and on a GPU the graphs that work on them."""

    def __init__(self, images: Tensor, ids: Tensor, state: Tensor | None) -> None:
        self.images, self.ids, self.state = images, ids, state
        self.graphs: list[Any] = []
        self.sequence = self.hidden = self.values = images


class Runner:
    """Answers chunks; takes the language model's weights over."""

    @torch.no_grad()
    def __init__(self, model: OftModel, precision: str, device: torch.device) -> None:
        """`model` lies on `device`; precisions as the engine's.  Raises `PolicyError`."""
        form = check_precision(precision, device)
        self._model, self._device, self._gpu = model, device, device.type == "cuda"
        language = model.base.language_model
        self._config = language.config
        self._fused = fuse(language, form, (0, 1))
        self._dtype = self._fused.embedding.dtype
        self._turn = rotary_table(self._config, self._config.max_position_embeddings, device)
        self._works: dict[tuple[int, ...], _Work] = {}
        self._reader = Reader(self._fused, self._turn, self._config.rms_norm_eps, form, self._gpu)

    @property
    def captures(self) -> bool:
        """Whether a prompt of a new length takes a moment, for its graph is made first."""
        return self._gpu

    @torch.no_grad()
    def generate(
        self, images: Tensor, prompts: Sequence[NDArray[np.int64]], states: NDArray[np.float32] | None
    ) -> Answer:
        """A chunk for each of b observations.

        Args:
            images: (b, cameras * channels, h, w) normalised pixels on the CPU.
            prompts: b arrays of token ids from the start token on; those of one length go together.
            states: (b, size) normalised, for models that are told the robot's state.
        """
        values = np.zeros((len(prompts), self._model.chunk, self._model.head.dimension), dtype=np.float32)
        seconds: dict[str, float] = {}
        for length in sorted({len(prompt) for prompt in prompts}):
            rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
            ids = torch.from_numpy(np.stack([prompts[row] for row in rows]))
            state = None if states is None else torch.from_numpy(np.asarray(states[rows], dtype=np.float32))
            values[rows], spent = self._answer(images[rows], ids, state)
            for stage, value in spent.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        return Answer(values, seconds)

    def _answer(
        self, images: Tensor, ids: Tensor, state: Tensor | None
    ) -> tuple[NDArray[np.float32], dict[str, float]]:
        clock = StageClock(self._gpu)
        work = self._work(images, ids, state)
        clock.mark()
        for index, step in enumerate((self._see, self._think, self._act)):
            if work.graphs:
                work.graphs[index].replay()
            else:
                step(work)
            clock.mark()
        values = work.values.float().cpu().numpy()
        return values, clock.seconds(("upload", *STAGES))

    def _work(self, images: Tensor, ids: Tensor, state: Tensor | None) -> _Work:
        key = (*images.shape, *ids.shape, 0 if state is None else state.shape[1])
        work = self._works.get(key)
        if work is None:
            work = _Work(
                torch.zeros(images.shape, dtype=self._dtype, device=self._device),
                torch.zeros(ids.shape, dtype=ids.dtype, device=self._device),
                None if state is None else torch.zeros(state.shape, dtype=self._dtype, device=self._device),
            )
            self._fill(work, images, ids, state)
            if self._gpu:
                self._capture(work)
                while len(self._works) >= KEPT:
                    self._works.pop(next(iter(self._works)))
                self._works[key] = work
        else:
            self._fill(work, images, ids, state)
        return work

    def _fill(self, work: _Work, images: Tensor, ids: Tensor, state: Tensor | None) -> None:
        source = images.to(self._dtype)
        work.images.copy_(source.pin_memory() if self._gpu else source, non_blocking=True)
        work.ids.copy_(ids)
        if work.state is not None and state is not None:
            work.state.copy_(state)

    def _capture(self, work: _Work) -> None:
        work.graphs = [
            record(partial(step, work), self._device) for step in (self._see, self._think, self._act)
        ]
        torch.cuda.synchronize(self._device)

    def _see(self, work: _Work) -> None:
        """Images, prompt and state to the sequence of embeddings."""
        model = self._model
        words = model.words(work.ids)
        if self._gpu and model.film is None:
            batch, channels = len(work.images), 3 * len(model.base.config.towers)
            each = work.images.reshape(-1, channels, *work.images.shape[2:])
            patches = model.base.projector(see(model.base.vision_backbone, each))
            patches = patches.reshape(batch, -1, patches.shape[2])
        else:
            patches = model.see(work.images, words)
        work.sequence = model.sequence(patches, words, work.state)
        if work.sequence.shape[1] > len(self._turn[0]):
            raise PolicyError(
                f"Images and prompt take {work.sequence.shape[1]} positions, but the model has "
                f"{len(self._turn[0])}."
            )

    def _think(self, work: _Work) -> None:
        """The language model, up to the hidden states that the action head reads."""
        x = work.sequence
        batch, n, _ = x.shape
        room = (batch, self._config.num_key_value_heads, n, self._config.head_dim)
        x = self._reader(x, x.new_empty(room), x.new_empty(room), causal=False)
        work.hidden = engine_ops.rms_norm(
            x[:, self._model.read(n)], self._fused.last_norm, self._config.rms_norm_eps
        )

    def _act(self, work: _Work) -> None:
        work.values = self._model.head(work.hidden)
