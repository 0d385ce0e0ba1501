"""The JSON files beside a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vla_ros.errors import DataError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.  Raises `DataError` when it is missing or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} where a JSON object is expected.")
    return content
