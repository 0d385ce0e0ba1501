"""The steps of a language model's layer, on tensors: the plain form of what `kernels` does on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.policies.openvla.llama import rotate
from vla_ros.policies.openvla.quantization import Weight, dequantize


def rms_norm(x: Tensor, gamma: Tensor, eps: float) -> Tensor:
    """Scale by the root mean square: x / sqrt(mean(x^2) + eps) * gamma, over the last axis, mean in fp32."""
    wide = x.float()
    return gamma * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def linear(x: Tensor, weight: Weight) -> Tensor:
    """(..., k) to (..., n)."""
    return functional.linear(x, dequantize(weight, x.dtype))


def norm_linear(x: Tensor, gamma: Tensor, eps: float, weight: Weight) -> Tensor:
    """`linear` of `rms_norm`."""
    return linear(rms_norm(x, gamma, eps), weight)


def norm_gated(x: Tensor, gamma: Tensor, eps: float, weight: Weight) -> Tensor:
    """silu(gate) * up of `rms_norm`; the first half of the weight's rows is gate, the second up."""
    gate, up = norm_linear(x, gamma, eps, weight).chunk(2, dim=-1)
    return functional.silu(gate) * up


def linear_add(y: Tensor, weight: Weight, x: Tensor) -> Tensor:
    """Residual: x + linear(y)."""
    return x + linear(y, weight)


def attend_next(
    qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, positions: Tensor
) -> Tensor:
    """Attention of one new token each of b sequences, whose key and value are added to the cache.

    Args:
        qkv: (b, (heads + 2 shared) * width), queries first, then keys, then values.
        keys: (b, shared, length, width), written at `positions`.
        values: the same.
        cos: (length, width) rotary table in fp32.
        sin: the same.
        positions: (b,) where each new token stands; it sees all before it and itself.

    Returns (b, heads * width).
    """
    batch, shared, length, width = keys.shape
    q, k, v = _heads(qkv[:, None], shared, width)
    turn = cos[positions][:, None, None].to(q.dtype), sin[positions][:, None, None].to(q.dtype)
    q, k = rotate(q, *turn), rotate(k, *turn)
    rows = torch.arange(batch, device=qkv.device)
    keys[rows, :, positions] = k[:, :, 0]
    values[rows, :, positions] = v[:, :, 0]
    seen = torch.arange(length, device=qkv.device)[None] <= positions[:, None]
    group = q.shape[1] // shared
    y = functional.scaled_dot_product_attention(
        q,
        keys.repeat_interleave(group, dim=1),
        values.repeat_interleave(group, dim=1),
        attn_mask=seen[:, None, None],
    )
    return y.transpose(1, 2).reshape(batch, -1)


def attend_first(
    qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, causal: bool = True
) -> Tensor:
    """Attention among the first n tokens of b sequences, whose keys and values open the cache.

    `qkv` is (b, n, (heads + 2 shared) * width), the rest as in `attend_next`; returns (b, n, heads * width).
    """
    batch, shared, _, width = keys.shape
    n = qkv.shape[1]
    q, k, v = _heads(qkv, shared, width)
    turn = cos[:n].to(q.dtype), sin[:n].to(q.dtype)
    q, k = rotate(q, *turn), rotate(k, *turn)
    keys[:, :, :n] = k
    values[:, :, :n] = v
    return attend(q, k, v, causal)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """(b, heads, n, width) queries to (b, n, heads * width); fewer keys and values serve several heads."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)


def _heads(qkv: Tensor, shared: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, n, size = qkv.shape
    parts = qkv.view(batch, n, size // width, width).transpose(1, 2)
    heads = size // width - 2 * shared
    return parts[:, :heads], parts[:, heads : heads + shared], parts[:, heads + shared :]
