"""Message definitions without ROS: the standard ones of Jazzy, the package's own, and those of drivers.

Wraps a rosbags typestore.  Definitions are registered when they are first asked for, from `.msg` files of
this package or of an installed one, or from the text that a bag carries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_ros.errors import DataError, MachineError
from vla_ros.resources import resource_path

DRIVER_DEFINITIONS: Mapping[str, str] = {
    # Interbotix/interbotix_ros_core, interbotix_xs_msgs: of no registry, needed for the WidowX's commands.
    "interbotix_xs_msgs/msg/JointGroupCommand": "string name\nfloat32[] cmd\n",
    "interbotix_xs_msgs/msg/JointSingleCommand": "string name\nfloat32 cmd\n",
    # Foxglove's schema of that name: Annex B, one frame a message, no B-frames.
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
}


def full_name(type_name: str) -> str:
    """`package/msg/Name` for `package/Name` or `package/msg/Name`.  Raises `DataError` for anything else."""
    parts = type_name.split("/")
    if len(parts) == 2:
        parts.insert(1, "msg")
    if len(parts) != 3 or not all(part.isidentifier() for part in parts):
        raise DataError(f"'{type_name}' is no message type; it is written package/msg/Name.")
    return "/".join(parts)


class MessageTypes:
    """The types one bag knows: looks up, creates, serialises and deserialises messages."""

    def __init__(self) -> None:
        self.store = get_typestore(Stores.ROS2_JAZZY)

    def ensure(self, type_name: str) -> str:
        """Register a type with all that it contains; return its full name.  Raises `DataError`."""
        name = full_name(type_name)
        if name not in self.store.types:
            pending, found = [name], {}
            while pending:
                wanted = pending.pop()
                if wanted in self.store.types or wanted in found:
                    continue
                definitions = get_types_from_msg(_definition(wanted), wanted)
                found.update(definitions)
                pending += [inner for _, fields in definitions.values() for inner in _names(fields)]
            self.store.register(found)
        return name

    def register_definition(self, type_name: str, text: str) -> str:
        """Register a type from the definition a bag carries; standard types stay as they are.

        Raises `DataError` when the text is no message definition.
        """
        name = full_name(type_name)
        if name not in self.store.types:
            try:
                definitions = get_types_from_msg(text, name)
                self.store.register({k: v for k, v in definitions.items() if k not in self.store.types})
            except Exception as error:  # the parser raises many kinds on text nobody vouches for
                raise DataError(f"the definition of {name} cannot be understood: {error}.") from error
        return name

    def create(self, type_name: str, **values: Any) -> Any:
        """Message of a type with the given fields, the others zero or empty.

        Nested messages may be given as dicts, number sequences as any sequence.
        """
        name = self.ensure(type_name)
        _, fields = self.store.fielddefs[name]
        unknown = set(values) - {field for field, _ in fields}
        if unknown:
            raise DataError(f"{name} has no field {', '.join(sorted(unknown))}.")
        return self.store.types[name](**{f: self._value(desc, values.get(f)) for f, desc in fields})

    def serialize(self, message: object, type_name: str) -> bytes:
        """CDR bytes of a message made by `create`."""
        return bytes(self.store.serialize_cdr(message, type_name))

    def deserialize(self, raw: bytes, type_name: str) -> Any:
        """Message from CDR bytes.  Raises `DataError` when they are not of that type."""
        try:
            return self.store.deserialize_cdr(raw, type_name)
        except Exception as error:  # the generated code raises many kinds on broken bytes
            raise DataError(f"{len(raw)} bytes are not a {type_name}: {error}.") from error

    def _value(self, description: Any, value: Any) -> Any:
        kind, detail = description
        if kind == Nodetype.NAME:
            return value if _is_message(value) else self.create(detail, **(value or {}))
        if kind == Nodetype.BASE:
            base = detail[0]
            return value if value is not None else "" if base == "string" else False if base == "bool" else 0
        inner, count = detail
        inner_kind, inner_detail = inner
        if inner_kind == Nodetype.BASE and inner_detail[0] != "string":
            dtype = {"bool": "bool", "byte": "uint8", "octet": "uint8"}.get(inner_detail[0], inner_detail[0])
            if value is None:
                return np.zeros(count if kind == Nodetype.ARRAY else 0, dtype)
            if isinstance(value, bytes):
                return np.frombuffer(value, dtype)
            return np.asarray(value, dtype)
        if value is None:
            return [self._value(inner, None) for _ in range(count if kind == Nodetype.ARRAY else 0)]
        return [self._value(inner, item) for item in value]


def time_fields(stamp: int) -> dict[str, int]:
    """Fields of builtin_interfaces/Time of a stamp [ns]."""
    return {"sec": stamp // 1_000_000_000, "nanosec": stamp % 1_000_000_000}


def stamp_of(time: Any) -> int:
    """Stamp [ns] of a builtin_interfaces/Time."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _is_message(value: Any) -> bool:
    return hasattr(value, "__msgtype__")


def _names(fields: Iterable[tuple[str, Any]]) -> list[str]:
    """Message types that the fields contain."""
    names: list[str] = []
    for _, (kind, detail) in fields:
        if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            kind, detail = detail[0]
        if kind == Nodetype.NAME:
            names.append(str(detail))
    return names


def _definition(name: str) -> str:
    package, _, short = name.split("/")
    if name in DRIVER_DEFINITIONS:
        return DRIVER_DEFINITIONS[name]
    for folder in _definition_folders(package):
        path = folder / f"{short}.msg"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise DataError(f"the definition of the message type {name} was not found; its package is not installed.")


def _definition_folders(package: str) -> list[Path]:
    folders = []
    if package == "vla_ros":
        # Without a checkout or a share folder the prefixes below may still have them.
        with suppress(MachineError):
            folders.append(resource_path("msg"))
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return folders + [Path(p) / "share" / package / "msg" for p in (*prefixes, sys.prefix)]
