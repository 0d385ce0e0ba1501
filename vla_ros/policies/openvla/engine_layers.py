"""A language model laid out for speed: products that share their input are one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.policies.openvla.llama import Layer, Llama
from vla_ros.policies.openvla.quantization import Weight, quantize


@dataclass(frozen=True)
class FusedLayer:
    """One layer: queries, keys and values are one product, gate and up another."""

    first_norm: Tensor
    qkv: Weight
    out: Weight
    second_norm: Tensor
    gate_up: Weight
    down: Weight


@dataclass(frozen=True)
class FusedLlama:
    """All that decoding needs of a `Llama`."""

    layers: tuple[FusedLayer, ...]
    last_norm: Tensor
    head: Weight
    embedding: Tensor
    """(vocabulary, d)."""


def fuse(model: Llama, form: str, head_rows: tuple[int, int] | None = None) -> FusedLlama:
    """Take over the weights of a language model, layer by layer, so that never two copies of all exist.

    The model is empty afterwards.  `head_rows` keeps so many rows of the output layer only: those of the
    tokens that may be answered.  The output layer is never quantised: it decides between neighbouring tokens.
    Raises `PolicyError` as `quantize`.
    """
    layers = []
    for index in range(len(model.model.layers)):
        layers.append(_fuse_layer(cast(Layer, model.model.layers[index]), form))
        model.model.layers[index] = nn.Identity()
    head = model.lm_head.weight.detach()
    if head_rows is not None:
        head = head[head_rows[0] : head_rows[1]].clone()
    model.lm_head = nn.Linear(1, 1, bias=False)
    return FusedLlama(
        tuple(layers), model.model.norm.weight.detach(), Weight(head.contiguous()),
        model.model.embed_tokens.weight.detach(),
    )  # fmt: skip


def _fuse_layer(layer: Layer, form: str) -> FusedLayer:
    attention, mlp = layer.self_attn, layer.mlp

    def joined(*parts: nn.Linear) -> Weight:
        matrix = torch.cat([part.weight.detach() for part in parts]) if len(parts) > 1 else parts[0].weight
        for part in parts:
            part.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        return quantize(matrix.detach(), form)

    return FusedLayer(
        layer.input_layernorm.weight.detach(),
        joined(attention.q_proj, attention.k_proj, attention.v_proj),
        joined(attention.o_proj),
        layer.post_attention_layernorm.weight.detach(),
        joined(mlp.gate_proj, mlp.up_proj),
        joined(mlp.down_proj),
    )
