"""CRC-32C of long inputs, compiled: eight bytes a turn, by eight tables ("slicing by 8").

Table k holds what a byte does to the register when k further zero bytes follow.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vla_ros.kernels import compiled


@compiled(numba.uint32, numba.uint8[::1], numba.uint32[:, ::1], numba.uint32)
def crc32c_of(data: NDArray[np.uint8], tables: NDArray[np.uint32], register: np.uint32) -> Any:
    """CRC-32C of `data` (n,) with `tables` (8, 256), from `register` on, which is all ones at the start."""
    crc = register
    whole = len(data) // 8 * 8
    for i in range(0, whole, 8):
        crc ^= (
            np.uint32(data[i])
            | np.uint32(data[i + 1]) << np.uint32(8)
            | np.uint32(data[i + 2]) << np.uint32(16)
            | np.uint32(data[i + 3]) << np.uint32(24)
        )
        crc = (
            tables[7, crc & 0xFF]
            ^ tables[6, (crc >> 8) & 0xFF]
            ^ tables[5, (crc >> 16) & 0xFF]
            ^ tables[4, (crc >> 24) & 0xFF]
            ^ tables[3, data[i + 4]]
            ^ tables[2, data[i + 5]]
            ^ tables[1, data[i + 6]]
            ^ tables[0, data[i + 7]]
        )
    for i in range(whole, len(data)):
        crc = tables[0, (crc ^ data[i]) & 0xFF] ^ (crc >> 8)
    return crc ^ np.uint32(0xFFFFFFFF)


def slicing_tables(table: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(8, 256) tables from the one of single bytes (256,)."""
    tables = np.zeros((8, 256), np.uint32)
    tables[0] = table
    for k in range(1, 8):
        tables[k] = table[tables[k - 1] & np.uint32(0xFF)] ^ (tables[k - 1] >> np.uint32(8))
    return tables
