"""OpenVLA's eyes: DINOv2 with registers and SigLIP, side by side, down to the features that are used.

Those are the output of each tower's second-to-last block, without the last norm: the last block, the norm
and SigLIP's pooling are never looked at and not even made here.  Names of parameters are the checkpoint's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.policies.openvla.config import PATCH, OpenVlaConfig, TowerConfig

EPSILON = 1e-6
"""Of every layer norm in both towers (timm, vision_transformer.py)."""


class PatchEmbedding(nn.Module):
    """Every patch of pixels to a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, patches, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        batch, n, width = x.shape
        qkv = self.qkv(x).view(batch, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(y.transpose(1, 2).reshape(batch, n, width))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two layers with the exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned factor for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x * self.scale_factor


class Block(nn.Module):
    """Attention and network, each behind a norm and around a residual."""

    def __init__(self, tower: TowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, eps=EPSILON)
        self.attn = Attention(tower.width, tower.heads)
        self.norm2 = nn.LayerNorm(tower.width, eps=EPSILON)
        self.mlp = Mlp(tower.width, tower.hidden)
        scaled = tower.kind == "dino"
        self.ls1: nn.Module = LayerScale(tower.width) if scaled else nn.Identity()
        self.ls2: nn.Module = LayerScale(tower.width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class Tower(nn.Module):
    """One vision transformer without its last block."""

    def __init__(self, tower: TowerConfig, patches: int) -> None:
        super().__init__()
        self.prefix = tower.prefix
        if tower.kind == "dino":
            self.cls_token = nn.Parameter(torch.empty(1, 1, tower.width))
            self.reg_token = nn.Parameter(torch.empty(1, tower.registers, tower.width))
        self.pos_embed = nn.Parameter(torch.empty(1, patches, tower.width))
        self.patch_embed = PatchEmbedding(tower.width)
        self.blocks = nn.ModuleList(Block(tower) for _ in range(tower.depth - 1))

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) to features (b, patches, width)."""
        x = self.patch_embed(images) + self.pos_embed
        if self.prefix:
            batch = len(images)
            x = torch.cat((self.cls_token.expand(batch, -1, -1), self.reg_token.expand(batch, -1, -1), x), 1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.prefix :]  # type: ignore[no-any-return]


class VisionBackbone(nn.Module):
    """One tower, or two whose features are joined."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.featurizer = Tower(config.towers[0], config.patches)
        self.fused_featurizer = Tower(config.towers[1], config.patches) if len(config.towers) > 1 else None

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3 * towers, h, w) to (b, patches, sum of widths)."""
        if self.fused_featurizer is None:
            return self.featurizer(images)  # type: ignore[no-any-return]
        parts = (self.featurizer(images[:, :3]), self.fused_featurizer(images[:, 3:]))
        return torch.cat(parts, dim=2)
