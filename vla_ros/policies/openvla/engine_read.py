"""What both OpenVLAs' runners share: many tokens through all layers, recorded graphs, the time of stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vla_ros.policies.openvla import engine_ops
from vla_ros.policies.openvla.engine_layers import FusedLlama


class Reader:
    """Many tokens of each sequence through all layers of a fused language model."""

    def __init__(
        self, fused: FusedLlama, turn: tuple[Tensor, Tensor], eps: float, form: str, gpu: bool
    ) -> None:
        """`turn`: rotary tables; `form`: of the weights."""
        self._fused, self._turn, self._eps, self._form, self._gpu = fused, turn, eps, form, gpu
        if gpu:
            from vla_ros.policies.openvla import kernels

            self._attend: Callable[..., Tensor] = kernels.attend_first
            self._product = kernels.MatrixProducts(form)

    def __call__(self, x: Tensor, keys: Tensor, values: Tensor, causal: bool = True) -> Tensor:
        """Hidden states before the last norm.

        Args:
            x: (b, n, d) embeddings.
            keys: (layers, b, shared, length, width), written; without layers where nobody reads them later.
            values: the same.
            causal: nobody looks ahead.
        """
        through = self._fast if self._gpu else self._plain
        kept = keys.dim() == 5
        return through(
            x, [(keys[i], values[i]) if kept else (keys, values) for i in range(self._depth)], causal
        )

    @property
    def _depth(self) -> int:
        return len(self._fused.layers)

    def _plain(self, x: Tensor, rooms: list[tuple[Tensor, Tensor]], causal: bool) -> Tensor:
        eps = self._eps
        for layer, room in zip(self._fused.layers, rooms, strict=True):
            qkv = engine_ops.norm_linear(x, layer.first_norm, eps, layer.qkv)
            y = engine_ops.attend_first(qkv, *room, *self._turn, causal=causal)
            x = engine_ops.linear_add(y, layer.out, x)
            inner = engine_ops.norm_gated(x, layer.second_norm, eps, layer.gate_up)
            x = engine_ops.linear_add(inner, layer.down, x)
        return x

    def _fast(self, x: Tensor, rooms: list[tuple[Tensor, Tensor]], causal: bool) -> Tensor:
        batch, n, size = x.shape
        eps, rows, product = self._eps, self._product.rows, self._product
        x = x.reshape(batch * n, size)
        for layer, room in zip(self._fused.layers, rooms, strict=True):
            qkv = product(rows(x, layer.first_norm, eps), layer.qkv).view(batch, n, -1)
            y = self._attend(qkv, *room, *self._turn, causal=causal).view(batch * n, -1)
            x = product(rows(y) if self._form == "fp8" else (y, None), layer.out, x)
            inner = product(rows(x, layer.second_norm, eps), layer.gate_up)
            x = product(rows(inner, gated=True), layer.down, x)
        return x.view(batch, n, size)


def record(step: Callable[[], None], device: torch.device, pool: Any = None) -> torch.cuda.CUDAGraph:
    """A step as a CUDA graph, replayed once; it is run before, so that kernels and libraries are ready."""
    cuda: Any = torch.cuda
    stream = cuda.Stream(device)
    stream.wait_stream(cuda.current_stream(device))
    with cuda.stream(stream):
        for _ in range(2):
            step()
    cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        step()
    graph.replay()
    return graph


class StageClock:
    """Times the stages of an answer, on a GPU by its own clock and without waiting in between."""

    def __init__(self, gpu: bool) -> None:
        """Begins with the first stage."""
        self._gpu = gpu
        self._marks: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """A stage ends here."""
        if not self._gpu:
            self._marks.append(time.perf_counter())
            return
        cuda: Any = torch.cuda
        event = cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self, names: tuple[str, ...]) -> dict[str, float]:
        """Seconds by stage; the GPU must be done."""
        spans = zip(self._marks, self._marks[1:], strict=False)
        return {
            name: float(a.elapsed_time(b) / 1000.0 if self._gpu else b - a)
            for name, (a, b) in zip(names, spans, strict=True)
        }
