"""Small random OpenVLA-OFT models and their files as the original writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vla_ros.policies.openvla.model import OpenVlaModel
from vla_ros.policies.openvla.oft.film import Film
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector
from vla_ros.policies.openvla.oft.model import OftModel

WIDTH, CHUNK, STATE = 32, 8, 8
"""Of the language model; steps; numbers of the robot's state."""


def randomised(module: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    for parameter in module.requires_grad_(False).parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.5 * (parameter.shape[-1] ** -0.5))
    return module


def assembled(base: OpenVlaModel, film: bool, state: bool = True) -> OftModel:
    return OftModel(
        base, randomised(ActionHead(WIDTH, 7), 1), CHUNK,
        randomised(StateProjector(STATE, WIDTH), 2) if state else None,
        randomised(Film(base.vision_backbone, WIDTH), 3) if film else None,
    ).eval()  # fmt: skip


def write_parts(folder: Path, model: OftModel, prefix: str = "module.") -> None:
    """As the original saves them after training on several GPUs."""

    def save(name: str, part: Any) -> None:
        table = {prefix + key: value.clone() for key, value in part.state_dict().items()}
        torch.save(table, folder / f"{name}--150000_checkpoint.pt")

    save("action_head", model.head)
    if model.state is not None:
        save("proprio_projector", model.state)


def write_film(folder: Path, model: OftModel, rank: int = 32) -> dict[str, Any]:
    """The wrapped vision backbone with adapters that are not merged; the weights it stands for."""
    assert model.film is not None
    table, plain = {}, {}
    for name, value in model.base.vision_backbone.state_dict().items():
        value = value * 0.9
        key = "vision_backbone." + name
        if ".blocks." in name:
            key = key.replace(".norm1.", ".block.norm1.").replace(".norm2.", ".block.norm2.")
            for part in ("attn", "mlp", "ls1", "ls2"):
                key = key.replace(f".{part}.", f".block.{part}.")
        plain[name] = value.clone()
        if name.endswith("attn.qkv.weight") or name.endswith("patch_embed.proj.weight"):
            stem = key.removesuffix(".weight")
            a, b = torch.randn(rank, *value.shape[1:]) * 0.02, torch.randn(len(value), rank) * 0.02
            table[f"{stem}.base_layer.weight"] = value
            table[f"{stem}.lora_A.default.weight"] = a
            table[f"{stem}.lora_B.default.weight"] = b if value.dim() == 2 else b[:, :, None, None]
            plain[name] += min(rank, 16) / rank * torch.einsum("or,r...->o...", b, a)
        elif name.endswith(("attn.qkv.bias", "patch_embed.proj.bias")):
            table[key.replace(".bias", ".base_layer.bias")] = value
        else:
            table[key] = value
    for name, value in model.film.state_dict().items():
        table["vision_backbone." + name] = value
    # the last block and the norm are there, and nobody looks at them
    last = model.base.config.towers[0].depth - 1
    table[f"vision_backbone.featurizer.blocks.{last}.scale.weight"] = torch.ones(2)
    table[f"vision_backbone.featurizer.blocks.{last}.block.norm1.weight"] = torch.ones(2)
    table["vision_backbone.featurizer.norm.weight"] = torch.ones(2)
    torch.save(table, folder / "vision_backbone--150000_checkpoint.pt")
    return plain
