"""OpenVLA as fast as its memory is read: one graph for vision, one for the prompt, one for all action tokens.

On a GPU every step is captured once for a batch and a length of prompt (rounded up) and then replayed: no
Python between the kernels.  Prompts of several robots that differ in length are filled up on the right; what
stands there is never looked at, since attention looks back only and the answer overwrites it.

On a CPU the same steps run as plain tensor operations, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_ros.errors import PolicyError, unknown
from vla_ros.policies.openvla import engine_ops
from vla_ros.policies.openvla.engine_layers import FusedLlama, fuse
from vla_ros.policies.openvla.engine_read import Reader, StageClock, record
from vla_ros.policies.openvla.llama import KVCache, Llama, rotary_table
from vla_ros.policies.openvla.quantization import Weight

PRECISIONS = {"fp32": "plain", "bf16": "plain", "fp8": "fp8", "int8": "int8", "int4": "int4"}
"""Precision to the format of the language model's weights; all else is bf16, or fp32 on a CPU."""
STEP = 16
"""Prompts are filled up to a multiple of so many tokens: a graph serves instructions of like length."""
FP8_CAPABILITY = (8, 9)
"""CUDA compute capability from which a GPU multiplies 8-bit floats."""


class Vla(Protocol):
    """The parts of OpenVLA (`OpenVLAModel` is one)."""

    @property
    def vision_backbone(self) -> Any:
        """Images (b, channels, h, w) to features (b, patches, d); `featurizer`, `fused_featurizer` inside."""
        ...

    @property
    def projector(self) -> Any:
        """Features to embeddings of the language model."""
        ...

    @property
    def language_model(self) -> Any:
        """The `Llama`."""
        ...


@dataclass(frozen=True)
class Generation:
    """Answer of the engine."""

    ids: NDArray[np.int64]
    """(b, tokens) generated ids."""
    seconds: dict[str, float]
    """By stage: upload, vision, prefill, decode."""


@dataclass
class _Shape:
    """Buffers and graphs for one batch size and prompt length."""

    batch: int
    prompt: int
    cache: KVCache
    staged: Tensor
    """Images on their way to the GPU, in memory it can read by itself."""
    images: Tensor
    ids: Tensor
    lengths: Tensor
    """(b,) int64: tokens of each prompt with its patches."""
    patches: Tensor
    tokens: Tensor
    """(b, generated)."""
    graphs: list[torch.cuda.CUDAGraph] = field(default_factory=list)
    prompts: list[bytes] | None = None
    """What `ids` and `lengths` hold."""


def check_precision(precision: str, device: torch.device) -> str:
    """The weights' format for a precision.  Raises `PolicyError` when the device has no such arithmetic."""
    if precision not in PRECISIONS:
        raise PolicyError(unknown("Precision", precision, PRECISIONS))
    if device.type == "cpu" and precision == "bf16":
        raise PolicyError("Precision 'bf16' needs a GPU; a CPU computes in fp32, fp8, int8 or int4.")
    if precision == "fp8" and device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < FP8_CAPABILITY:
            name = torch.cuda.get_device_name(device)
            raise PolicyError(
                f"Precision 'fp8' needs compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]}, "
                f"but {name} has {capability[0]}.{capability[1]}; int8 and int4 are possible."
            )
    return PRECISIONS[precision]


class Engine:
    """Generates action tokens greedily; takes the language model's weights over."""

    def __init__(
        self, model: Vla, precision: str, device: torch.device, tokens: int = 7,
        allowed: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Lay the weights out.

        Args:
            model: on `device`; its language model is empty afterwards.
            precision: one of `PRECISIONS`.
            device: of the model.
            tokens: generated for each answer.
            allowed: first and one past the last id that may be answered; None: all.

        Raises `PolicyError` for a precision that the device or the sizes do not allow.
        """
        form = check_precision(precision, device)
        self._device = device
        self._count = tokens
        self._offset = 0 if allowed is None else allowed[0]
        language: Llama = model.language_model
        self._config = language.config
        self._dtype = language.model.norm.weight.dtype
        self._vision, self._projector = model.vision_backbone, model.projector
        self._fused: FusedLlama = fuse(language, form, allowed)
        self._gpu = device.type == "cuda"
        self._ops: Any = engine_ops
        if self._gpu:
            from vla_ros.policies.openvla import kernels

            self._ops = kernels
        self._turn = rotary_table(self._config, self._config.max_position_embeddings, device)
        self._reader = Reader(self._fused, self._turn, self._config.rms_norm_eps, form, self._gpu)
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._pool: Any = torch.cuda.graph_pool_handle() if self._gpu else None

    @torch.no_grad()
    def warm_up(self, batch: int, prompt: int, image: tuple[int, int, int]) -> None:
        """Record the graphs, where there are any, for prompts so long and images (channels, h, w)."""
        if self._gpu:
            self._shape(batch, prompt, image)

    @torch.no_grad()
    def generate(self, images: Tensor, prompts: Sequence[NDArray[np.int64]]) -> Generation:
        """Action tokens for a batch.

        Args:
            images: (b, channels, h, w) normalised pixels on the CPU.
            prompts: b arrays of token ids, each beginning with the start token.
        """
        longest = max(len(prompt) for prompt in prompts)
        shape = self._shape(len(prompts), longest, (images.shape[1], images.shape[2], images.shape[3]))
        clock = StageClock(self._gpu)
        shape.staged.copy_(images)
        shape.images.copy_(shape.staged, non_blocking=True)
        if shape.prompts is None or [one.tobytes() for one in prompts] != shape.prompts:
            self._put_prompts(shape, prompts)
        clock.mark()
        for index, step in enumerate((self._see, self._read, self._answer)):
            if shape.graphs:
                shape.graphs[index].replay()
            else:
                step(shape)
            clock.mark()
        answer = shape.tokens.cpu().numpy()
        return Generation(answer, clock.seconds(("upload", "vision", "prefill", "decode")))

    def _put_prompts(self, shape: _Shape, prompts: Sequence[NDArray[np.int64]]) -> None:
        ids = np.zeros((shape.batch, shape.prompt), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        shape.ids.copy_(torch.from_numpy(ids))
        shape.lengths.copy_(torch.tensor([len(prompt) + shape.patches.shape[1] for prompt in prompts]))
        shape.prompts = [prompt.tobytes() for prompt in prompts]

    def _shape(self, batch: int, prompt: int, image: tuple[int, int, int]) -> _Shape:
        prompt = -(-prompt // STEP) * STEP if self._gpu else prompt
        key = (batch, prompt)
        if key in self._shapes:
            return self._shapes[key]
        with torch.device(self._device):
            images = torch.zeros((batch, *image), dtype=self._dtype)
            patches = self._projector(self._vision(images))
            length = prompt + patches.shape[1] + self._count
            config = self._config
            room = (config.num_hidden_layers, batch, config.num_key_value_heads, length, config.head_dim)
            cache = KVCache(torch.zeros(room, dtype=self._dtype), torch.zeros(room, dtype=self._dtype))
            ids = torch.zeros((batch, prompt), dtype=torch.int64)
            lengths = torch.full((batch,), prompt + patches.shape[1], dtype=torch.int64)
            tokens = torch.zeros((batch, self._count), dtype=torch.int64)
        staged = torch.empty((batch, *image), dtype=self._dtype, pin_memory=self._gpu)
        shape = _Shape(batch, prompt, cache, staged, images, ids, lengths, patches, tokens)
        if length > len(self._turn[0]):
            raise PolicyError(f"The prompt takes {length} positions, but the model has {len(self._turn[0])}.")
        if self._gpu:
            self._capture(shape)
            self._shapes[key] = shape
        return shape

    def _capture(self, shape: _Shape) -> None:
        for step in (self._see, self._read, self._answer):
            shape.graphs.append(record(partial(step, shape), self._device, self._pool))
        torch.cuda.synchronize(self._device)

    def _see(self, shape: _Shape) -> None:
        """Images to patches in the language model's space; two towers work side by side on a GPU."""
        shape.patches.copy_(self._projector(see(self._vision, shape.images)))

    def _read(self, shape: _Shape) -> None:
        """Prompt and patches through all layers; the first token."""
        ids = self._fused.embedding[shape.ids]
        x = torch.cat((ids[:, :1], shape.patches, ids[:, 1:]), dim=1)
        x = self._reader(x, shape.cache.keys, shape.cache.values)
        last = x[torch.arange(shape.batch, device=x.device), shape.lengths - 1]
        shape.tokens[:, 0] = self._choose(last)

    def _answer(self, shape: _Shape) -> None:
        """The tokens after the first, one by one."""
        eps, ops = self._config.rms_norm_eps, self._ops
        for count in range(1, self._count):
            x = self._fused.embedding[shape.tokens[:, count - 1]]
            positions = shape.lengths + (count - 1)
            for index, layer in enumerate(self._fused.layers):
                qkv = ops.norm_linear(x, layer.first_norm, eps, layer.qkv)
                keys, values = shape.cache.keys[index], shape.cache.values[index]
                y = ops.attend_next(qkv, keys, values, *self._turn, positions)
                x = ops.linear_add(y, layer.out, x)
                inner = ops.norm_gated(x, layer.second_norm, eps, layer.gate_up)
                x = ops.linear_add(inner, layer.down, x)
            shape.tokens[:, count] = self._choose(x)

    def _choose(self, x: Tensor) -> Tensor:
        """(b, d) to the likeliest ids (b,)."""
        norm, eps = self._fused.last_norm, self._config.rms_norm_eps
        score: Callable[[Tensor, Tensor, float, Weight], Tensor]
        score = self._ops.logits if self._gpu else engine_ops.norm_linear
        return score(x, norm, eps, self._fused.head).argmax(dim=-1) + self._offset


def see(vision: Any, images: Tensor) -> Tensor:
    """Features of images; on a GPU the second tower works on a stream of its own beside the first."""
    second: nn.Module | None = getattr(vision, "fused_featurizer", None)
    if images.device.type != "cuda" or second is None:
        return vision(images)  # type: ignore[no-any-return]
    cuda: Any = torch.cuda
    main, side = cuda.current_stream(images.device), cuda.Stream(images.device)
    side.wait_stream(main)
    with cuda.stream(side):
        right = second(images[:, 3:])
    left = vision.featurizer(images[:, :3])
    main.wait_stream(side)
    right.record_stream(main)
    return torch.cat((left, right), dim=2)
