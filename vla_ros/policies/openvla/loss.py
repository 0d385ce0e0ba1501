"""What OpenVLA is trained by: the likelihood of the action tokens, and how near the likeliest ones are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.actions.tokens import BINS, TokenCodec

IGNORED = -100
"""Label of positions that do not count."""


@dataclass(frozen=True)
class Loss:
    """Of one batch."""

    value: Tensor
    """Mean cross entropy of all labelled tokens, the end of the answer among them."""
    accuracy: float
    """Share of action tokens that are the likeliest."""
    l1: float
    """Mean distance of the likeliest from the true actions, normalised."""


def action_loss(logits: Tensor, labels: Tensor, patches: int, codec: TokenCodec | None = None) -> Loss:
    """Loss of next tokens (openvla, vla-scripts/finetune.py).

    Args:
        logits: (b, patches + n, vocabulary).
        labels: (b, n) of the words alone, `IGNORED` where nothing counts.
        patches: of the image, which stand after the first word.
        codec: of the action tokens.
    """
    codec = codec or TokenCodec()
    between = torch.full((len(labels), patches), IGNORED, dtype=labels.dtype, device=labels.device)
    full = torch.cat((labels[:, :1], between, labels[:, 1:]), dim=1)
    value = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), full[:, 1:].reshape(-1), ignore_index=IGNORED
    )
    truth = labels[:, 1:]
    answers = logits[:, patches:-1].argmax(dim=2)
    counted = truth > codec.vocabulary - (BINS + 1)
    right = (answers == truth) & counted
    ids = answers[counted].cpu().numpy()
    told = codec.decode(np.clip(ids, codec.lowest, codec.vocabulary - 1))
    meant = codec.decode(truth[counted].cpu().numpy())
    total = max(int(counted.sum()), 1)
    return Loss(value, float(right.sum()) / total, float(np.abs(told - meant).mean()) if len(ids) else 0.0)
