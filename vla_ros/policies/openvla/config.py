"""What a checkpoint's config.json says of an OpenVLA model: towers, images, language model, statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.errors import PolicyError

CONFIG = "config.json"
STATISTICS = "dataset_statistics.json"
RESIZING = ("resize-naive", "resize-crop", "letterbox")
PATCH = 14
"""Pixels a patch is wide and high, in both towers."""
BINS = 256


@dataclass(frozen=True)
class TowerConfig:
    """A vision transformer."""

    kind: str
    """`dino` (class token, registers, layer scale) or `siglip` (none of these)."""
    width: int
    depth: int
    """Blocks of the whole model, of which the last is not used."""
    heads: int
    hidden: int
    """Width of the network in a block."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def registers(self) -> int:
        """Register tokens between the class token and the patches."""
        return 4 if self.kind == "dino" else 0

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches."""
        return 1 + self.registers if self.kind == "dino" else 0


def _dino(width: int, depth: int, heads: int) -> TowerConfig:
    return TowerConfig("dino", width, depth, heads, 4 * width, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _siglip(width: int, depth: int, heads: int) -> TowerConfig:
    hidden = int(width * 3.7362)
    return TowerConfig("siglip", width, depth, heads, hidden, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": _dino(1024, 24, 16),
    "vit_so400m_patch14_siglip_224": _siglip(1152, 27, 16),
    "vit_so400m_patch14_siglip_384": _siglip(1152, 27, 16),
}
"""Sizes by timm's names, which checkpoints carry (timm, vision_transformer.py)."""


def resized(tower: TowerConfig, width: int, depth: int, heads: int) -> TowerConfig:
    """A tower of the same kind in other sizes, as small test models have."""
    return (_dino if tower.kind == "dino" else _siglip)(width, depth, heads)


@dataclass(frozen=True)
class OpenVlaConfig:
    """Everything but weights."""

    towers: tuple[TowerConfig, ...]
    image_size: int
    resizing: str
    text: Mapping[str, Any]
    """The language model's own section."""
    vocabulary: int
    """Text tokens, without the rows that only fill up: action tokens are the last of these."""
    conversation: bool
    """Whether the language model is Vicuna, which is spoken to in a conversation (OpenVLA v0.1)."""
    statistics: Mapping[str, Any]
    source: str

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return int((self.image_size // PATCH) ** 2)

    @property
    def width(self) -> int:
        """Size of a patch's features, all towers together."""
        return sum(tower.width for tower in self.towers)


def read_config(folder: Path, towers: Mapping[str, TowerConfig] = TOWERS) -> OpenVlaConfig:
    """Read a checkpoint's config.json, and its dataset_statistics.json where there is one.

    Args:
        folder: of the checkpoint.
        towers: sizes by name, for models with towers of other sizes.

    Raises `PolicyError` for a file that is missing or malformed, or a model of another kind.
    """
    path = folder / CONFIG
    given = read_json(path)
    if isinstance(given.get("vla"), dict):
        given = _of_training_run(given, given["vla"])
    if given.get("model_type", "openvla") not in ("openvla", "prismatic"):
        raise PolicyError(f"{path} describes a model of type '{given['model_type']}', not openvla.")
    names = given.get("timm_model_ids") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PolicyError(f"{path}: timm_model_ids must be a list of names, not {names!r:.60}.")
    unknown = [name for name in names if name not in towers]
    if not names or unknown:
        raise PolicyError(
            f"{path} names the vision towers {', '.join(map(str, names)) or 'none'}, "
            f"known are {', '.join(towers)}."
        )
    kinds = tuple(towers[name].kind for name in names)
    if kinds not in (("dino", "siglip"), ("siglip",), ("dino",)):
        raise PolicyError(f"{path} names towers of kinds {', '.join(kinds)}, but one or dino, siglip can be.")
    resizing = given.get("image_resize_strategy", "resize-naive")
    if resizing not in RESIZING:
        raise PolicyError(f"{path}: image_resize_strategy is '{resizing}', known are {', '.join(RESIZING)}.")
    sizes = given.get("image_sizes") or [224]
    sizes = sizes if isinstance(sizes, list) else [sizes]
    if not all(_natural(size) and size == sizes[0] for size in sizes) or not PATCH <= sizes[0] <= 1024:
        raise PolicyError(f"{path}: image_sizes is {sizes}, but must be one size of {PATCH} to 1024 pixels.")
    if given.get("n_action_bins", BINS) != BINS:
        raise PolicyError(f"{path}: n_action_bins is {given['n_action_bins']}, but only {BINS} is supported.")
    text = given.get("text_config") or {}
    if not isinstance(text, dict):
        raise PolicyError(f"{path}: text_config must be a mapping.")
    _check_text(text, path)
    rows, filler = text.get("vocab_size", 32064), given.get("pad_to_multiple_of", 64)
    if not isinstance(rows, int) or not isinstance(filler, int) or not BINS <= rows - filler <= rows:
        raise PolicyError(f"{path}: vocab_size {rows} less {filler} leaves no room for {BINS} action tokens.")
    statistics = folder / STATISTICS
    table = read_json(statistics) if statistics.is_file() else given.get("norm_stats") or {}
    return OpenVlaConfig(
        tuple(towers[name] for name in names), sizes[0], resizing, text, rows - filler,
        "vicuna" in str(given.get("llm_backbone_id", "")), table, str(path),
    )  # fmt: skip


def _of_training_run(given: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """What the original's conversion writes for a folder of its training code (prismatic/conf/vla.py).

    Training ran on Llama's own configuration, whose epsilon is not the default that the converted one has.
    """
    name = str(run.get("base_vlm", ""))
    dino = ["vit_large_patch14_reg4_dinov2.lvd142m"] if "dinosiglip" in name else []
    siglip = ["vit_so400m_patch14_siglip_224"] if "siglip" in name else []
    text = given.get("text_config", {})
    return {
        "timm_model_ids": dino + siglip,
        "image_sizes": given.get("image_sizes", 224),
        "llm_backbone_id": "llama2-7b-pure" if name.startswith("prism") else "vicuna-v15-7b",
        "text_config": {"rms_norm_eps": 1e-5, **text} if isinstance(text, dict) else text,
    }


def _check_text(text: Mapping[str, Any], path: Path) -> None:
    """Sizes are whole numbers above 0, the rest numbers above 0."""
    for key, value in text.items():
        whole = key.startswith(("num_", "max_")) or key.endswith("_size") or key == "head_dim"
        if value is None or not (whole or key in ("rms_norm_eps", "rope_theta")):
            continue
        if not (_natural(value) if whole else isinstance(value, (int, float)) and 0.0 < value < 1e12):
            raise PolicyError(f"{path}: {key} of text_config is {value!r:.30}, but must be a number above 0.")


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.  Raises `PolicyError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(f"{path} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is no readable JSON: {error}.") from None
    if not isinstance(content, dict):
        raise PolicyError(f"{path} must hold a mapping.")
    return content
