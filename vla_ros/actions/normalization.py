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
    """How values were scaled for training.

    NONE: values are physical; BOUNDS_Q99: q01..q99 to -1..1 (OpenVLA, Octo); BOUNDS: minimum..maximum to
    -1..1 (OpenVLA-OFT on some robots); NORMAL: zero mean, unit deviation (Octo).
    """

    NONE = "none"
    BOUNDS = "bounds"
    BOUNDS_Q99 = "bounds_q99"
    NORMAL = "normal"


@dataclass(frozen=True)
class ActionStatistics:
    """Per-dimension statistics, each (dimension,); `mask` is False where values pass unchanged."""

    low: Array
    """1 % quantile."""
    high: Array
    """99 % quantile."""
    mean: Array
    std: Array
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    source: str = ""
    minimum: Array | None = None
    maximum: Array | None = None

    @property
    def dimension(self) -> int:
        """Length of an action vector."""
        return len(self.mask)

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any], source: str = "") -> ActionStatistics:
        """From an "action" entry of dataset_statistics.json: q01, q99 (p01, p99), mean, std, min, max, mask.

        Raises `ActionError` when it is no such entry, or its numbers are not finite, of different lengths or
        in the wrong order.
        """
        where = source or "the data set"
        if not isinstance(entry, Mapping):
            raise ActionError(f"statistics of {where} must be a mapping, but are a {type(entry).__name__}")
        low = _row(entry, ("q01", "p01"), where)
        high = _row(entry, ("q99", "p99"), where)
        mean, std = _row(entry, ("mean",), where), _row(entry, ("std",), where)
        minimum, maximum = _row(entry, ("min",), where), _row(entry, ("max",), where)
        given = [row for row in (low, high, mean, std, minimum, maximum) if row is not None]
        if not any(
            one is not None and two is not None for one, two in ((low, high), (mean, std), (minimum, maximum))
        ):
            raise ActionError(f"statistics of {where} have neither q01/q99 nor mean/std nor min/max")
        size = len(given[0])
        if any(len(row) != size for row in given):
            raise ActionError(f"statistics of {where} must be {size} finite numbers each")
        for one, two, names in ((low, high, "q01 above q99"), (minimum, maximum, "min above max")):
            if one is not None and two is not None and (one > two).any():
                raise ActionError(
                    f"statistics of {where} have {names} in dimension {int((one > two).argmax())}"
                )
        if std is not None and (std < 0.0).any():
            raise ActionError(f"statistics of {where} have a negative std")
        mask = entry.get("mask")
        if mask is None:
            mask = [True] * size
        if (
            not isinstance(mask, (list, tuple, np.ndarray))
            or len(mask) != size
            or not all(isinstance(flag, (bool, np.bool_)) for flag in mask)
        ):
            raise ActionError(f"the mask of {where} must be {size} times true or false")
        return cls(
            np.full(size, -1.0) if low is None else low,
            np.full(size, 1.0) if high is None else high,
            np.zeros(size) if mean is None else mean,
            np.ones(size) if std is None else std,
            np.array(mask, dtype=bool),
            source,
            minimum,
            maximum,
        )


def _row(entry: Mapping[str, Any], names: tuple[str, ...], where: str) -> Array | None:
    values = next((entry[name] for name in names if entry.get(name) is not None), None)
    if values is None:
        return None
    try:
        row = np.array(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        row = np.full(0, np.nan)
    if row.ndim != 1 or row.size == 0 or not np.isfinite(row).all():
        raise ActionError(f"{names[0]} in the statistics of {where} must be a list of finite numbers")
    return row


@dataclass(frozen=True)
class Normalization:
    """How a checkpoint's actions are scaled: by which rule, by the statistics of which data set."""

    key: str
    """The data set's name in the checkpoint's statistics; every `PolicyOutput` made with it carries it."""
    kind: NormalizationKind
    statistics: ActionStatistics


def _bounds(kind: NormalizationKind, statistics: ActionStatistics) -> tuple[Array, Array]:
    if kind is NormalizationKind.BOUNDS_Q99:
        return statistics.low, statistics.high
    if statistics.minimum is None or statistics.maximum is None:
        raise ActionError(f"statistics of {statistics.source or 'the data set'} have no min and max")
    return statistics.minimum, statistics.maximum


def unnormalize(values: Array, kind: NormalizationKind, statistics: ActionStatistics | None) -> Array:
    """Normalised (..., dimension) to physical values; formulas as OpenVLA (bounds) and Octo (normal).

    Raises `ActionError` when the statistics are missing or of another dimension.
    """
    if kind is NormalizationKind.NONE:
        return values
    if statistics is None:
        raise ActionError(f"values are normalised as {kind.value}, but no statistics were given")
    if values.shape[-1] != statistics.dimension:
        raise ActionError(
            f"values have {values.shape[-1]} dimensions, but the statistics of {statistics.source} "
            f"have {statistics.dimension}"
        )
    if kind is NormalizationKind.NORMAL:
        physical = values * statistics.std + statistics.mean
    else:
        low, high = _bounds(kind, statistics)
        physical = 0.5 * (values + 1.0) * (high - low) + low
    return np.where(statistics.mask, physical, values)


def normalize(values: Array, kind: NormalizationKind, statistics: ActionStatistics | None) -> Array:
    """Inverse of `unnormalize`; bounds are clipped to [-1, 1], dimensions without spread become 0.

    Raises `ActionError` when the statistics are missing or of another dimension.
    """
    if kind is NormalizationKind.NONE:
        return values
    if statistics is None:
        raise ActionError(f"values are to be normalised as {kind.value}, but no statistics were given")
    if values.shape[-1] != statistics.dimension:
        raise ActionError(
            f"values have {values.shape[-1]} dimensions, but the statistics of {statistics.source} "
            f"have {statistics.dimension}"
        )
    if kind is NormalizationKind.NORMAL:
        scaled = (values - statistics.mean) / (statistics.std + 1e-8)
    else:
        low, high = _bounds(kind, statistics)
        span = high - low
        scaled = np.clip(2.0 * (values - low) / (span + 1e-8) - 1.0, -1.0, 1.0)
        scaled = np.where(span == 0.0, 0.0, scaled)
    return np.where(statistics.mask, scaled, values)
