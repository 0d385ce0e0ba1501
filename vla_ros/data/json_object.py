"""The JSON files beside a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_ros.documents import parse_json
from vla_ros.errors import DataError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.  Raises `DataError` when it is missing or is something else."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} where a JSON object is expected.")
    return content
