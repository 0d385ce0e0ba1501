"""Low-rank adapters (arXiv 2106.09685) as peft saves them, merged into the weights: W + scale * B A.

A convolution's A has the shape of its weight with r channels out, its B is 1 x 1 (peft, tuners/lora).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.safetensors_shards import Shards

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])(?:\.\w+)?\.weight")


@dataclass(frozen=True)
class AdapterConfig:
    """What is needed of adapter_config.json."""

    rank: int
    alpha: float
    stabilised: bool
    """Whether the scale is alpha / sqrt(r) (arXiv 2312.03732)."""
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    """By pattern of the module's name, where they differ."""
    base: str
    """Folder or hub name of the model it was trained on."""

    def scale(self, module: str) -> float:
        """Factor of B A for a module."""
        rank, alpha = _match(self.ranks, module, self.rank), _match(self.alphas, module, self.alpha)
        return float(alpha / (math.sqrt(rank) if self.stabilised else rank))


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read adapter_config.json.  Raises `PolicyError` for another kind of adapter than plain LoRA."""
    path = folder / CONFIG
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is no JSON: {error}.") from error
    if not isinstance(table, dict) or table.get("peft_type", "LORA") != "LORA":
        raise PolicyError(f"{path} describes no LoRA adapter.")
    for key in ("use_dora", "fan_in_fan_out", "modules_to_save", "use_qalora", "lora_bias"):
        if table.get(key):
            raise PolicyError(f"{path}: {key} is set, which is not supported.")
    if table.get("bias", "none") != "none":
        raise PolicyError(f"{path}: bias is '{table['bias']}', but only adapters without are supported.")
    rank, alpha = table.get("r"), table.get("lora_alpha", 8)
    ranks, alphas = table.get("rank_pattern") or {}, table.get("alpha_pattern") or {}
    if not isinstance(rank, int) or not _numbers([rank, alpha]):
        raise PolicyError(
            f"{path}: r is {rank!r:.20} and lora_alpha {alpha!r:.20}, but must be numbers above 0."
        )
    for patterns in (ranks, alphas):
        if not isinstance(patterns, dict) or not _numbers(patterns.values()) or 0 in patterns.values():
            raise PolicyError(f"{path}: rank_pattern and alpha_pattern must map names to numbers above 0.")
    return AdapterConfig(
        rank, float(alpha), bool(table.get("use_rslora")), ranks, alphas,
        str(table.get("base_model_name_or_path") or ""),
    )  # fmt: skip


def merge_adapter(module: nn.Module, folder: Path, ignore: Callable[[str], bool] | None = None) -> int:
    """Add an adapter to a loaded module's weights, in place.

    Args:
        module: has the weights.
        folder: of the adapter.
        ignore: names of weights that the module need not have; what is for them is left out.

    Returns how many weights were changed.  Raises `PolicyError` for an adapter that is malformed or made for
    another model; nothing is changed then.
    """
    config, path = read_adapter_config(folder), folder / WEIGHTS
    if not path.is_file():
        raise PolicyError(f"{folder} is no adapter: {WEIGHTS} is missing.")
    shards = Shards.of_file(path)
    pairs: dict[str, dict[str, str]] = {}
    for name in shards.names():
        found = _KEY.fullmatch(name)
        if found is None:
            raise PolicyError(f"{path}: '{name:.80}' is no part of a LoRA adapter.")
        pairs.setdefault(found["module"], {})[found["half"]] = name
    weights = dict(module.named_parameters())
    chosen = []
    for target, halves in pairs.items():
        if ignore is not None and ignore(f"{target}.weight"):
            continue
        if set(halves) != {"A", "B"}:
            raise PolicyError(f"{path}: the adapter of '{target}' lacks one of its two halves.")
        weight = weights.get(f"{target}.weight")
        if weight is None:
            raise PolicyError(f"{path} adapts '{target}', which the model does not have.")
        _check(shards, halves, tuple(weight.shape), path)
        chosen.append((target, halves, weight))
    for target, halves, weight in chosen:
        update = product(shards.tensor(halves["A"]), shards.tensor(halves["B"])) * config.scale(target)
        weight.data.copy_(weight.data.float() + update.to(weight.device))
    return len(chosen)


def product(a: Tensor, b: Tensor) -> Tensor:
    """B A in fp32, in the shape of the weight: (out, in), or (out, in, h, w) of a convolution."""
    return (b.float().flatten(1) @ a.float().flatten(1)).view(b.shape[0], *a.shape[1:])


def _check(shards: Shards, halves: Mapping[str, str], shape: tuple[int, ...], path: Path) -> None:
    a, b = shards.shape(halves["A"]), shards.shape(halves["B"])
    fits = (
        len(a) == len(b) == len(shape) and a[1:] == shape[1:] and b[0] == shape[0] and a[0] == b[1]
        and all(size == 1 for size in b[2:])
    )  # fmt: skip
    if not fits:
        raise PolicyError(f"{path}: '{halves['A']}' {a} and its B {b} do not fit a weight of {shape}.")


def _match(patterns: Mapping[str, Any], module: str, default: float) -> float:
    """The value whose pattern is the end of the module's name, as peft looks it up."""
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return float(value)
        except re.error:
            continue
    return default


def _numbers(values: Any) -> bool:
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in values
    )
