"""FiLM (arXiv 1709.07871): words scale and shift what every block of the vision towers sees.

Between attention and network of a block, x becomes x * (1 + scale(words)) + shift(words), channel by channel,
with `words` the mean embedding of the prompt (moojink/openvla-oft, film_vit_wrapper.py).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.policies.openvla.vision import Block, Tower, VisionBackbone


class FilmBlock(nn.Module):
    """The two layers of one block."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Linear(words, width)
        self.shift = nn.Linear(words, width)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """`x` (b, n, width) and mean embeddings (b, words)."""
        return x * (1.0 + self.scale(words)[:, None]) + self.shift(words)[:, None]  # type: ignore[no-any-return]


class FilmTower(nn.Module):
    """The added layers of one tower, for each block that is used."""

    def __init__(self, words: int, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FilmBlock(words, width) for _ in range(blocks))

    def forward(self, tower: Tower, images: Tensor, words: Tensor) -> Tensor:
        """Features (b, patches, width) of images (b, 3, h, w) under mean embeddings (b, words)."""
        x: Tensor = tower.patch_embed(images) + tower.pos_embed
        if tower.prefix:
            batch = len(images)
            own = (tower.cls_token.expand(batch, -1, -1), tower.reg_token.expand(batch, -1, -1))
            x = torch.cat((*own, x), dim=1)
        for block, film in zip(tower.blocks, self.blocks, strict=True):
            x = _modulated(cast(Block, block), film, x, words)
        return x[:, tower.prefix :]


class Film(nn.Module):
    """The added layers of all towers; the towers themselves stay where they are."""

    def __init__(self, vision: VisionBackbone, words: int) -> None:
        super().__init__()
        self.featurizer = _beside(vision.featurizer, words)
        second = vision.fused_featurizer
        self.fused_featurizer = None if second is None else _beside(second, words)

    def forward(self, vision: VisionBackbone, images: Tensor, words: Tensor) -> Tensor:
        """As `VisionBackbone`, under mean embeddings (b, words)."""
        left: Tensor = self.featurizer(vision.featurizer, images[:, :3], words)
        if self.fused_featurizer is None:
            return left
        right = self.fused_featurizer(vision.fused_featurizer, images[:, 3:], words)
        return torch.cat((left, right), dim=2)


def _modulated(block: Block, film: nn.Module, x: Tensor, words: Tensor) -> Tensor:
    x = x + block.ls1(block.attn(block.norm1(x)))
    x = film(x, words)
    return x + block.ls2(block.mlp(block.norm2(x)))  # type: ignore[no-any-return]


def _beside(tower: Tower, words: int) -> FilmTower:
    return FilmTower(words, tower.pos_embed.shape[2], len(tower.blocks))
