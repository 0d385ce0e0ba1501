"""Whose statistics: the data set's entry in what a checkpoint says about its training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.errors import PolicyError


def select(table: Mapping[str, Any], key: str, source: str) -> tuple[str, Mapping[str, Any]]:
    """A data set's name and entry.

    Args:
        table: entries by data set (`dataset_statistics.json`, or `norm_stats` of a configuration).
        key: the data set; "": the only one there is.
        source: file and key the table came from.

    Raises `PolicyError` for an unknown key, or when there are several and none was chosen; lists them.
    """
    if not isinstance(table, Mapping) or not table:
        raise PolicyError(f"{source} holds no statistics of any data set.")
    names = ", ".join(str(name) for name in table)
    if not key:
        if len(table) > 1:
            raise PolicyError(
                f"{source} holds several data sets and the option 'normalization_key' chooses none: {names}."
            )
        key = next(iter(table))
    if key not in table:
        raise PolicyError(f"{source} has no data set '{key}', there is {names}.")
    entry = table[key]
    if not isinstance(entry, Mapping):
        raise PolicyError(f"The entry '{key}' of {source} is no map.")
    return key, entry
