"""What an imported bag says of an episode beside its topics, as one JSON text."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.episode import Episode, SizedInt
from vla_ros.documents import parse_json
from vla_ros.errors import DataError

_FLAGS = ("is_first", "is_last")


@dataclass(frozen=True)
class Extra:
    """Read back."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_space: str = ""
    rate: float = 0.0


def extra_to_text(episode: Episode) -> str:
    """Flags, further features, metadata and names of an episode."""
    flags = {"is_first": episode.is_first, "is_last": episode.is_last}
    return json.dumps(
        {
            "features": {name: _packed(array) for name, array in episode.extra.items()},
            "flags": {name: _packed(array) for name, array in flags.items()},
            "metadata": {key: _plain(value) for key, value in episode.metadata.items()},
            "instructions": list(episode.instructions),
            "action_names": list(episode.action_names),
            "action_space": episode.action_space,
            "rate": episode.rate,
        }
    )


def extra_from_text(text: str, steps: int, where: str) -> Extra:
    """Inverse of `extra_to_text`; an empty text says nothing.  Raises `DataError`, starting with `where`."""
    if not text:
        return Extra()
    try:
        document = parse_json(text)
        arrays = {name: _unpacked(entry) for name, entry in document["features"].items()}
        flags = {name: _unpacked(document["flags"][name]).astype(np.bool_) for name in _FLAGS}
        if any(len(array) != steps for array in (*arrays.values(), *flags.values())):
            raise ValueError(f"its arrays are not of {steps} steps")
        if len(document["instructions"]) != steps:
            raise ValueError(f"it has {len(document['instructions'])} instructions for {steps} steps")
        return Extra(
            arrays,
            flags,
            {key: _lived(value) for key, value in document["metadata"].items()},
            tuple(str(one) for one in document["instructions"]),
            tuple(str(one) for one in document["action_names"]),
            str(document["action_space"]),
            float(document["rate"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: the text of further features is malformed: {error}.") from error


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    data = np.ascontiguousarray(array)
    if data.dtype.kind not in "biuf":
        raise DataError(f"an array of {data.dtype} cannot be put into a bag; numbers and flags can.")
    return {
        "dtype": data.dtype.newbyteorder("<").str,
        "shape": list(data.shape),
        "data": base64.b64encode(data.astype(data.dtype.newbyteorder("<")).tobytes()).decode("ascii"),
    }


def _unpacked(entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(str(entry["dtype"]))
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype} is not read")
    raw = base64.b64decode(str(entry["data"]), validate=True)
    array: NDArray[Any] = np.frombuffer(raw, dtype).reshape([int(n) for n in entry["shape"]]).copy()
    return array


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": _packed(value)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, SizedInt):
        return {"integer": int(value), "dtype": value.dtype}
    return value.item() if isinstance(value, np.generic) else value


def _lived(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"array"}:
        return _unpacked(value["array"])
    if isinstance(value, dict) and set(value) == {"bytes"}:
        return base64.b64decode(str(value["bytes"]))
    if isinstance(value, dict) and set(value) == {"integer", "dtype"}:
        return SizedInt(int(value["integer"]), str(value["dtype"]))
    return value
