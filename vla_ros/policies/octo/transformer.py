"""Octo's transformer: pre-norm blocks as flax has them (LayerNorm eps 1e-6, tanh-GELU, biases everywhere)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value in one product."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, width) to query, key and value, each (b, heads, n, width / heads)."""
        b, n, width = states.shape
        parts = self.qkv(states).view(b, n, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def joined(self, attended: Tensor) -> Tensor:
        """(b, heads, n, width / heads) to (b, n, width)."""
        b, heads, n, size = attended.shape
        found: Tensor = self.out(attended.transpose(1, 2).reshape(b, n, heads * size))
        return found


class Block(nn.Module):
    """One layer."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.wide = nn.Linear(width, mlp)
        self.narrow = nn.Linear(mlp, width)

    def widened(self, states: Tensor) -> Tensor:
        """The states after the second half of the layer."""
        inner = functional.gelu(self.wide(self.mlp_norm(states)), approximate="tanh")
        found: Tensor = states + self.narrow(inner)
        return found

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(b, n, width) and what is added to the logits, (b or 1, 1, n, n)."""
        query, key, value = self.attention.split(self.attention_norm(states))
        attended = functional.scaled_dot_product_attention(query, key, value, bias)
        return self.widened(states + self.attention.joined(attended))

    def in_steps(self, states: Tensor, bias: Tensor, ends: Sequence[int], last: int) -> Tensor:
        """As `forward`, where no token attends beyond the end of the time step it belongs to.

        `ends` (k,) are the ends of the task's tokens and of each step's; a step's rows meet the keys up to
        its end only.  The states of the final `last` tokens are answered alone (0: all of them).
        """
        query, key, value = self.attention.split(self.attention_norm(states))
        total = states.shape[1]
        first = total - last if last else 0
        attended = []
        for begin, end in zip((0, *ends), ends, strict=False):
            begin = max(begin, first)
            if begin < end:
                attended.append(
                    functional.scaled_dot_product_attention(
                        query[:, :, begin:end],
                        key[:, :, :end],
                        value[:, :, :end],
                        bias[:, :, begin:end, :end],
                    )
                )
        rows = torch.cat(attended, dim=2) if len(attended) > 1 else attended[0]
        return self.widened(states[:, first:] + self.attention.joined(rows))


class Transformer(nn.Module):
    """The layers and the norm behind them."""

    def __init__(self, width: int, layers: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(b, n, width) to the same; `bias` (b or 1, 1, n, n) is added to the attention's logits."""
        for block in self.blocks:
            states = block(states, bias)
        found: Tensor = self.norm(states)
        return found

    def in_steps(self, states: Tensor, bias: Tensor, ends: Sequence[int], last: int) -> Tensor:
        """The final `last` tokens of `forward` (b, last, width), with less work; see `Block.in_steps`."""
        blocks = cast("list[Block]", list(self.blocks))
        for block in blocks[:-1]:
            states = block.in_steps(states, bias, ends, 0)
        found: Tensor = self.norm(blocks[-1].in_steps(states, bias, ends, last))
        return found


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to logits: 0 where `mask` is true, else about the least finite number.

    Not minus infinity: a token that may attend to nothing then attends to all alike, as in flax.  The least
    number of bfloat16 is still finite when it is rounded to that type.
    """
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, torch.finfo(torch.bfloat16).min)
