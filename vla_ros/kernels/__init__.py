"""Compiled arithmetic of the control cycle: small float64 arrays in, small arrays out, no objects.

numpy spends a microsecond on every operation on seven numbers, and a control cycle has hundreds of them;
these functions do a stage each in a microsecond or two.  numba compiles them when they are first imported and
keeps the machine code beside the source (or in the user's cache where the source is read-only).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


NUMBER, FLAG, INDICES = numba.float64, numba.boolean, numba.int64[::1]
"""A float, a bool, and an array of integers that is given back."""
VECTOR, TABLE, CUBE = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
"""Contiguous arrays of one, two and three axes."""
MATRIX = numba.float64[:, :]
"""Two axes in any order of memory, as pinocchio gives them."""


def compiled(returns: Any, *takes: Any) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types, now, as numpy computes (no fast-math, 1/0 is inf).

    It keeps the interpreter's lock: to give it away for a microsecond could mean to wait long for it.
    """
    types: Any = numba.types
    # read-only arrays are welcome too
    arguments = [item.copy(readonly=True) if isinstance(item, types.Array) else item for item in takes]
    given = types.Tuple(returns) if isinstance(returns, tuple) else returns

    def decorate(function: Function) -> Function:
        made = numba.njit(given(*arguments), cache=True, error_model="numpy")(function)
        return cast(Function, made)

    return decorate


def inlined(function: Function) -> Function:
    """A helper of compiled functions, compiled with them."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))
