"""The files of an Octo checkpoint, as they lie in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.actions.normalization import ActionStatistics, Normalization
from vla_ros.errors import ActionError, PolicyError
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.checkpoints.statistics import select
from vla_ros.policies.octo.config import OctoConfig
from vla_ros.policies.octo.flax_msgpack import flatten, read_flax
from vla_ros.policies.octo.language import FILES, Tokenizer, read_tokenizer

CONFIG, STATISTICS, EXAMPLE = "config.json", "dataset_statistics.json", "example_batch.msgpack"
LIGHT = (CONFIG, STATISTICS, *FILES)
"""What is read before the weights."""


def needed_files(step: int) -> tuple[str, ...]:
    """Patterns of all files of a checkpoint that are read, with the weights of a step; 0: of any."""
    under = str(step) if step else "*"
    return (*LIGHT, f"{under}/default/checkpoint", f"{under}/checkpoint")


def weights_file(folder: Path, step: int = 0) -> Path:
    """The weights of a training step, 0: of the last.  Raises `PolicyError`."""
    steps = sorted(int(one.name) for one in folder.iterdir() if one.is_dir() and one.name.isdecimal())
    if step and step not in steps:
        raise PolicyError(f"{folder} has no weights of step {step}, only of {_listed(steps)}.")
    if not steps:
        raise PolicyError(f"{folder} has no weights: no folder in it is named by a number of steps.")
    chosen = folder / str(step or steps[-1])
    for path in (chosen / "default" / "checkpoint", chosen / "checkpoint"):
        if path.is_file():
            return path
    if any(chosen.glob("**/manifest.ocdbt")) or any(chosen.glob("**/.zarray")):
        raise PolicyError(
            f"{chosen} holds each array in files of its own (zarr), but only weights aggregated in one "
            "msgpack file, as the published ones are, can be read."
        )
    raise PolicyError(f"{chosen} holds no file default/checkpoint with weights.")


def read_weights(folder: Path, step: int = 0) -> tuple[dict[str, Any], str]:
    """All arrays of a checkpoint by their "/"-joined names, and the file's name.  Raises `PolicyError`."""
    path = weights_file(folder, step)
    tree = read_flax(path)
    # a whole training state holds the model under "params"
    params = tree.get("params")
    return flatten(params if isinstance(params, Mapping) else tree), str(path)


def read_normalization(folder: Path, key: str, config: OctoConfig) -> Normalization:
    """How the answers are scaled: the statistics of the data set `key`; "" stands for the only one.

    Statistics of a single data set may lie flat in the file; any key then names them.  Raises `PolicyError`.
    """
    path = folder / STATISTICS
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(table, dict):
        raise PolicyError(f"{path} must hold a map of data sets, not {table!r:.40}.")
    if "action" in table and "mean" in (table["action"] or ()):
        table = {key or config.data_set or "action": table}
    name, entry = select(table, key, str(path))
    action = entry.get("action") if isinstance(entry, Mapping) else None
    if not isinstance(action, Mapping):
        raise PolicyError(f"{path} has no statistics of the actions of '{name}'.")
    try:
        statistics = ActionStatistics.from_mapping(action, f"{path}: {name}")
    except ActionError as error:
        raise PolicyError(f"{path} is of no use: {error}.") from error
    return Normalization(name, config.normalization, statistics)


def find_tokenizer(folder: Path, source: str, config: OctoConfig) -> Tokenizer:
    """The tokenizer of `source`, a folder or hub name; "": beside the checkpoint, else as it says.

    Raises `PolicyError`.
    """
    if not source and any((folder / name).is_file() for name in FILES):
        return read_tokenizer(folder, config.instruction_tokens)
    # the original names t5-base without its owner, as the hub once did
    bare = "/" not in config.tokenizer
    wanted = source or (f"google-t5/{config.tokenizer}" if bare else config.tokenizer)
    try:
        found = checkpoint_folder(wanted, FILES)
        return read_tokenizer(found, config.instruction_tokens)
    except PolicyError as error:
        raise PolicyError(
            f"The instruction's tokenizer '{wanted}' cannot be had ({str(error).rstrip('.')}); "
            f"put its {' or '.join(FILES)} into {folder}, or name a folder by the option 'tokenizer'."
        ) from error


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
