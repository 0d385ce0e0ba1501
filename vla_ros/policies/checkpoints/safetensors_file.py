"""The safetensors format: an 8-byte length, a JSON table of dtypes, shapes and places, then the numbers.

Read here and not by a library, so that a file is checked before a byte of it is believed, and its tensors are
read one by one without mapping the whole file.  Format: huggingface/safetensors, README.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.errors import PolicyError

SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes an element."""
LARGEST_HEADER = 100_000_000
"""Bytes, as the format's own readers bound it."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor is."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Byte in the file."""
    size: int
    """Bytes."""


def read_header(path: Path) -> dict[str, Entry]:
    """Every tensor of a file, by name; nothing but the table is read.

    Raises `PolicyError` when the file is cut off, its table is malformed, or tensors overlap, leave gaps or
    end elsewhere than the file.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
            if not 2 <= size <= min(LARGEST_HEADER, length - 8):
                raise PolicyError(
                    f"{path} is no safetensors file or is cut off: {length} bytes, table of {size}."
                )
            raw = file.read(size)
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        table = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"The table of {path} is malformed: {error}.") from error
    if not isinstance(table, dict):
        raise PolicyError(f"The table of {path} is malformed: it is no map.")
    table.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, 8 + size) for name, value in table.items()}
    end = 8 + size
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].size)):
        if entry.begin != end:
            raise PolicyError(f"{path}: tensor '{name}' begins at byte {entry.begin}, but {end} is next.")
        end += entry.size
    if end != length:
        raise PolicyError(f"{path} has {length} bytes, but its table needs {end}: it is cut off or tampered.")
    return entries


def read_bytes(entry: Entry, into: memoryview) -> None:
    """The bytes of a tensor into a buffer of their size.  Raises `PolicyError` when they are not there."""
    try:
        with entry.path.open("rb", buffering=0) as file:
            file.seek(entry.begin)
            done = 0
            while done < entry.size:
                count = file.readinto(into[done:])
                if not count:
                    raise PolicyError(f"{entry.path} ended while it was read.")
                done += count
    except OSError as error:
        raise PolicyError(f"{entry.path} cannot be read: {error.strerror or error}.") from error


def write_header(table: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The head of a file whose tensors (dtype, shape) follow in this order, padded to 8 bytes."""
    places: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, (dtype, shape) in table.items():
        end = begin + SIZES[dtype] * math.prod(shape)
        places[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(places).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def _entry(path: Path, name: str, value: Any, base: int) -> Entry:
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= set(value):
        raise PolicyError(f"{path}: the place of tensor '{name:.80}' is malformed.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise PolicyError(
            f"{path}: tensor '{name:.80}' has dtype {dtype!r:.20}, known are {', '.join(SIZES)}."
        )
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2 or len(shape) > 8:
        raise PolicyError(f"{path}: tensor '{name:.80}' has a malformed shape or place.")
    size = SIZES[dtype] * math.prod(shape)
    if offsets[1] - offsets[0] != size:
        raise PolicyError(
            f"{path}: tensor '{name:.80}' of shape {tuple(shape)} in {dtype} needs {size} bytes, "
            f"but has {offsets[1] - offsets[0]}."
        )
    return Entry(path, dtype, tuple(shape), base + offsets[0], size)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 for value in values
    )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found
