"""Loads OpenVLA: published shards or an original file, tensor by tensor, and an adapter on top."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_ros.policies.checkpoints.lora import merge_adapter
from vla_ros.policies.checkpoints.prismatic import is_prismatic, read_prismatic
from vla_ros.policies.checkpoints.safetensors_shards import Shards, load_into
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.model import OpenVlaModel, unused

PATTERNS = ("*.json", "tokenizer.model", "*.safetensors", "checkpoints/*.pt")
"""Files of a checkpoint; the code that lies beside them is not fetched."""
LIGHT = ("*.json", "tokenizer.model")
"""Those of them that say all but the weights."""


def load_model(
    folder: Path, config: OpenVlaConfig, device: torch.device, dtype: torch.dtype,
    adapter: Path | None = None,
) -> OpenVlaModel:  # fmt: skip
    """The model on a device.

    Args:
        folder: with model.safetensors, or its shards and their index, or an original .pt file.
        config: of the checkpoint.
        device: where the weights go, one by one.
        dtype: that they are kept in.
        adapter: folder of a low-rank adapter that is merged into the weights.

    Raises `PolicyError` for weights that are missing, unknown, malformed or of another shape.
    """
    with torch.device("meta"):
        model = OpenVlaModel(config)

    def ignored(name: str) -> bool:
        return unused(name, config)

    source = read_prismatic(folder) if is_prismatic(folder) else Shards.open(folder)
    load_into(model, source, device, dtype, ignore=ignored, source=str(folder))
    if adapter is not None:
        merge_adapter(model, adapter, ignore=ignored)
    return model.eval().requires_grad_(False)
