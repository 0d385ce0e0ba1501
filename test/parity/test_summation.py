"""The written order of summation gives the product that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

import summation  # noqa: E402


@given(
    rows=st.integers(1, 5), size=st.integers(1, 900), columns=st.integers(1, 7),
    biased=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_product_in_double_precision_is_met(
    rows: int, size: int, columns: int, biased: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    x, weight, bias = (
        torch.from_numpy(draw.standard_normal(shape).astype(np.float32))
        for shape in ((1, rows, size), (columns, size), (columns,))
    )
    given_bias = bias if biased else None
    ours = summation.linear(x, weight, given_bias)
    exact = x.double() @ weight.double().T + (bias.double() if biased else 0.0)
    terms = x.double().abs() @ weight.double().abs().T + bias.double().abs()
    assert ours.dtype == torch.float32
    assert ours.shape == exact.shape
    # an element's error is below (terms + 1) * 2^-24 of the sum of magnitudes (Higham, 2002, section 3.1)
    assert bool(((ours - exact).abs() <= (size + 2) * 2.0**-24 * terms).all())
