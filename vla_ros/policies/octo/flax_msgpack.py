"""Reads the files flax writes (`flax.serialization.to_bytes`) with msgpack and numpy alone.

The form (google/flax, flax/serialization.py): a msgpack map of maps.  Extension type 1 is an array: a packed
(shape, name of the dtype, bytes in C order); type 3 is the same for a scalar.  An array above 1 GiB is a map
with the key `__msgpack_chunked_array__`, its shape and flat chunks.  Nothing of a file is executed.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError

Tree = dict[str, Any]

_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"
_PLACEHOLDER = "PLACEHOLDER"
_DTYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ]
)
_DEPTH = 64
"""Maps inside maps; a model has about ten."""


class _MalformedError(Exception):
    """What is wrong with the bytes, as the end of a sentence."""


def read_flax(path: Path) -> Tree:
    """The tree of arrays in a file of flax.  bfloat16 becomes float32.

    Raises `PolicyError` when the file is missing, is not of this form, or points to arrays in other files.
    """
    try:
        with open(path, "rb") as file:
            if file.seek(0, 2) == 0:
                raise PolicyError(f"{path} is empty.")
            # mapped: the weights lie in memory once, as arrays
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return parse_flax(content, str(path))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}.") from error


def parse_flax(content: bytes | mmap.mmap, source: str) -> Tree:
    """The tree of arrays in the bytes of such a file; `source` names them in errors.

    Raises `PolicyError`.
    """
    try:
        tree = msgpack.unpackb(content, ext_hook=_extension, raw=False, strict_map_key=True)
        if not isinstance(tree, dict):
            raise _MalformedError(f"it holds a {type(tree).__name__} where a map of arrays belongs")
        return {key: _finished(value, key, 1) for key, value in tree.items()}
    except _MalformedError as error:
        raise PolicyError(f"{source} cannot be used: {error}.") from None
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
        detail = str(error) or type(error).__name__
        raise PolicyError(f"{source} is no file of flax, or is damaged: {detail}.") from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as one map, the keys joined by "/"."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}/"))
        else:
            flat[name] = value
    return flat


def _extension(code: int, data: bytes) -> Any:
    if code not in (_ARRAY, _SCALAR):
        raise _MalformedError(f"it holds msgpack extension {code}, allowed are {_ARRAY} and {_SCALAR}")
    parts = msgpack.unpackb(data, raw=False, strict_map_key=True)
    if not isinstance(parts, list) or len(parts) != 3:
        raise _MalformedError("an array in it is not shape, type and bytes")
    array = _array(*parts)
    if code == _SCALAR and array.size != 1:
        raise _MalformedError(f"a scalar in it has shape {array.shape}")
    return array if code == _ARRAY else array.reshape(())


def _array(shape: Any, dtype: Any, content: Any) -> NDArray[Any]:
    name = dtype.decode("ascii", "replace") if isinstance(dtype, bytes) else dtype
    if not isinstance(name, str) or name not in _DTYPES:
        raise _MalformedError(f"an array in it has type {dtype!r}, allowed are {', '.join(sorted(_DTYPES))}")
    sizes = _shape(shape)
    if not isinstance(content, bytes):
        raise _MalformedError("an array in it has no bytes")
    kind = np.dtype("<u2" if name == "bfloat16" else name).newbyteorder("<")
    needed = math.prod(sizes) * kind.itemsize
    if len(content) != needed:
        raise _MalformedError(
            f"an array of shape {sizes} and type {name} needs {needed} bytes but has {len(content)}"
        )
    array = np.frombuffer(content, kind).reshape(sizes)
    if name == "bfloat16":
        # bfloat16 is the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple)) or len(shape) > 16:
        raise _MalformedError(f"an array in it has the shape {shape!r}")
    for size in shape:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**40:
            raise _MalformedError(f"an array in it has the shape {shape!r}")
    return tuple(shape)


def _finished(value: Any, name: str, depth: int) -> Any:
    """The value with chunked arrays joined; `name` is where it is."""
    if isinstance(value, str) and value.startswith(_PLACEHOLDER):
        raise _MalformedError(
            f"'{name}' lies in a file of its own, as several hosts write it; "
            "save the checkpoint again on one host, or aggregate it with orbax"
        )
    if not isinstance(value, dict):
        return value
    if depth > _DEPTH:
        raise _MalformedError(f"it is nested deeper than {_DEPTH} maps")
    if _CHUNKED in value:
        return _joined(value, name)
    for key in value:
        if not isinstance(key, str):
            raise _MalformedError(f"'{name}' has the key {key!r}, but keys are names")
    return {key: _finished(item, f"{name}/{key}", depth + 1) for key, item in value.items()}


def _joined(value: dict[Any, Any], name: str) -> NDArray[Any]:
    shape = _shape(_numbered(value.get("shape"), name))
    chunks = _numbered(value.get("chunks"), name)
    if not all(isinstance(chunk, np.ndarray) and chunk.ndim == 1 for chunk in chunks):
        raise _MalformedError(f"'{name}' has chunks that are no flat arrays")
    if len({chunk.dtype for chunk in chunks}) != 1 or sum(map(len, chunks)) != math.prod(shape):
        raise _MalformedError(f"the chunks of '{name}' do not make an array of shape {shape}")
    return np.concatenate(chunks).reshape(shape)


def _numbered(value: Any, name: str) -> list[Any]:
    """Flax's form of a tuple: a map from "0", "1" ... to the items."""
    if not isinstance(value, dict) or set(value) != {str(index) for index in range(len(value))}:
        raise _MalformedError(f"the chunked array '{name}' is incomplete")
    return [value[str(index)] for index in range(len(value))]
