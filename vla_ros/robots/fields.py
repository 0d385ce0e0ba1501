"""Reads typed values from a YAML mapping; every error names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_ros.bounds import quoted
from vla_ros.documents import parse_yaml
from vla_ros.errors import ConfigurationError, did_you_mean
from vla_ros.types import Array, Pose


def read_yaml(path: Path) -> Fields:
    """The mapping in a YAML file.

    Raises:
        ConfigurationError: unreadable, not YAML (with the line), or not a mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path} cannot be read: {problem}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigurationError(f"{path}{line}: broken YAML: {problem}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold a mapping of keys, got {type(content).__name__}")
    return Fields(path, "", content)


class Fields:
    """A mapping whose values are taken one by one; `finish` refuses what was never asked for."""

    def __init__(self, path: Path, prefix: str, content: Mapping[Any, Any]) -> None:
        """`prefix` is the dotted path of the mapping in the file, for error sentences."""
        self.path = path
        self._prefix = prefix
        self._content = content
        self._taken: set[str] = set()
        self._known: set[str] = set()

    def error(self, key: str, problem: str) -> ConfigurationError:
        """The exception to raise for `key`."""
        return ConfigurationError(f"{self.path}: {self._prefix}{key}: {problem}")

    def __contains__(self, key: str) -> bool:
        """Whether the file has `key`, which is thereby known here."""
        self._known.add(key)
        return key in self._content

    def names(self) -> list[str]:
        """Keys in the order of the file."""
        return [str(key) for key in self._content]

    def take(self, key: str) -> Any:
        """The raw value of a required key."""
        self._known.add(key)
        if key not in self._content:
            raise self.error(key, "missing")
        self._taken.add(key)
        return self._content[key]

    def finish(self) -> None:
        """Refuse unknown keys."""
        strange = [key for key in self.names() if key not in self._taken]
        if strange:
            known = sorted(self._known)
            hint = did_you_mean(strange[0], known)
            raise self.error(strange[0], f"unknown key; known here: {', '.join(known)}.{hint}")

    def section(self, key: str) -> Fields:
        """A nested mapping."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a mapping, got {quoted(value)}")
        return Fields(self.path, f"{self._prefix}{key}.", value)

    def sections(self, key: str) -> list[Fields]:
        """A list of mappings."""
        value = self.take(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"must be a list of mappings, got {quoted(value)}")
        return [Fields(self.path, f"{self._prefix}{key}[{i}].", item) for i, item in enumerate(value)]

    def mapping(self, key: str) -> dict[str, object]:
        """A nested mapping taken as it is."""
        section = self.section(key)
        return {name: section.take(name) for name in section.names()}

    def text(self, key: str) -> str:
        """A non-empty string."""
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a text, got {quoted(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A truth value: true or false in YAML."""
        if key not in self:
            return default
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {quoted(value)}")
        return value

    def number(self, key: str, low: float = -np.inf, high: float = np.inf, open_low: bool = False) -> float:
        """A finite number in [low, high], or (low, high] when `open_low`."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise self.error(key, f"must be a finite number, got {quoted(value)}")
        if not low <= value <= high or (open_low and value == low):
            bound = f"{'above' if open_low else 'at least'} {low:g}" if value <= low else f"at most {high:g}"
            raise self.error(key, f"must be {bound}, got {value:g}")
        return float(value)

    def positive(self, key: str, high: float = np.inf) -> float:
        """A finite number above zero."""
        return self.number(key, 0.0, high, open_low=True)

    def texts(self, key: str) -> tuple[str, ...]:
        """A non-empty list of different strings."""
        value = self.take(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise self.error(key, f"must be a list of names, got {quoted(value)}")
        if len(set(value)) != len(value):
            raise self.error(key, f"names a thing twice: {', '.join(value)}")
        return tuple(value)

    def array(self, key: str, shape: tuple[int, ...], positive: bool = False) -> Array:
        """Finite numbers of the given shape."""
        value = self.take(key)
        wanted = " x ".join(str(n) for n in shape)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self.error(key, f"must be {wanted} numbers, got {quoted(value)}") from error
        if array.shape != shape:
            got = " x ".join(str(n) for n in array.shape) or "one value"
            raise self.error(key, f"must be {wanted} numbers, got {got}")
        if not np.isfinite(array).all():
            raise self.error(key, f"must be finite, got {quoted(value)}")
        if positive and not (array > 0.0).all():
            raise self.error(key, f"must be above 0, got {quoted(value)}")
        return array

    def pose(self, upright: bool = False) -> Pose:
        """`position` (3,) [m] and unit `quaternion` (4,) (x, y, z, w) of this mapping.

        With `upright` the quaternion may be left out.
        """
        position = self.array("position", (3,))
        if upright and "quaternion" not in self:
            return Pose(position, np.array([0.0, 0.0, 0.0, 1.0]))
        quaternion = self.array("quaternion", (4,))
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > 1e-3:
            raise self.error("quaternion", f"must have unit norm, got {norm:.4f}")
        return Pose(position, quaternion / norm)
