"""Checkpoints of OpenVLA's original training code: one .pt file, names of another tree.

vision_backbone/dino_featurizer, siglip_featurizer (or featurizer) -> vision_backbone.featurizer,
fused_featurizer; projector/projector.0, 2, 4 -> projector.fc1, fc2, fc3; llm_backbone/llm -> language_model;
gamma -> scale_factor (openvla, vla-scripts/extern/convert_openvla_weights_to_hf.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.pickled import read_pickled
from vla_ros.policies.checkpoints.safetensors_shards import INDEX, SINGLE

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("vision_backbone", "projector", "llm_backbone")
_LAYERS = {"0": "fc1", "2": "fc2", "4": "fc3"}


def is_prismatic(folder: Path) -> bool:
    """Whether a folder's weights are such a file, and no safetensors."""
    return not (folder / INDEX).is_file() and not (folder / SINGLE).is_file() and bool(_files(folder))


def read_prismatic(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of the newest file in a folder, or its folder `checkpoints`, by the names of the hub form.

    They are mapped from the disk.  Raises `PolicyError` for a file that holds anything but tensors, lacks a
    part or has names that are not known.
    """
    files = _files(folder)
    if not files:
        raise PolicyError(f"{folder} has no file of weights: no .pt there or in its folder 'checkpoints'.")
    path = max(files, key=_step)
    content = read_pickled(path)
    parts = content.get("model")
    if not isinstance(parts, Mapping) or not set(PARTS) <= set(parts):
        raise PolicyError(f"{path} must hold 'model' with {', '.join(PARTS)}.")
    return {name: tensor for part in PARTS for name, tensor in _renamed(parts[part], part, path).items()}


def _files(folder: Path) -> list[Path]:
    return [*folder.glob("*.pt"), *(folder / "checkpoints").glob("*.pt")]


def _step(path: Path) -> tuple[int, str]:
    found = re.search(r"step-(\d+)", path.name)
    return (int(found.group(1)) if found else -1, path.name)


def _renamed(part: Any, name: str, path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    if not isinstance(part, Mapping):
        raise PolicyError(f"{path}: '{name}' must be a map.")
    table: dict[str, Tensor] = {}
    for key, value in part.items():
        own = _rename(str(key), name)
        if own is None or not isinstance(value, Tensor):
            raise PolicyError(f"{path}: '{name}' holds '{key!s:.60}', which is not known.")
        table[own] = value
    return table


def _rename(key: str, part: str) -> str | None:
    head, _, rest = key.partition(".")
    if part == "projector":
        index, _, leaf = rest.partition(".")
        return f"projector.{_LAYERS[index]}.{leaf}" if head == "projector" and index in _LAYERS else None
    if part == "llm_backbone":
        return f"language_model.{rest}" if head == "llm" else None
    if head not in ("dino_featurizer", "siglip_featurizer", "featurizer"):
        return None
    tower = "fused_featurizer" if head == "siglip_featurizer" else "featurizer"
    return f"vision_backbone.{tower}.{re.sub(r'[.]gamma$', '.scale_factor', rest)}"
