"""The banded solver of the curve: the dense system's solution, in time proportional to the waypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.execution.spline import CurveState, QuinticSpline
from vla_ros.kernels import curve
from vla_ros.types import Array


def dense(knots: Array, points: Array, velocity: Array, acceleration: Array) -> tuple[Array, Array]:
    """Continuity of jerk and snap at the inner knots, written down as one full matrix."""
    inner, h, dp = len(knots) - 2, np.diff(knots), np.diff(points, axis=0)
    v, a = np.zeros_like(points), np.zeros_like(points)
    v[0], a[0] = velocity, acceleration
    matrix, right = np.zeros((2 * inner, 2 * inner + 4)), np.zeros((2 * inner, points.shape[1]))
    for row in range(inner):
        g, k = h[row], h[row + 1]
        matrix[2 * row, 2 * row : 2 * row + 6] = (
            -24 / g**2, -3 / g, 36 / k**2 - 36 / g**2, 9 / g + 9 / k, 24 / k**2, -3 / k,
        )  # fmt: skip
        matrix[2 * row + 1, 2 * row : 2 * row + 6] = (
            -168 / g**3, -24 / g**2, -192 / g**3 - 192 / k**3, 36 / g**2 - 36 / k**2, -168 / k**3, 24 / k**2,
        )  # fmt: skip
        right[2 * row] = 60 * dp[row + 1] / k**3 - 60 * dp[row] / g**3
        right[2 * row + 1] = -360 * dp[row] / g**4 - 360 * dp[row + 1] / k**4
    right -= matrix[:, :2] @ np.stack([v[0], a[0]])
    solution = np.linalg.solve(matrix[:, 2:-2], right)
    v[1:-1], a[1:-1] = solution[0::2], solution[1::2]
    return v, a


@settings(max_examples=200)
@given(
    st.lists(st.floats(0.02, 2.0), min_size=2, max_size=80),
    st.integers(1, 7),
    st.integers(0, 2**32 - 1),
)
def test_it_is_the_solution_of_the_dense_system(gaps: list[float], wide: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    knots = np.concatenate([[0.0], np.cumsum(gaps)])
    points = rng.normal(0.0, 0.3, (len(knots), wide))
    velocity, acceleration = rng.normal(0.0, 0.3, wide), rng.normal(0.0, 1.0, wide)
    found = curve.knot_derivatives(knots, points, velocity, acceleration)
    wanted = dense(knots, points, velocity, acceleration)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9 * max(1.0, np.abs(other).max()))


@settings(max_examples=100)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=60), st.integers(0, 2**32 - 1))
def test_the_curve_is_smooth_to_the_fourth_derivative(gaps: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = CurveState(rng.normal(size=3), rng.normal(size=3), rng.normal(size=3))
    spline = QuinticSpline(0.0, start, np.cumsum(gaps), rng.normal(size=(len(gaps), 3)))
    c, factorials = spline.coefficients, np.array([1, 1, 2, 6, 24])
    for piece, h in enumerate(np.diff(spline.knots)[:-1]):
        powers = np.array([[np.prod(np.arange(k - m + 1, k + 1)) * h ** (k - m) if k >= m else 0.0
                            for k in range(6)] for m in range(5)])  # fmt: skip
        left, right = powers @ c[piece], factorials[:, None] * c[piece + 1, :5]
        # what the derivatives of a piece are made of is larger than they are
        scale = np.abs(powers) @ np.abs(c[piece]) + np.abs(right)
        assert (np.abs(left - right) <= 1e-7 * scale + 1e-9).all()


class _Counted(np.ndarray):
    """Counts how often its elements are asked for."""

    asked = 0

    def __getitem__(self, key: Any) -> Any:
        _Counted.asked += 1
        return np.asarray(self)[key]


@pytest.mark.parametrize("steps", [16, 64])
def test_the_work_grows_with_the_number_of_waypoints_and_no_faster(steps: int) -> None:
    plain = curve.knot_derivatives.py_func  # type: ignore[attr-defined]

    def accesses(count: int) -> int:
        _Counted.asked = 0
        knots = np.linspace(0.0, 1.0, count + 1)
        points = np.random.default_rng(0).normal(size=(count + 1, 2)).view(_Counted)
        plain(knots.view(_Counted), points, np.zeros(2), np.zeros(2))
        return _Counted.asked

    assert accesses(2 * steps) - accesses(steps) == 2 * (accesses(steps + steps // 2) - accesses(steps))
    assert accesses(8 * steps) < 8.5 * accesses(steps)
