"""Transformer and all denoising steps as one CUDA graph: one launch instead of some thousands.

At batch 1 a model of this size is bound by launches, not by arithmetic.  A graph replays recorded kernels on
fixed buffers (NVIDIA, CUDA programming guide, "CUDA Graphs"), so inputs are copied in and the answer out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_ros.policies.octo.diffusion import DiffusionHead
from vla_ros.policies.octo.model import Sequence

_WARM_UP = 3
"""Runs before recording: libraries choose and load their kernels then."""


class CapturedActor:
    """Records `Sequence` and `DiffusionHead.sample` once, replays them on every call."""

    def __init__(self, sequence: Sequence, head: DiffusionHead, inputs: Any, half: bool) -> None:
        """`inputs` as `Sequence.forward` takes them, on the GPU; `half`: the transformer in bfloat16."""
        self._sequence, self._head, self._half = sequence, head, half
        task, shown, frames, masks = inputs
        flat = head.config.horizon * head.config.dimension
        device = task.device
        self._inputs = (
            task.clone(),
            shown.clone(),
            [one.clone() for one in frames],
            [one.clone() for one in masks],
        )
        self._given = (
            torch.zeros(1, flat, device=device),
            torch.zeros(head.config.steps, 1, flat, device=device),
            torch.ones(flat, device=device, dtype=torch.bool),
            torch.zeros(1, flat, device=device),
            torch.zeros(1, flat, device=device),
        )
        # unguided is guided by nothing: the weights decide, and one graph serves both
        self._graph, self._actions = self._record()

    def __call__(self, inputs: Any, given: tuple[Tensor, Tensor, Tensor], guided: Any) -> Tensor:
        """Flat normalised actions (1, a), in a buffer that the next call overwrites."""
        _copy(self._inputs, inputs)
        _copy(self._given[:3], given)
        if guided is None:
            self._given[4].zero_()
        else:
            _copy(self._given[3:], guided)
        self._graph.replay()
        return self._actions

    def run(self) -> Tensor:
        """What the graph holds, run step by step."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self._half):
            embedding = self._sequence(*self._inputs)
        return self._head.sample(embedding.float(), *self._given)

    def _record(self) -> tuple[Any, Tensor]:
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self.run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            actions = self.run()
        return graph, actions


def _copy(into: Any, values: Any) -> None:
    for place, value in zip(into, values, strict=True):
        if isinstance(place, list):
            _copy(place, value)
        else:
            place.copy_(value)
