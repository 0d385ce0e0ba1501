"""What an answer looks like: numbers from 0 to 255, as text or as 256 tokens put to this use.

One step is `terminate x y z roll pitch yaw gripper`, terminate 0 or 1; a chunk is several steps one after the
other (RT-2, arXiv 2307.15818, section 3.2: text integers for PaLI-X, the least used tokens for PaLM-E).
A bin b stands for the normalised value 2 b / 255 - 1 (RT-1, arXiv 2212.06817: 256 uniform bins).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError
from vla_ros.types import Array

LARGEST = 255
MARK = "Action:"
"""Ends a plan: "Plan: pick the can. Action: 0 128 91 241 5 101 127 255"."""


@dataclass(frozen=True)
class Steps:
    """An answer understood."""

    terminate: bool
    """The task is over: so says the first step."""
    values: Array
    """(horizon, dimension), normalised to [-1, 1]."""


def values_of(bins: NDArray[np.int64]) -> Array:
    """Bins 0 to 255 to values in [-1, 1], same shape."""
    values: Array = 2.0 * bins.astype(float) / LARGEST - 1.0
    return values


def bins_of(values: Array) -> NDArray[np.int64]:
    """The nearest bins of values, cut to [-1, 1]; same shape."""
    scaled = (np.clip(values, -1.0, 1.0) + 1.0) * 0.5 * LARGEST
    return np.round(scaled).astype(np.int64)


def to_text(values: Array, terminate: bool = False) -> str:
    """The answer for steps (horizon, dimension), as a model is trained to give it."""
    first = "1" if terminate else "0"
    return " ".join(f"{first} {' '.join(map(str, row))}" for row in bins_of(values).tolist())


def from_numbers(numbers: Sequence[int], horizon: int, dimension: int) -> Steps:
    """Steps from the numbers of an answer.  Raises `PolicyError` unless they are as many and in range."""
    width = dimension + 1
    if len(numbers) != horizon * width:
        raise PolicyError(
            f"The model answered {len(numbers)} numbers, but {horizon} times terminate and {dimension} "
            "are needed."
        )
    table = np.array(numbers, dtype=np.int64).reshape(horizon, width)
    if table.min() < 0 or table.max() > LARGEST or table[:, 0].max() > 1:
        raise PolicyError(
            f"The model answered {' '.join(map(str, numbers))}, which is outside 0 to {LARGEST}."
        )
    return Steps(bool(table[0, 0]), values_of(table[:, 1:]))


def from_text(text: str, horizon: int, dimension: int) -> Steps:
    """Steps from an answer in words.  Raises `PolicyError` for anything that is no such answer."""
    words = text.split()
    if not all(word.isascii() and word.isdigit() and len(word) <= 3 for word in words):
        raise PolicyError(f"The model answered '{text.strip():.80}', which is no row of numbers.")
    return from_numbers([int(word) for word in words], horizon, dimension)
