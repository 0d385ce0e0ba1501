"""Loads OpenVLA-OFT: OpenVLA's weights, and beside them a file for each part that was added.

action_head--*.pt always, proprio_projector--*.pt where the model is told the robot's state, and with FiLM
vision_backbone--*.pt, which holds both towers anew with their adapters not merged (moojink/openvla-oft,
vla-scripts/finetune.py: rank r, alpha the lesser of r and 16).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.lora import product
from vla_ros.policies.checkpoints.pickled import read_state
from vla_ros.policies.checkpoints.safetensors_shards import INDEX, SINGLE, load_into, put
from vla_ros.policies.openvla.checkpoint import load_model
from vla_ros.policies.openvla.config import OpenVlaConfig
from vla_ros.policies.openvla.model import OpenVlaModel, unused
from vla_ros.policies.openvla.oft.film import Film
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector
from vla_ros.policies.openvla.oft.model import OftModel

HEAD, STATE, VISION, DIFFUSION = (
    "action_head",
    "proprio_projector",
    "vision_backbone",
    "noisy_action_projector",
)
ADAPTER = "lora_adapter"
"""Folder of the adapter, which most checkpoints hold beside the merged weights."""
LARGEST_ALPHA = 16
_FILM = re.compile(r"vision_backbone\.(\w+)\.blocks\.(\d+)\.(scale|shift)\.(weight|bias)")
_LORA = re.compile(r"(.+)\.lora_([AB])\.\w+\.weight")


def merged(folder: Path) -> bool:
    """Whether a folder holds whole weights, and not an adapter only."""
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def component(folder: Path, name: str) -> Path | None:
    """The file of a part; None: there is none.  Raises `PolicyError` when there are several."""
    found = sorted(folder.glob(f"{name}--*.pt"))
    if len(found) > 1:
        raise PolicyError(
            f"{folder} holds several files of {name}, but one is needed: "
            f"{', '.join(path.name for path in found)}."
        )
    return found[0] if found else None


def load_oft(
    folder: Path, base: Path, config: OpenVlaConfig, dimension: int, chunk: int,
    device: torch.device, dtype: torch.dtype,
) -> OftModel:  # fmt: skip
    """The model on a device.

    Args:
        folder: of the checkpoint.
        base: the same, or that of the model its adapter is merged into.
        config: of `base`.
        dimension: numbers of an action.
        chunk: steps that are answered.
        device: where the weights go, one by one.
        dtype: that they are kept in.

    Raises `PolicyError` for parts that are missing, malformed or of another size, and for a diffusion head.
    """
    if component(folder, DIFFUSION) is not None:
        raise PolicyError(f"{folder} has a diffusion head, but only heads of L1 regression are supported.")
    head_path = component(folder, HEAD)
    if head_path is None:
        raise PolicyError(f"{folder} is no OpenVLA-OFT checkpoint: {HEAD}--*.pt is missing.")
    adapter = None if base == folder else folder / ADAPTER
    model = load_model(base, config, device, dtype, adapter)
    width = model.language_model.config.hidden_size
    with torch.device("meta"):
        head = ActionHead(width, dimension)
    load_into(head, read_state(head_path), device, dtype, source=str(head_path))
    state = _state(folder, width, device, dtype)
    film = None
    path = component(folder, VISION)
    if path is not None:
        film = _film(path, model, width, device, dtype)
    return OftModel(model, head, chunk, state, film).eval().requires_grad_(False)


def _state(folder: Path, width: int, device: torch.device, dtype: torch.dtype) -> StateProjector | None:
    path = component(folder, STATE)
    if path is None:
        return None
    table = read_state(path)
    first = table.get("fc1.weight")
    if first is None or first.dim() != 2:
        raise PolicyError(f"{path} lacks the matrix fc1.weight.")
    with torch.device("meta"):
        projector = StateProjector(first.shape[1], width)
    load_into(projector, table, device, dtype, source=str(path))
    return projector


def _film(path: Path, model: OpenVlaModel, width: int, device: torch.device, dtype: torch.dtype) -> Film:
    """The towers of the file in place of the model's, and the layers that were added to them."""
    added: dict[str, Tensor] = {}
    towers: dict[str, Tensor] = {}
    for name, tensor in read_state(path).items():
        found = _FILM.fullmatch(name)
        if found is not None:
            added[f"{found[1]}.blocks.{found[2]}.{found[3]}.{found[4]}"] = tensor
        else:
            # the wrapper holds the vision backbone, and every wrapped block the original one
            towers[name.replace(".block.", ".").replace(".base_layer.", ".")] = tensor
    with torch.device("meta"):
        film = Film(model.vision_backbone, width)
    last = {
        prefix: f"{prefix}.blocks.{tower.depth - 1}."
        for prefix, tower in zip(("featurizer", "fused_featurizer"), model.config.towers, strict=False)
    }
    load_into(
        film, added, device, dtype, source=str(path),
        ignore=lambda name: any(name.startswith(one) for one in last.values()),
    )  # fmt: skip
    _replace(model.vision_backbone, towers, model.config, path, device, dtype)
    return film


def _replace(
    vision: nn.Module, table: Mapping[str, Tensor], config: OpenVlaConfig, path: Path,
    device: torch.device, dtype: torch.dtype,
) -> None:  # fmt: skip
    """The file's weights in place of the module's, low-rank updates merged, one at a time."""
    wanted: dict[str, Tensor] = {}
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in table.items():
        found = _LORA.fullmatch(name)
        own = name if found is None else f"{found[1]}.weight"
        if unused(own, config):
            continue
        if found is None:
            wanted[name] = tensor
        else:
            halves.setdefault(own, {})[found[2]] = tensor
    places = {f"vision_backbone.{name}": value.shape for name, value in vision.named_parameters()}
    for name in sorted(places.keys() ^ wanted.keys()):
        raise PolicyError(f"{path} {'lacks' if name in places else 'has too many tensors:'} '{name}'.")
    for name, tensor in wanted.items():
        if tensor.shape != places[name]:
            raise PolicyError(
                f"{path}: tensor '{name}' has shape {tuple(tensor.shape)}, but {tuple(places[name])} is due."
            )
    for name, pair in halves.items():
        if set(pair) != {"A", "B"} or name not in wanted or not _fits(pair, wanted[name]):
            raise PolicyError(
                f"{path}: the adapter of '{name}' lacks a half or its weight, or does not fit it."
            )
    for name, tensor in wanted.items():
        if name in halves:
            a, b = halves[name]["A"], halves[name]["B"]
            tensor = tensor.float() + product(a, b) * (min(len(a), LARGEST_ALPHA) / len(a))
        put(vision, name.removeprefix("vision_backbone."), tensor, device, dtype)


def _fits(pair: Mapping[str, Tensor], weight: Tensor) -> bool:
    a, b = pair["A"], pair["B"]
    return a.dim() == b.dim() == weight.dim() and len(a) > 0 and b.shape[:2] == (len(weight), len(a)) and (
        a.shape[1:] == weight.shape[1:]
    )  # fmt: skip
