"""The encoder of T5 (arXiv 1910.10683), in the sizes of a checkpoint.

Written out instead of taken from a library: it is short, it exports to ONNX as it is, and no release of a
library can change it.  Attention is not scaled, positions are relative and in buckets, norms have no mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_DISTANCE = 128
"""Distances from here on share a bucket, in every published T5."""


@dataclass(frozen=True)
class T5Sizes:
    """Sizes of an encoder; those of t5-base by default."""

    vocabulary: int = 32128
    width: int = 768
    heads: int = 12
    head: int = 64
    mlp: int = 3072
    layers: int = 12
    buckets: int = 32
    gated: bool = False
    """Of T5 1.1: a second matrix, through GELU, gates the first."""


class RootMeanNorm(nn.Module):
    """Scales to a root mean square of 1, then by a weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) to the same."""
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class T5Layer(nn.Module):
    """Self-attention and the two products behind it."""

    def __init__(self, sizes: T5Sizes) -> None:
        super().__init__()
        inner = sizes.heads * sizes.head
        self.shape = (sizes.heads, sizes.head)
        self.attention_norm = RootMeanNorm(sizes.width)
        self.query = nn.Linear(sizes.width, inner, bias=False)
        self.key = nn.Linear(sizes.width, inner, bias=False)
        self.value = nn.Linear(sizes.width, inner, bias=False)
        self.out = nn.Linear(inner, sizes.width, bias=False)
        self.mlp_norm = RootMeanNorm(sizes.width)
        self.wide = nn.Linear(sizes.width, sizes.mlp, bias=False)
        self.gate = nn.Linear(sizes.width, sizes.mlp, bias=False) if sizes.gated else None
        self.narrow = nn.Linear(sizes.mlp, sizes.width, bias=False)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(b, n, width) to the same; `bias` (b, heads, n, n) is added to the logits."""
        b, n, _ = states.shape
        normed = self.attention_norm(states)
        query, key, value = (
            one(normed).view(b, n, *self.shape).transpose(1, 2) for one in (self.query, self.key, self.value)
        )
        shares = torch.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
        states = states + self.out((shares @ value).transpose(1, 2).reshape(b, n, -1))
        normed = self.mlp_norm(states)
        if self.gate is None:
            inner = functional.relu(self.wide(normed))
        else:
            inner = functional.gelu(self.gate(normed), approximate="tanh") * self.wide(normed)
        found: Tensor = states + self.narrow(inner)
        return found


class T5Encoder(nn.Module):
    """Token ids to states."""

    def __init__(self, sizes: T5Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_bias = nn.Embedding(sizes.buckets, sizes.heads)
        self.layers = nn.ModuleList(T5Layer(sizes) for _ in range(sizes.layers))
        self.norm = RootMeanNorm(sizes.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids (b, n) and which of them are no padding (b, n), to states (b, n, width)."""
        buckets = position_buckets(ids.shape[1], self.sizes.buckets).to(ids.device)
        bias = self.position_bias(buckets).permute(2, 0, 1)[None]
        # the least finite number, as T5 has it: rows of padding alone stay finite
        hidden = (1.0 - mask.to(bias.dtype))[:, None, None, :] * torch.finfo(bias.dtype).min
        states = self.embedding(ids)
        for layer in self.layers:
            states = layer(states, bias + hidden)
        found: Tensor = self.norm(states)
        return found


def position_buckets(length: int, buckets: int) -> Tensor:
    """The bucket of each key (column) seen from each query (row), (length, length).

    Half the buckets for each direction; of these, half for one distance each, the rest widening
    logarithmically up to `_DISTANCE`.
    """
    place = torch.arange(length)
    offset = place[None, :] - place[:, None]
    half = buckets // 2
    exact = half // 2
    distance = offset.abs()
    scale = (half - exact) / math.log(_DISTANCE / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()
    return (offset > 0).long() * half + torch.where(distance < exact, distance, far.clamp(max=half - 1))
