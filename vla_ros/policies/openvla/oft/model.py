"""OpenVLA-OFT (arXiv 2502.19645): all actions of a chunk at once, in one look where everybody sees everybody.

The sequence is: start token, patches of every image, the robot's state, the prompt, an empty place for every
number of the chunk, the end token.  The hidden state one place before each empty one is what the action head
reads, as in training by next tokens (moojink/openvla-oft, modeling_prismatic.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.policies.openvla.model import OpenVlaModel
from vla_ros.policies.openvla.oft.film import Film
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector

STOP = 2
"""Llama's end token, which stood behind the actions in training."""


class OftModel(nn.Module):
    """OpenVLA with an action head, and with a state projector and FiLM where the checkpoint has them."""

    def __init__(
        self, base: OpenVlaModel, head: ActionHead, chunk: int,
        state: StateProjector | None = None, film: Film | None = None,
    ) -> None:  # fmt: skip
        """`chunk` is the number of steps that are answered."""
        super().__init__()
        self.base, self.head, self.chunk, self.state, self.film = base, head, chunk, state, film

    @property
    def places(self) -> int:
        """Empty places: one a number of the chunk."""
        return self.chunk * self.head.dimension

    def see(self, images: Tensor, words: Tensor) -> Tensor:
        """Patches of all images in the language model's space.

        Args:
            images: (b, cameras * channels, h, w), the cameras one after the other.
            words: (b, n + 1, d) embeddings of prompt and end token.

        Returns (b, cameras * patches, d).
        """
        batch, channels = len(images), 3 * len(self.base.config.towers)
        each = images.reshape(-1, channels, *images.shape[2:])
        if self.film is None:
            features = self.base.vision_backbone(each)
        else:
            means = words.mean(dim=1).repeat_interleave(len(each) // batch, dim=0)
            features = self.film(self.base.vision_backbone, each, means)
        patches: Tensor = self.base.projector(features)
        return patches.reshape(batch, -1, patches.shape[2])

    def words(self, ids: Tensor) -> Tensor:
        """Embeddings (b, n + 1, d) of prompts (b, n) and the end token."""
        stop = torch.full((len(ids), 1), STOP, dtype=ids.dtype, device=ids.device)
        return self.base.language_model.embed(torch.cat((ids, stop), dim=1))

    def sequence(self, patches: Tensor, words: Tensor, state: Tensor | None) -> Tensor:
        """All places in their order, (b, m, d); see the top of this file."""
        parts = [words[:, :1], patches]
        if self.state is not None and state is not None:
            parts.append(self.state(state)[:, None])
        empty = words.new_zeros(len(words), self.places, words.shape[2])
        return torch.cat((*parts, words[:, 1:-1], empty, words[:, -1:]), dim=1)

    def read(self, length: int) -> slice:
        """The places in a sequence of `length` that the action head reads."""
        return slice(length - 2 - self.places, length - 2)

    def forward(self, images: Tensor, ids: Tensor, state: Tensor | None = None) -> Tensor:
        """Normalised actions (b, chunk, dimension).

        Args:
            images: (b, cameras * channels, h, w) normalised pixels.
            ids: (b, n) prompts of equal length.
            state: (b, size) normalised; where the model has a projector for it.
        """
        words = self.words(ids)
        x = self.sequence(self.see(images, words), words, state)
        hidden = self.base.language_model(x, causal=False)
        return self.head(hidden[:, self.read(x.shape[1])])  # type: ignore[no-any-return]
