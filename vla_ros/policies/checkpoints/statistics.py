"""Whose statistics: the data set's entry in what a checkpoint says about its training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.actions.normalization import ActionStatistics, Normalization, NormalizationKind
from vla_ros.errors import ActionError, PolicyError


def select(table: Mapping[str, Any], key: str, source: str) -> tuple[str, Mapping[str, Any]]:
    """A data set's name and entry.

    Args:
        table: entries by data set (`dataset_statistics.json`, or `norm_stats` of a configuration).
        key: the data set; "": the only one there is.
        source: file and key the table came from.

    Raises `PolicyError` for an unknown key, or when there are several and none was chosen; lists them.
    """
    if not isinstance(table, Mapping):
        raise PolicyError(f"The statistics of {source} must be a mapping from data set to statistics.")
    if not table:
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


def scaling(
    entry: Mapping[str, Any], key: str, kind: NormalizationKind, source: str, section: str = "action"
) -> Normalization:
    """How the actions of a data set, or another section of its entry, are scaled.

    Raises `PolicyError` when the entry has no such section, or one that is malformed.
    """
    found = entry.get(section)
    if not isinstance(found, Mapping):
        raise PolicyError(f"The statistics of '{key}' in {source} have no section '{section}'.")
    try:
        statistics = ActionStatistics.from_mapping(found, f"'{key}' in {source}")
    except (ActionError, TypeError, ValueError) as error:
        raise PolicyError(
            f"The {section} statistics of '{key}' in {source} are malformed: {error}."
        ) from error
    return Normalization(key, kind, statistics)
