"""Normalisation of actions and its inverse, from a data set's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.types import Array


class NormalizationKind(str, Enum):
    """NONE: values are physical; BOUNDS_Q99: q01..q99 to -1..1; NORMAL: zero mean, unit deviation."""

    NONE = "none"
    BOUNDS_Q99 = "bounds_q99"
    NORMAL = "normal"


@dataclass(frozen=True)
class ActionStatistics:
    """Per-dimension statistics, each (dimension,); `mask` is False where values pass unchanged."""

    low: Array
    high: Array
    mean: Array
    std: Array
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    source: str = ""

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any], source: str = "") -> ActionStatistics:
        """From one "action" entry of a dataset_statistics.json (q01/q99 or p01/p99, mean, std, mask?)."""
        low = entry.get("q01", entry.get("p01"))
        high = entry.get("q99", entry.get("p99"))
        mean, std = entry.get("mean"), entry.get("std")
        if low is None and mean is None:
            raise ActionError(f"statistics of {source or 'the data set'} have neither q01/q99 nor mean/std")
        size = len(low if low is not None else mean)  # type: ignore[arg-type]

        def column(values: Any, default: float) -> Array:
            array = np.full(size, default) if values is None else np.asarray(values, dtype=float)
            if array.shape != (size,) or not np.isfinite(array).all():
                raise ActionError(
                    f"statistics of {source or 'the data set'} must be {size} finite numbers each"
                )
            return array

        mask = np.asarray(entry.get("mask", [True] * size), dtype=bool)
        if mask.shape != (size,):
            raise ActionError(f"the mask of {source or 'the data set'} must have {size} entries")
        return cls(column(low, -1.0), column(high, 1.0), column(mean, 0.0), column(std, 1.0), mask, source)


@dataclass(frozen=True)
class Normalization:
    """How a checkpoint's actions are scaled: by which rule, by the statistics of which data set."""

    key: str
    """The data set's name in the checkpoint's statistics; every `PolicyOutput` made with it carries it."""
    kind: NormalizationKind
    statistics: ActionStatistics


def unnormalize(values: Array, kind: NormalizationKind, statistics: ActionStatistics | None) -> Array:
    """Normalised (..., dimension) to physical values; formulas as OpenVLA (bounds) and Octo (normal)."""
    if kind is NormalizationKind.NONE:
        return values
    if statistics is None:
        raise ActionError(f"values are normalised as {kind.value}, but no statistics were given")
    if values.shape[-1] != len(statistics.mask):
        raise ActionError(
            f"values have {values.shape[-1]} dimensions, but the statistics of {statistics.source} "
            f"have {len(statistics.mask)}"
        )
    if kind is NormalizationKind.BOUNDS_Q99:
        physical = 0.5 * (values + 1.0) * (statistics.high - statistics.low) + statistics.low
    else:
        physical = values * statistics.std + statistics.mean
    return np.where(statistics.mask, physical, values)


def normalize(values: Array, kind: NormalizationKind, statistics: ActionStatistics | None) -> Array:
    """Inverse of `unnormalize`; bounds are clipped to [-1, 1], dimensions without spread become 0."""
    if kind is NormalizationKind.NONE:
        return values
    if statistics is None:
        raise ActionError(f"values are to be normalised as {kind.value}, but no statistics were given")
    if kind is NormalizationKind.BOUNDS_Q99:
        span = statistics.high - statistics.low
        scaled = np.clip(2.0 * (values - statistics.low) / (span + 1e-8) - 1.0, -1.0, 1.0)
        scaled = np.where(span == 0.0, 0.0, scaled)
    else:
        scaled = (values - statistics.mean) / (statistics.std + 1e-8)
    return np.where(statistics.mask, scaled, values)
