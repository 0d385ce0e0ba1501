"""OpenVLA (arXiv 2406.09246): patches of an image go between the start token and the words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.llama import Llama, LlamaConfig
from vla_ros.policies.openvla.vision import VisionBackbone


class Projector(nn.Module):
    """Features of patches to embeddings of the language model: three layers for two towers, two for one."""

    def __init__(self, config: OpenVlaConfig, size: int) -> None:
        super().__init__()
        self.fc3: nn.Linear | None = None
        if len(config.towers) > 1:
            self.fc1 = nn.Linear(config.width, 4 * config.width)
            self.fc2 = nn.Linear(4 * config.width, size)
            self.fc3 = nn.Linear(size, size)
        else:
            self.fc1 = nn.Linear(config.width, size)
            self.fc2 = nn.Linear(size, size)

    def forward(self, features: Tensor) -> Tensor:
        """(b, patches, width) to (b, patches, d)."""
        x: Tensor = self.fc2(functional.gelu(self.fc1(features)))
        return x if self.fc3 is None else self.fc3(functional.gelu(x))


class OpenVlaModel(nn.Module):
    """Vision, projector and language model, under the checkpoint's names."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.config = config
        language = LlamaConfig.from_mapping(config.text, config.source)
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config, language.hidden_size)
        self.language_model = Llama(language)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Hidden states after the last norm, for all positions.

        Args:
            images: (b, channels, h, w) normalised pixels.
            ids: (b, n) tokens, each row beginning with the start token.
            mask: (b, n) boolean, False where a row is only filled up (on the right); None: nowhere.

        Returns (b, 1 + patches + n - 1, d).
        """
        patches = self.projector(self.vision_backbone(images))
        words = self.language_model.embed(ids)
        x = torch.cat((words[:, :1], patches, words[:, 1:]), dim=1)
        seen = None
        if mask is not None:
            total = x.shape[1]
            full = torch.ones((len(ids), total), dtype=torch.bool, device=x.device)
            full[:, 1 + patches.shape[1] :] = mask[:, 1:]
            order = torch.ones(total, total, dtype=torch.bool, device=x.device).tril()
            seen = order[None, None] & full[:, None, None]
        return self.language_model(x, mask=seen)  # type: ignore[no-any-return]

    def logits(self, images: Tensor, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Of the next token at every position, (b, n + patches, vocabulary); arguments as `forward`."""
        return self.language_model.logits(self(images, ids, mask))


def unused(name: str, config: OpenVlaConfig) -> bool:
    """Whether a tensor of a checkpoint belongs to a part whose output is never looked at."""
    for prefix, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=False):
        head = f"vision_backbone.{prefix}."
        if name.startswith(head):
            part = name[len(head) :]
            return part.startswith((f"blocks.{tower.depth - 1}.", "norm.", "attn_pool."))
    return False
