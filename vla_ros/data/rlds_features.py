"""features.json of a TFDS data set, flattened to the names that tf.train.Example uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.data.json_object import read_json
from vla_ros.errors import DataError

NUMBER, TEXT, IMAGE = "number", "text", "image"
_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)) | {"bool"}
_FLOATS = frozenset({"float32", "float64", "float16", "bfloat16"})


@dataclass(frozen=True)
class Feature:
    """One leaf.  `shape` is that of one step (or of the episode), without the time axis."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    in_steps: bool

    @property
    def is_integer(self) -> bool:
        """Stored as int64 list."""
        return self.dtype in _INTEGERS


def load_features(path: Path) -> tuple[Feature, ...]:
    """Leaves of features.json, `steps/...` first seen as steps.

    Raises `DataError` when the file is broken or holds a feature of a kind that is not read.
    """
    leaves: list[Feature] = []
    try:
        _walk(read_json(path), "", False, leaves)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise DataError(f"{path} does not describe TFDS features: {error!r}.") from error
    except _UnknownFeatureError as error:
        raise DataError(f"{path}: {error}") from error
    if not any(leaf.in_steps for leaf in leaves):
        raise DataError(f"{path} has no feature 'steps'; it is not a data set of episodes (RLDS).")
    return tuple(leaves)


class _UnknownFeatureError(Exception):
    pass


def _walk(node: Mapping[str, Any], name: str, in_steps: bool, leaves: list[Feature]) -> None:
    if "featuresDict" in node:
        for key, child in node["featuresDict"]["features"].items():
            _walk(child, f"{name}/{key}" if name else key, in_steps, leaves)
    elif "sequence" in node:
        if name != "steps":
            raise _UnknownFeatureError(f"the sequence '{name}' is not read, only the sequence 'steps' is.")
        _walk(node["sequence"]["feature"], name, True, leaves)
    elif "text" in node:
        leaves.append(Feature(name, TEXT, "string", (), in_steps))
    elif "image" in node:
        image = node["image"]
        leaves.append(Feature(name, IMAGE, image.get("dtype", "uint8"), _shape(image), in_steps))
    elif "tensor" in node:
        leaves.append(_tensor(node["tensor"], name, in_steps))
    else:
        kind = str(node.get("pythonClassName", "unknown")).rsplit(".", 1)[-1]
        raise _UnknownFeatureError(f"the feature '{name}' is of kind {kind}, which is not read.")


def _tensor(tensor: Mapping[str, Any], name: str, in_steps: bool) -> Feature:
    encoding = tensor.get("encoding", "none")
    dtype, shape = str(tensor["dtype"]), _shape(tensor)
    if encoding not in ("none", ""):
        raise _UnknownFeatureError(f"the tensor '{name}' is encoded as '{encoding}', which is not read.")
    if dtype in ("string", "object"):
        if shape:
            raise _UnknownFeatureError(f"the feature '{name}' is an array of strings, which is not read.")
        return Feature(name, TEXT, "string", (), in_steps)
    if dtype not in _INTEGERS | _FLOATS:
        raise _UnknownFeatureError(f"the tensor '{name}' is of type '{dtype}', which is not read.")
    if any(d < 0 for d in shape):  # TFDS writes a dimension of unknown length as -1
        raise _UnknownFeatureError(f"the tensor '{name}' has a dimension of unknown length.")
    return Feature(name, NUMBER, dtype, shape, in_steps)


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(d) for d in node.get("shape", {}).get("dimensions", ()))
