"""Small random OpenVLA checkpoints as they lie on the hub, and frames to show their policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from vla_ros.policies.openvla.config import OpenVlaConfig, read_config
from vla_ros.policies.openvla.factory import tower_sizes
from vla_ros.policies.openvla.model import OpenVlaModel
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import CameraImage, JointState, Observation, Pose

DINO, SIGLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"
TOWERS = {DINO: [16, 3, 2], SIGLIP: [24, 4, 2]}
"""Width, depth, heads."""
SIZE = 28
TEXT = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "vocab_size": 32064,
}  # fmt: skip
ACTION = {
    "q01": [-0.04, -0.03, -0.05, -0.1, -0.1, -0.2, 0.0], "q99": [0.04, 0.02, 0.05, 0.1, 0.1, 0.2, 1.0],
    "min": [-1.0] * 6 + [0.0], "max": [1.0] * 7, "mean": [0.0] * 7, "std": [1.0] * 7,
    "mask": [True] * 6 + [False],
}  # fmt: skip


def proprio(size: int) -> dict[str, Any]:
    """Statistics of a robot's state."""
    return {"q01": [-1.0] * size, "q99": [1.5] * size, "min": [-2.0] * size, "max": [2.0] * size}


def write_config(
    folder: Path, names: tuple[str, ...] = (DINO, SIGLIP), statistics: Mapping[str, Any] | None = None,
    **changes: Any,
) -> OpenVlaConfig:  # fmt: skip
    """config.json alone."""
    table = {
        "model_type": "openvla", "timm_model_ids": list(names), "image_sizes": [SIZE] * len(names),
        "use_fused_vision_backbone": len(names) > 1, "timm_override_act_layers": [None] * len(names),
        "image_resize_strategy": "resize-naive", "llm_backbone_id": "llama2-7b-pure", "n_action_bins": 256,
        "pad_to_multiple_of": 64, "pad_token_id": 32000, "text_config": TEXT,
        "norm_stats": statistics or {"bridge_orig": {"action": ACTION}},
    }  # fmt: skip
    table.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(table))
    return read_config(folder, tower_sizes(TOWERS))


def random_model(config: OpenVlaConfig, seed: int = 0) -> OpenVlaModel:
    """Weights that make a difference: none is zero, none dominates."""
    torch.manual_seed(seed)
    model = OpenVlaModel(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight")):
            parameter.copy_(1.0 + 0.1 * torch.randn(parameter.shape))
        else:
            parameter.copy_(torch.randn(parameter.shape) * (parameter.shape[-1] ** -0.5))
    return model.eval()


def write_tokenizer(folder: Path) -> None:
    """A token for every byte, behind Llama's three special ones."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{n:02X}>": 3 + n for n in range(256)}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_weights(folder: Path, model: OpenVlaModel) -> None:
    """Two shards and their index, with tensors of parts that are not used."""
    table = {name: value.contiguous() for name, value in model.state_dict().items()}
    last = model.config.towers[0].depth - 1
    table[f"vision_backbone.featurizer.blocks.{last}.norm1.weight"] = torch.ones(3)
    table["vision_backbone.featurizer.norm.weight"] = torch.ones(3)
    if len(model.config.towers) > 1:
        table["vision_backbone.fused_featurizer.attn_pool.latent"] = torch.ones(1)
    names, places = sorted(table), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: table[name] for name in part}, folder / shard)
        places.update({name: shard for name in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def write_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> OpenVlaModel:
    """A whole checkpoint; the model that is in it."""
    config = write_config(folder, **changes)
    model = random_model(config, seed)
    write_weights(folder, model)
    write_tokenizer(folder)
    return model


def observation(
    robot: RobotSpec, number: int = 0, instruction: str = "", size: tuple[int, int] = (48, 64)
) -> Observation:
    """Noise in every camera."""
    random = np.random.default_rng(number)
    images = {
        name: CameraImage(1000 + number, random.integers(0, 256, (*size, 3), dtype=np.uint8))
        for name in robot.cameras
    }
    joints = JointState(1000 + number, robot.home.copy(), np.zeros(robot.dof), np.zeros(robot.dof))
    pose = Pose(np.array([0.4, 0.1, 0.3]), np.array([0.6, 0.0, 0.8, 0.0]))
    return Observation(1000 + number, number, images, joints, 0.04, pose, instruction)
