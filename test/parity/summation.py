"""Matrix products summed in one written order, whatever the processor.

In fp32 the last bits of a product depend on the order its terms are added in, and every processor's library
has its own.  The kept outputs were made where an element is a chain of fused multiply-adds along the inner
size, cut in equal parts of at most `PART` terms, whose sums are added to the bias one after the other.  Found
by trying orders until the kept outputs came out to the last bit: 239 terms are one chain, 448 are two of 224.
"""

from __future__ import annotations

import numpy as np
import torch

PART = 384
"""Terms of a chain at most; any value from 239 to 447 gives the kept outputs."""


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` in fp32: x (..., k), weight (n, k) and bias (n,) to (..., n)."""
    size = x.shape[-1]
    rows = x.detach().numpy().reshape(-1, size).astype(np.float64)
    columns = weight.detach().numpy().astype(np.float64).T
    total = np.zeros((len(rows), columns.shape[1]), np.float32)
    if bias is not None:
        total += bias.detach().numpy()
    for part in np.array_split(np.arange(size), -(-size // PART)):
        chain = np.zeros_like(total)
        for k in part:
            # the product of two fp32 is exact in double, so one rounding is left, as in a fused multiply-add
            chain = (rows[:, k : k + 1] * columns[k] + chain).astype(np.float32)
        total = total + chain
    return torch.from_numpy(total).reshape(*x.shape[:-1], -1)
