"""Options of a policy as they are typed: key=value, or a YAML mapping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from vla_ros.bounds import quoted
from vla_ros.documents import parse_yaml
from vla_ros.errors import ConfigurationError


def parsed_options(texts: Iterable[str], owner: str = "policy") -> dict[str, Any]:
    """Options of `owner` in texts "key=value", each value read as YAML (3, true, name, [1, 2]).

    Raises `ConfigurationError` for one without a key or "=", given twice, or with a value that is no YAML.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        key = key.strip()
        if not sign or not key.isidentifier():
            raise ConfigurationError(
                f"An option of the {owner} was given as {quoted(text)}, but is written key=value."
            )
        if key in options:
            raise ConfigurationError(f"The {owner}'s option '{key}' was given twice.")
        try:
            options[key] = parse_yaml(value) if value.strip() else ""
        except yaml.YAMLError:
            raise ConfigurationError(
                f"The {owner}'s option '{key}' was given as {quoted(value)}, which is no value in YAML."
            ) from None
    return options


def mapped_options(text: str, where: str) -> dict[str, Any]:
    """Options of a YAML mapping; `where` it was given, for the sentence.  Raises `ConfigurationError`."""
    try:
        options = parse_yaml(text)
    except yaml.YAMLError:
        options = None
    if not isinstance(options, dict):
        raise ConfigurationError(f"{where} was given as {quoted(text)}, allowed is a YAML mapping.")
    return options
