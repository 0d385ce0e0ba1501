"""What a checkpoint's config.json says of OpenVLA: towers, language model, images, prompt, statistics.

Keys as in prismatic/extern/hf/configuration_prismatic.py of openvla/openvla; the run folder of the original
training code ("vla": {"base_vlm": ...}) is read too.  Numbers only: no weights, no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla_ros.errors import PolicyError

CONFIG = "config.json"
STATISTICS = "dataset_statistics.json"
RESIZES = ("resize-naive", "resize-crop", "letterbox")
PURE, VICUNA = "pure", "vicuna"
"""Forms of the prompt: that of the Llama-2 checkpoints, and the chat of the Vicuna ones (openvla-v01)."""
SIZE_NAMES = ("embed_dim", "depth", "num_heads")


@dataclass(frozen=True)
class TowerConfig:
    """One vision transformer."""

    name: str
    """As timm calls it."""
    embed_dim: int
    depth: int
    num_heads: int
    mlp: int
    """Hidden size of the block's network."""
    prefix: int
    """Tokens before the patches: class token and registers."""
    layer_scale: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int = 224
    patch: int = 14

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_size // self.patch) ** 2


@dataclass(frozen=True)
class _Kind:
    """A published tower; sizes from timm's model cards."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    prefix: int
    layer_scale: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_SIGLIP = _Kind(1152, 27, 16, 3.7362, 0, False, *_HALF)
_KINDS = {
    "vit_large_patch14_reg4_dinov2": _Kind(1024, 24, 16, 4.0, 5, True, *_IMAGENET),
    "vit_so400m_patch14_siglip_224": _SIGLIP,
    "vit_so400m_patch14_siglip_384": _SIGLIP,
}


@dataclass(frozen=True)
class OpenVLAConfig:
    """Everything a model is built and fed by."""

    towers: tuple[TowerConfig, ...]
    """One, or two side by side."""
    text: Mapping[str, Any]
    """Sizes of the language model."""
    resize: str
    prompt: str
    vocabulary: int
    """Action tokens end here; padding tokens of the vocabulary follow."""
    statistics: Mapping[str, Any]
    """By data set."""
    source: str
    statistics_source: str

    @property
    def patches(self) -> int:
        """Vision tokens of one image."""
        return self.towers[0].patches

    @property
    def features(self) -> int:
        """Channels of the towers together."""
        return sum(tower.embed_dim for tower in self.towers)

    @property
    def channels(self) -> int:
        """Channels of one image as it is fed: three a tower."""
        return 3 * len(self.towers)

    @property
    def hidden(self) -> int:
        """Width of the language model."""
        return int(self.text.get("hidden_size", 4096))

    @property
    def parameters(self) -> int:
        """Parameters that are loaded, about."""
        text = self.text
        inner, layers = int(text.get("intermediate_size", 11008)), int(text.get("num_hidden_layers", 32))
        language = layers * (4 * self.hidden**2 + 3 * self.hidden * inner)
        language += 2 * int(text.get("vocab_size", 32064)) * self.hidden
        vision = sum(one.depth * (4 * one.embed_dim**2 + 2 * one.embed_dim * one.mlp) for one in self.towers)
        return language + vision + 4 * self.features**2 + 4 * self.features * self.hidden + self.hidden**2


def read_config(
    folder: Path, vision_sizes: Mapping[str, Mapping[str, int]] | None = None, resize: str = ""
) -> OpenVLAConfig:
    """The configuration of a checkpoint's folder.

    Args:
        folder: holds config.json, and dataset_statistics.json where the checkpoint was fine-tuned.
        vision_sizes: embed_dim, depth and num_heads by timm's name, for towers of other than the published
            sizes; config.json does not hold them.
        resize: how images are resized, in place of what config.json says; "": as it says.

    Raises `PolicyError`.
    """
    path = folder / CONFIG
    table = read_json(path)
    if "vla" in table or ("model" in table and "timm_model_ids" not in table):
        table = _of_training_run(table, path)
    return _with_statistics(_parse(table, str(path), vision_sizes or {}, resize), folder)


def read_json(path: Path) -> dict[str, Any]:
    """A map from a JSON file.  Raises `PolicyError`."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is no JSON: {error}.") from error
    if not isinstance(table, dict):
        raise PolicyError(f"{path} must hold a map, not {table!r:.40}.")
    return table


def _of_training_run(table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the original's conversion would have written for a run of its training code."""
    inner = table.get("vla", table.get("model"))
    if not isinstance(inner, Mapping):
        raise PolicyError(f"{path}: vla must be a map, not {inner!r:.40}.")
    name = str(inner.get("base_vlm") or inner.get("model_id") or "")
    if "dinosiglip" in name:
        towers = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
    elif "siglip" in name:
        towers = ["vit_so400m_patch14_siglip_224"]
    else:
        raise PolicyError(f"{path} builds on '{name}', known are models with dinosiglip or siglip towers.")
    # training ran on Llama's own configuration, whose epsilon is not the default of the converted one
    text = {"vocab_size": 32064, "rms_norm_eps": 1e-5, **dict(table.get("text_config") or {})}
    pure = "prism" in name or "pure" in str(inner.get("llm_backbone_id", ""))
    return {
        "timm_model_ids": towers,
        "use_fused_vision_backbone": len(towers) == 2,
        "image_sizes": table.get("image_sizes") or [224] * len(towers),
        "image_resize_strategy": inner.get("image_resize_strategy", "resize-naive"),
        "llm_backbone_id": inner.get("llm_backbone_id") or ("llama2-7b-pure" if pure else "vicuna-v15-7b"),
        "text_config": text,
    }


def _parse(
    table: Mapping[str, Any], source: str, vision_sizes: Mapping[str, Mapping[str, int]], resize: str
) -> OpenVLAConfig:
    kind = table.get("model_type", "openvla")
    if kind != "openvla":
        raise PolicyError(f"{source} is of a model '{kind}', not of openvla.")
    names, sizes = table.get("timm_model_ids"), table.get("image_sizes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise PolicyError(f"{source}: timm_model_ids must be a list of names, not {names!r:.60}.")
    if isinstance(sizes, int):
        sizes = [sizes] * len(names)
    if not isinstance(sizes, list) or len(sizes) < len(names) or not all(_natural(size) for size in sizes):
        raise PolicyError(f"{source}: image_sizes must be {len(names)} numbers, not {sizes!r:.60}.")
    fused = table.get("use_fused_vision_backbone")
    if fused is None:
        fused = str(table.get("vision_backbone_id", "")).startswith(("dinoclip", "dinosiglip"))
    if len(names) < (2 if fused else 1):
        raise PolicyError(f"{source} wants two towers side by side, but timm_model_ids names {len(names)}.")
    count = 2 if fused else 1
    towers = tuple(
        _tower(name, size, vision_sizes.get(name), source)
        for name, size in zip(names[:count], sizes[:count], strict=True)
    )
    if len({tower.patches for tower in towers}) > 1:
        raise PolicyError(f"{source}: the towers' image_sizes {sizes} give different numbers of patches.")
    acts = table.get("timm_override_act_layers") or []
    if any(act is not None for act in acts):
        raise PolicyError(f"{source}: timm_override_act_layers {acts} is not supported, only null is.")
    strategy = resize or str(table.get("image_resize_strategy", "resize-naive"))
    if strategy not in RESIZES:
        raise PolicyError(f"{source}: images are resized by '{strategy}', known are {', '.join(RESIZES)}.")
    text = table.get("text_config")
    if not isinstance(text, Mapping):
        raise PolicyError(f"{source}: text_config must be a map, not {text!r:.40}.")
    vocabulary = _vocabulary(table, text, source)
    statistics = table.get("norm_stats")
    return OpenVLAConfig(
        towers=towers,
        text=dict(text),
        resize=strategy,
        prompt=VICUNA if "vicuna" in str(table.get("llm_backbone_id", "")) else PURE,
        vocabulary=vocabulary,
        statistics=statistics if isinstance(statistics, Mapping) else {},
        source=source,
        statistics_source=f"norm_stats of {source}",
    )


def _vocabulary(table: Mapping[str, Any], text: Mapping[str, Any], source: str) -> int:
    whole, padding = text.get("vocab_size", 32064), table.get("pad_to_multiple_of", 64)
    bins = table.get("n_action_bins", 256)
    if bins != 256:
        raise PolicyError(f"{source}: n_action_bins is {bins!r:.20}, but only 256 is supported.")
    if not _natural(whole) or not isinstance(padding, int) or not 0 <= padding < whole - 256:
        raise PolicyError(
            f"{source}: vocab_size {whole!r:.20} and pad_to_multiple_of {padding!r:.20} leave no action tokens."
        )
    return int(whole) - padding


def _tower(name: str, size: int, given: Mapping[str, int] | None, source: str) -> TowerConfig:
    kind = _KINDS.get(name.split(".")[0])
    if kind is None:
        raise PolicyError(f"{source} names the vision tower '{name}', known are {', '.join(_KINDS)}.")
    numbers = {key: getattr(kind, key) for key in SIZE_NAMES}
    for key, value in (given or {}).items():
        if key not in numbers or not _natural(value):
            raise PolicyError(
                f"vision_sizes of '{name}': {key} {value!r:.20} is not one of {', '.join(SIZE_NAMES)} above 0."
            )
        numbers[key] = value
    width, depth, heads = (numbers[key] for key in SIZE_NAMES)
    if depth < 2 or width % heads or size < 14:
        raise PolicyError(
            f"A vision tower needs at least 2 blocks, a width its heads divide, and 14 pixels, but '{name}' has "
            f"{depth}, {width} by {heads}, and {size}."
        )
    return TowerConfig(
        name, width, depth, heads, int(width * kind.mlp_ratio), kind.prefix, kind.layer_scale,
        kind.mean, kind.std, size,
    )  # fmt: skip


def _with_statistics(config: OpenVLAConfig, folder: Path) -> OpenVLAConfig:
    """A fine-tuned checkpoint's own statistics take the place of those of its origin."""
    path = folder / STATISTICS
    if not path.is_file():
        return config
    return replace(config, statistics=read_json(path), statistics_source=str(path))


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
