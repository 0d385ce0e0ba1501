"""The language model of OpenVLA: Llama, or Mistral, which differs in sizes only, with a static cache.

Names of parameters are those of the published checkpoints.  Arithmetic follows Llama's published order:
root-mean-square norms in fp32, rotary positions on split halves, grouped queries, a gated SiLU network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import PolicyError


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes; the defaults are those that a configuration leaves out when it means Llama-2-7B."""

    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    vocab_size: int = 32064
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048
    head_dim: int = 128

    @classmethod
    def from_mapping(cls, text: Mapping[str, Any], source: str = "text_config") -> LlamaConfig:
        """From the `text_config` of a checkpoint; keys that are not of the sizes above are not read.

        Raises `PolicyError` for another architecture, a rotary scaling, or sizes that do not divide.
        """
        kind = text.get("model_type", "llama")
        if kind not in ("llama", "mistral"):
            raise PolicyError(f"{source} names the language model '{kind}', known are llama and mistral.")
        if text.get("rope_scaling"):
            raise PolicyError(
                f"{source} asks for rope_scaling {text['rope_scaling']}, which is not supported."
            )
        given = {key: text[key] for key in cls.__dataclass_fields__ if text.get(key) is not None}
        given.setdefault("num_key_value_heads", given.get("num_attention_heads", cls.num_attention_heads))
        heads, hidden = given.get("num_attention_heads", 32), given.get("hidden_size", 4096)
        given.setdefault("head_dim", hidden // heads)
        if hidden % heads or heads % given["num_key_value_heads"] or given["head_dim"] % 2:
            raise PolicyError(
                f"{source}: hidden_size {hidden}, {heads} heads and {given['num_key_value_heads']} "
                "key-value heads do not divide."
            )
        return cls(**given)


@dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer: (layers, batch, key-value heads, length, head size) each."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[3]


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) in fp32, then the learned scale in the model's precision."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Any shape (..., size)."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


def rotary_table(
    config: LlamaConfig, length: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, head size) in fp32 of the rotary position embedding (arXiv 2104.09864)."""
    exponents = (
        torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    )
    frequencies = 1.0 / (config.rope_theta**exponents)
    angles = torch.arange(length, device=device).float()[:, None] * frequencies[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (b, heads, n, head size) by tables that broadcast to it; its halves are the two coordinates."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Self-attention of one layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        size, width = config.hidden_size, config.head_dim
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(size, self.heads * width, bias=False)
        self.k_proj = nn.Linear(size, self.shared * width, bias=False)
        self.v_proj = nn.Linear(size, self.shared * width, bias=False)
        self.o_proj = nn.Linear(self.heads * width, size, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor] | None, start: int,
        mask: Tensor | None, causal: bool,
    ) -> Tensor:  # fmt: skip
        """`x` (b, n, d) at cache positions from `start` on."""
        batch, n, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, n, heads, -1).transpose(1, 2)

        q = rotate(split(self.q_proj(x), self.heads), *turn)
        k = rotate(split(self.k_proj(x), self.shared), *turn)
        v = split(self.v_proj(x), self.shared)
        if cache is not None:
            keys, values = cache
            keys[:, :, start : start + n] = k
            values[:, :, start : start + n] = v
            k, v = keys[:, :, : start + n], values[:, :, : start + n]
        if self.shared != self.heads:
            k = k.repeat_interleave(self.heads // self.shared, dim=1)
            v = v.repeat_interleave(self.heads // self.shared, dim=1)
        y = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and mask is None and n > 1
        )
        return self.o_proj(y.transpose(1, 2).reshape(batch, n, -1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to the same."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One block: attention and network, each behind a norm and around a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor] | None, start: int,
        mask: Tensor | None, causal: bool,
    ) -> Tensor:  # fmt: skip
        """(b, n, d) to the same."""
        x = x + self.self_attn(self.input_layernorm(x), turn, cache, start, mask, causal)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Embeddings, layers and the last norm: the checkpoint's `model.`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    """From embeddings to hidden states and logits."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def make_cache(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> KVCache:
        """Room for `length` positions of `batch` sequences."""
        config = self.config
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, length, config.head_dim)
        return KVCache(
            torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
        )

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (b, n) to embeddings (b, n, d)."""
        return self.model.embed_tokens(ids)  # type: ignore[no-any-return]

    def forward(
        self, embeddings: Tensor, cache: KVCache | None = None, start: int = 0, mask: Tensor | None = None,
        positions: Tensor | None = None, causal: bool = True,
    ) -> Tensor:  # fmt: skip
        """Hidden states (b, n, d) after the last norm.

        Args:
            embeddings: (b, n, d).
            cache: written at positions `start` to `start + n`, and read from 0 on; None: only this call.
            start: where in the cache the first of the n goes.
            mask: who may look at whom, boolean, broadcast to (b, heads, n, start + n); None: as `causal`.
            positions: (b, n) rotary positions; None: `start` and on.
            causal: nobody looks ahead (needs `start` 0 or n 1 where no mask is given).
        """
        n = embeddings.shape[1]
        if mask is None and causal and start > 0 and n > 1:
            past = torch.ones(n, start + n, dtype=torch.bool, device=embeddings.device)
            mask = past.tril(start)[None, None]
        cos, sin = rotary_table(self.config, self._length(start, n, positions), embeddings.device)
        if positions is None:
            turn = (cos[start : start + n], sin[start : start + n])
        else:
            turn = (cos[positions][:, None], sin[positions][:, None])
        turn = (turn[0].to(embeddings.dtype), turn[1].to(embeddings.dtype))
        x = embeddings
        for index, layer in enumerate(self.model.layers):
            room = None if cache is None else (cache.keys[index], cache.values[index])
            x = layer(x, turn, room, start, mask, causal)
        return self.model.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d) to (..., vocabulary)."""
        return self.lm_head(hidden)  # type: ignore[no-any-return]

    def _length(self, start: int, n: int, positions: Tensor | None) -> int:
        return max(start + n, 1 if positions is None else int(positions.max()) + 1)
