"""CRC-32C (Castagnoli) and the masked form that tfrecord files carry.

Polynomial 0x1EDC6F41 reflected to 0x82F63B78 (RFC 3720, appendix B.4).  Long inputs are cut into lanes that
numpy advances side by side; the lanes' results are folded with the linear operator "append n zero bytes".
Very long ones go to a compiled loop, which is worth loading its compiler for.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_LANE = 256  # bytes a lane; a power of two, so that folding only ever squares the operator
_SHORT = 1024  # below this the plain loop is faster
_LONG = 1 << 18  # from here on compiled
_MASK_DELTA = 0xA282EAD8  # tensorflow/tsl/lib/hash/crc32c.h


def _make_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _make_table()
_TABLE_LIST = [int(v) for v in _TABLE]


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-32C of `data`, or of what had the CRC `before` with `data` behind it."""
    size = len(data)
    register = before ^ 0xFFFFFFFF
    if size < _SHORT:
        crc = register
        for byte in bytes(data):
            crc = _TABLE_LIST[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    if size >= _LONG:
        return _compiled(data, register)
    lanes = 1 << (-(-size // _LANE) - 1).bit_length()
    padded = np.zeros(lanes * _LANE, np.uint8)
    padded[-size:] = np.frombuffer(data, np.uint8)
    # Starting from a register equals starting from zero with the first four bytes changed by it, and leading
    # zero bytes do not move a zero register: so the padding may stand in front.
    padded[-size : -size + 4] ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)
    state = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, _LANE).T):
        state = _TABLE[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    length = _LANE
    while len(state) > 1:
        state = _append_zeros(state[0::2], length) ^ state[1::2]
        length *= 2
    return int(state[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The masked CRC-32C of `data`."""
    return masked(crc32c(data))


def masked(crc: int) -> int:
    """A CRC-32C rotated right by 15 bits plus a constant, as tfrecord files store it."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _compiled(data: bytes | bytearray | memoryview, register: int) -> int:
    from vla_ros.data.crc32c_kernel import crc32c_of

    return int(crc32c_of(np.frombuffer(data, np.uint8), _slices(), np.uint32(register)))


@lru_cache(maxsize=1)
def _slices() -> NDArray[np.uint32]:
    from vla_ros.data.crc32c_kernel import slicing_tables

    return slicing_tables(_TABLE)


def _append_zeros(state: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    return _apply(_zeros_operator(count), state)


def _apply(operator: NDArray[np.uint32], state: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Apply a linear map on 32-bit registers given as (4, 256): its value for each byte at each place."""
    result: NDArray[np.uint32] = operator[0][state & np.uint32(0xFF)]
    for place in range(1, 4):
        result = result ^ operator[place][(state >> np.uint32(8 * place)) & np.uint32(0xFF)]
    return result


@lru_cache(maxsize=64)
def _zeros_operator(count: int) -> NDArray[np.uint32]:
    """Operator of appending `count` (a power of two) zero bytes."""
    if count == 1:
        bytes_ = np.arange(256, dtype=np.uint32)
        places = np.stack([bytes_ << np.uint32(8 * place) for place in range(4)])
        operator: NDArray[np.uint32] = _TABLE[places & np.uint32(0xFF)] ^ (places >> np.uint32(8))
        return operator
    half = _zeros_operator(count // 2)
    return _apply(half, half)
