"""openpi's wire form: messages in msgpack, arrays as maps of bytes, dtype and shape.

Nothing in it can run code: dtypes are those of a list, sizes are bounded and must agree.  Form:
Physical-Intelligence/openpi, packages/openpi-client, msgpack_numpy.py.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from vla_ros.errors import PolicyError

MAX_FRAME = 64 * 2**20
"""Bytes a message may have."""
MAX_ITEMS = 256
"""Entries of one map or list."""
MAX_TOTAL = 4096
"""Entries of all maps and lists of a message: what is large in one are its arrays, which count as one."""
MAX_DEPTH = 8
MAX_DIMENSIONS = 8
DTYPES = frozenset(("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"))
"""Kinds of numbers that are let in."""
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"


def pack(message: Any) -> bytes:
    """A message of maps, lists, strings, numbers and arrays as bytes.

    Raises `PolicyError` for anything else, or an array of another kind than `DTYPES`.
    """
    try:
        return bytes(msgpack.packb(message, default=_encode))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PolicyError(f"The message cannot be sent: {error}.") from error


def unpack(frame: bytes) -> Any:
    """A message from bytes; arrays are their owner's.  Raises `PolicyError` for whatever is malformed."""
    if len(frame) > MAX_FRAME:
        raise PolicyError(f"The message has {len(frame)} bytes, allowed are {MAX_FRAME}.")
    total = 0

    def counted(container: Any) -> Any:
        # called as each container ends, the inner ones first: a flood is refused while it is read
        nonlocal total
        total += 1 + len(container)
        if total > MAX_TOTAL:
            raise PolicyError(f"The message has more than {MAX_TOTAL} entries.")
        return container

    try:
        raw = msgpack.unpackb(
            frame, raw=False, strict_map_key=False, max_bin_len=MAX_FRAME, max_str_len=2**20,
            max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_ext_len=0, object_hook=counted,
            list_hook=counted,
        )  # fmt: skip
    except PolicyError:
        raise
    except RecursionError:
        raise PolicyError("The message is nested too deeply.") from None
    except Exception as error:  # msgpack raises kinds of several families
        raise PolicyError(f"The message is no msgpack: {type(error).__name__}.") from error
    return _decode(raw, 0)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        if array.dtype.str not in DTYPES:
            raise TypeError(f"arrays of {array.dtype} are not sent")
        return {_ARRAY: True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        if value.dtype.str not in DTYPES:
            raise TypeError(f"numbers of {value.dtype} are not sent")
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} is not sent")


def _decode(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise PolicyError(f"The message is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, list):
        return [_decode(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return _array(value)
    if _SCALAR in value:
        return _scalar(value)
    for key in value:
        if not isinstance(key, (str, int, bytes)):
            raise PolicyError(f"A map of the message has a key of type {type(key).__name__}.")
    return {key: _decode(item, depth + 1) for key, item in value.items()}


def _dtype(value: Any) -> np.dtype[Any]:
    name = value.get(b"dtype")
    if not isinstance(name, str) or name not in DTYPES:
        raise PolicyError(
            f"The message holds numbers of kind {name!r:.40}, allowed are {', '.join(sorted(DTYPES))}."
        )
    return np.dtype(name)


def _array(value: Any) -> np.ndarray[Any, Any]:
    dtype, data, shape = _dtype(value), value.get(b"data"), value.get(b"shape")
    natural = isinstance(shape, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= MAX_FRAME for one in shape
    )
    if not natural or len(shape) > MAX_DIMENSIONS or not isinstance(data, bytes):
        raise PolicyError("An array of the message has no valid shape or no bytes.")
    # where one side is 0, the others have no bytes to be held against, and numpy has bounds of its own
    if math.prod(max(one, 1) for one in shape) > MAX_FRAME or math.prod(shape) * dtype.itemsize != len(data):
        raise PolicyError(
            f"An array of shape {tuple(shape)} and kind {dtype.str} came with {len(data)} bytes."
        )
    found: np.ndarray[Any, Any] = np.frombuffer(data, dtype).reshape(shape).copy()
    return found


def _scalar(value: Any) -> Any:
    dtype, data = _dtype(value), value.get(b"data")
    if isinstance(data, (bool, int, float)):
        try:
            with np.errstate(over="raise"):
                return dtype.type(data)
        except (OverflowError, FloatingPointError, ValueError):
            pass
    raise PolicyError(f"A number of the message does not fit its kind {dtype.str}.")
