"""YAML and JSON from outside, read within bounds, whoever wrote it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from vla_ros.bounds import MAX_DOCUMENT, MAX_ENTRIES, MAX_INTEGER, MAX_NESTING


class ExcessError(yaml.YAMLError):
    """YAML that is too large, too deep, or holds a number that is too large; `problem` says so."""

    def __init__(self, problem: str) -> None:
        """`problem`: the end of a sentence."""
        super().__init__(problem)
        self.problem = problem
        self.problem_mark = None


def parse_yaml(text: str) -> Any:
    """The value of a YAML document of plain values.

    Raises `yaml.YAMLError` for whatever is no YAML or beyond the bounds of `vla_ros.bounds`, among it aliases
    that multiply (ten lines can stand for a billion values) or contain themselves.
    """
    if len(text) > MAX_DOCUMENT:
        raise ExcessError(f"{len(text)} characters, allowed are {MAX_DOCUMENT}")
    try:
        content = yaml.safe_load(text)
    except RecursionError:
        raise ExcessError(f"nested more than {MAX_NESTING} deep") from None
    except (ValueError, OverflowError) as error:  # dates that are none, numbers of thousands of digits
        raise ExcessError(f"a value that cannot be read: {str(error):.80}") from None
    _check(content)
    return content


def _check(content: Any) -> None:
    count = 0
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_ENTRIES:
            raise ExcessError(f"more than {MAX_ENTRIES} values, aliases counted each time")
        if depth > MAX_NESTING:
            raise ExcessError(f"nested more than {MAX_NESTING} deep")
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            raise ExcessError(f"a whole number of {len(str(abs(value)))} digits, allowed are 64 bits")
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(item, depth + 1) for item in value]


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.  Raises `ValueError` for what is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
