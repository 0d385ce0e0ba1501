"""Lower bounds on distances, from distances known at other joint positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.kernels import FLAG, INDICES, MATRIX, NUMBER, TABLE, VECTOR, compiled
from vla_ros.types import Array


@compiled((VECTOR, INDICES), VECTOR, TABLE, VECTOR, TABLE, VECTOR)
def lower_bounds(
    x: Array, since: Array, known: Array, reach: Array, within: Array
) -> tuple[Array, NDArray[np.int64]]:
    """Bounds (m,) on distances at x (n,), of which `known` (m,) were true at `since` (m, n).

    A distance changes with x[j] by at most `reach` (m, n), so known - reach |x - since| never exceeds the
    true one.  The second result are the indices of those not at least `within` (m,).  Where x is not finite
    all bounds are -inf, and none is listed: there is nothing to compute.
    """
    rows = np.empty(known.shape[0], dtype=np.int64)
    out = np.full(known.shape[0], -np.inf)
    for j in range(x.shape[0]):
        if not np.isfinite(x[j]):
            return out, rows[:0]
    count = 0
    for i in range(known.shape[0]):
        bound = known[i]
        for j in range(x.shape[0]):
            bound -= reach[i, j] * abs(x[j] - since[i, j])
        out[i] = bound
        if not bound >= within[i]:
            rows[count] = i
            count += 1
    return out, rows[:count]


@compiled(FLAG, VECTOR, NUMBER)
def some_below(margins: Array, zone: float) -> bool:
    """Whether any of margins (m,) is below `zone`, or not a number."""
    for i in range(margins.shape[0]):  # noqa: SIM110  (numba has no `all` of a generator)
        if not margins[i] >= zone:
            return True
    return False


@compiled(VECTOR, VECTOR, VECTOR, VECTOR)
def within_box(position: Array, low: Array, high: Array) -> Array:
    """(6,) distances of a position (3,) to the lower, then the upper faces of a box, positive inside."""
    out = np.empty(6)
    for i in range(3):
        out[i], out[3 + i] = position[i] - low[i], high[i] - position[i]
    return out


@compiled(VECTOR, MATRIX, VECTOR, VECTOR, VECTOR, INDICES)
def point_row(
    jacobian: Array, origin: Array, point: Array, direction: Array, columns: NDArray[np.int64]
) -> Array:
    """(n,) derivative of a body-fixed point's coordinate along a direction by the joints of `columns` (n,).

    Args:
        jacobian: (6, nv) of the body's joint, along the base axes at `origin`, linear on top of angular.
        origin: of the joint (3,) [m].
        point: on the body (3,) [m].
        direction: (3,).
        columns: of the Jacobian that are asked for.
    """
    x, y, z = point[0] - origin[0], point[1] - origin[1], point[2] - origin[2]
    # direction . (v + w x arm) = direction . v + (arm x direction) . w
    mx = y * direction[2] - z * direction[1]
    my = z * direction[0] - x * direction[2]
    mz = x * direction[1] - y * direction[0]
    out = np.empty(columns.shape[0])
    for i in range(columns.shape[0]):
        j = columns[i]
        out[i] = (
            direction[0] * jacobian[0, j] + direction[1] * jacobian[1, j] + direction[2] * jacobian[2, j]
            + mx * jacobian[3, j] + my * jacobian[4, j] + mz * jacobian[5, j]
        )  # fmt: skip
    return out
