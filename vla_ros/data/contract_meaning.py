"""Whether two contracts give the numbers and pictures of a data set the same meaning."""

from __future__ import annotations

import json
from typing import Any

import yaml

from vla_ros.documents import parse_yaml

MEANING = ("robot", "action_space", "action_rate", "cameras")
"""Keys of a contract that must be the same; who answered, and how the robot was controlled and limited, may
differ: a person's demonstrations, an expert's and corrections of a policy make one data set."""


def contract_meaning(text: str) -> str:
    """What counts of a contract in YAML, in one form; the text itself where it is no mapping."""
    given = _mapping(text)
    if given is None:
        return text
    return json.dumps(given, sort_keys=True, default=str)


def contract_difference(one: str, other: str) -> str:
    """In what they differ, as the end of a sentence; empty: nothing that counts."""
    if contract_meaning(one) == contract_meaning(other):
        return ""
    a, b = _mapping(one), _mapping(other)
    if a is None or b is None:
        return "one of them has none" if not one or not other else "one of them is no mapping"
    for key in MEANING:
        if a.get(key) != b.get(key):
            return f"'{key}' is {a.get(key)} and {b.get(key)}"
    return "they are written differently"


def _mapping(text: str) -> dict[str, Any] | None:
    """What counts of it."""
    try:
        given = parse_yaml(text)
    except yaml.YAMLError:
        return None
    if not isinstance(given, dict):
        return None
    counts = {key: given.get(key) for key in MEANING}
    if isinstance(counts["cameras"], dict):  # by which topic and form pictures came does not count
        counts["cameras"] = {
            name: {k: v for k, v in camera.items() if k not in ("topic", "compressed")}
            if isinstance(camera, dict)
            else camera
            for name, camera in counts["cameras"].items()
        }
    return counts
