"""Weights in few bits: 8-bit floats and integers with a scale a row, 4-bit integers with a scale a group.

All are symmetric and rounded to nearest; the scale maps the largest magnitude of a row or group to the end
of the format's range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.errors import PolicyError, unknown

FORMATS = ("plain", "fp8", "int8", "int4")
GROUP = 128
"""Weights of a row that share a scale in `int4`."""
FP8_MAX = 448.0
"""Largest value of e4m3 (OCP 8-bit floating point specification, 2023)."""


@dataclass(frozen=True)
class Weight:
    """A matrix (n, k) that vectors of size k are multiplied by."""

    data: Tensor
    """(n, k); for int4 (n, k / 2) bytes: column j in the low, column j + k / 2 in the high half of byte j."""
    scale: Tensor | None = None
    """(n, 1), or (n, k / GROUP) for int4, fp32; None for `plain`."""
    format: str = "plain"

    @property
    def rows(self) -> int:
        """Size of the result."""
        return self.data.shape[0]

    @property
    def columns(self) -> int:
        """Size of the vectors."""
        return self.data.shape[1] * (2 if self.format == "int4" else 1)


def quantize(matrix: Tensor, kind: str) -> Weight:
    """A matrix (n, k) in the named format.

    Raises `PolicyError` for an unknown format, or for int4 when k is no multiple of twice the group.
    """
    if kind == "plain":
        return Weight(matrix.contiguous())
    if kind not in FORMATS:
        raise PolicyError(unknown("Weight format", kind, FORMATS))
    wide = matrix.float()
    if kind == "int4":
        n, k = wide.shape
        if k % (2 * GROUP):
            raise PolicyError(f"int4 needs rows of a multiple of {2 * GROUP} weights, but they have {k}.")
        groups = wide.view(n, k // GROUP, GROUP)
        scale = _scale(groups, 7.0)
        codes = (groups / scale).round().clamp(-8, 7).to(torch.int16).view(n, k) + 8
        low, high = codes[:, : k // 2], codes[:, k // 2 :]
        return Weight((low | (high << 4)).to(torch.uint8), scale.squeeze(-1).contiguous(), kind)
    if kind == "int8":
        scale = _scale(wide, 127.0)
        return Weight((wide / scale).round().to(torch.int8), scale, kind)
    scale = _scale(wide, FP8_MAX)
    return Weight((wide / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale, kind)


def dequantize(weight: Weight, dtype: torch.dtype) -> Tensor:
    """The matrix (n, k) that the weight stands for."""
    if weight.scale is None:
        return weight.data.to(dtype)
    if weight.format == "int4":
        codes = torch.cat((weight.data & 15, weight.data >> 4), dim=1)
        groups = codes.view(codes.shape[0], -1, GROUP).float() - 8.0
        return (groups * weight.scale[..., None]).view(codes.shape).to(dtype)
    return (weight.data.float() * weight.scale).to(dtype)


def _scale(values: Tensor, largest: float) -> Tensor:
    return (values.abs().amax(dim=-1, keepdim=True) / largest).clamp(min=1e-12)
