"""The steps of a language model's layer as Triton kernels: each weight is read once, nothing else is large.

A decoded token is bound by memory: every weight is read for one multiplication.  So norm, gate, residual and
scale are folded into the products of matrix and vector, and rotary turn, cache and attention are one kernel.
Signatures and results are those of `engine_ops`, to which the tests compare them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vla_ros.policies.openvla import engine_ops
from vla_ros.policies.openvla.quantization import FP8_MAX, GROUP, Weight

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # before Triton 3.4: kernels start one after the other
    gdc_launch_dependents = gdc_wait = None

BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Attention among the tokens of a prompt, the fastest first (H200: 16, 28, 22 us a layer)."""
_CODES = {"plain": 0, "fp8": 1, "int8": 1, "int4": 2}
HEADS = 16
"""Heads that one block of threads turns."""
ATTENTION_LIMIT = 2048
"""Longest cache that one block of threads looks at in one go."""


@triton.jit
def _rotated(pointer, columns, cos, sin, half: tl.constexpr):
    """A head's vector at `pointer`, turned by its position."""
    partner = tl.where(columns < half, columns + half, columns - half)
    sign = tl.where(columns < half, -1.0, 1.0)
    straight = tl.load(pointer + columns).to(tl.float32)
    crossed = tl.load(pointer + partner).to(tl.float32)
    return straight * cos + sign * crossed * sin


@triton.jit
def _product(
    x_ptr, gamma_ptr, w_ptr, scale_ptr, add_ptr, y_ptr, n, k: tl.constexpr, eps, batch,
    block_n: tl.constexpr, block_k: tl.constexpr, form: tl.constexpr, norm: tl.constexpr,
    gated: tl.constexpr, add: tl.constexpr, group: tl.constexpr, even: tl.constexpr, full: tl.constexpr,
    chain: tl.constexpr, unroll: tl.constexpr,
):  # fmt: skip
    """`block_n` outputs for one x of the batch: W norm(x), silu(gate) * up of that, or add + W x."""
    if chain:
        gdc_launch_dependents()
        gdc_wait()
    program = tl.program_id(0)
    item = program % batch
    rows = (program // batch) * block_n + tl.arange(0, block_n)
    fits = rows < n
    bytes_a_row = k // 2 if form == 2 else k
    sums = tl.zeros((block_n, block_k), dtype=tl.float32)
    ups = tl.zeros((block_n, block_k), dtype=tl.float32)
    squares = tl.zeros((block_k,), dtype=tl.float32)
    for first in tl.range(0, bytes_a_row, block_k, loop_unroll_factor=unroll):
        columns = first + tl.arange(0, block_k)
        inside = columns < bytes_a_row
        where = rows[:, None] * bytes_a_row + columns[None, :]
        ok = fits[:, None] & inside[None, :]
        # a mask that is always true still keeps loads from being wide
        if even and full:  # noqa: SIM108
            raw = tl.load(w_ptr + where)
        else:
            raw = tl.load(w_ptr + where, mask=ok, other=0.0)
        if even:
            x = tl.load(x_ptr + item * k + columns).to(tl.float32)
        else:
            x = tl.load(x_ptr + item * k + columns, mask=inside, other=0.0).to(tl.float32)
        if norm:
            squares += x * x
            if even:
                x *= tl.load(gamma_ptr + columns).to(tl.float32)
            else:
                x *= tl.load(gamma_ptr + columns, mask=inside, other=0.0).to(tl.float32)
        if form == 2:
            high = bytes_a_row + columns
            x_high = tl.load(x_ptr + item * k + high, mask=inside, other=0.0).to(tl.float32)
            if norm:
                squares += x_high * x_high
                x_high *= tl.load(gamma_ptr + high, mask=inside, other=0.0).to(tl.float32)
            groups = k // group
            at = rows * groups + first // group
            half = bytes_a_row // group
            low_scale = tl.load(scale_ptr + at, mask=fits, other=0.0)
            high_scale = tl.load(scale_ptr + at + half, mask=fits, other=0.0)
            low = (raw & 15).to(tl.float32) - 8.0
            top = (raw >> 4).to(tl.float32) - 8.0
            sums += low * x[None, :] * low_scale[:, None] + top * x_high[None, :] * high_scale[:, None]
            if gated:
                raw_up = tl.load(w_ptr + where + n * bytes_a_row, mask=ok, other=0)
                at += n * groups
                low_scale = tl.load(scale_ptr + at, mask=fits, other=0.0)
                high_scale = tl.load(scale_ptr + at + half, mask=fits, other=0.0)
                low = (raw_up & 15).to(tl.float32) - 8.0
                top = (raw_up >> 4).to(tl.float32) - 8.0
                ups += low * x[None, :] * low_scale[:, None] + top * x_high[None, :] * high_scale[:, None]
        else:
            sums += raw.to(tl.float32) * x[None, :]
            if gated:
                if even and full:
                    up = tl.load(w_ptr + where + n * bytes_a_row)
                else:
                    up = tl.load(w_ptr + where + n * bytes_a_row, mask=ok, other=0.0)
                ups += up.to(tl.float32) * x[None, :]
    y = tl.sum(sums, axis=1)
    z = tl.sum(ups, axis=1)
    if form == 1:
        y *= tl.load(scale_ptr + rows, mask=fits, other=0.0)
        if gated:
            z *= tl.load(scale_ptr + n + rows, mask=fits, other=0.0)
    if norm:
        inverse = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / k + eps)
        y *= inverse
        z *= inverse
    if gated:
        y = y / (1.0 + tl.exp(-y)) * z
    if add:
        y += tl.load(add_ptr + item * n + rows, mask=fits, other=0.0).to(tl.float32)
    tl.store(y_ptr + item * n + rows, y.to(y_ptr.dtype.element_ty), mask=fits)


@triton.jit
def _attend_next(
    qkv_ptr, keys_ptr, values_ptr, cos_ptr, sin_ptr, positions_ptr, y_ptr, heads, shared, length, scale,
    width: tl.constexpr, block: tl.constexpr, chain: tl.constexpr,
):  # fmt: skip
    """One query head of one sequence: turn, write key and value, look back."""
    if chain:
        gdc_launch_dependents()
        gdc_wait()
    item = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    group = heads // shared
    source = head // group
    half: tl.constexpr = width // 2
    columns = tl.arange(0, width)
    position = tl.load(positions_ptr + item)
    cos = tl.load(cos_ptr + position * width + columns)
    sin = tl.load(sin_ptr + position * width + columns)
    token = qkv_ptr + item * (heads + 2 * shared) * width
    kind = qkv_ptr.dtype.element_ty
    q = _rotated(token + head * width, columns, cos, sin, half).to(kind).to(tl.float32)
    k = _rotated(token + (heads + source) * width, columns, cos, sin, half).to(kind)
    v = tl.load(token + (heads + shared + source) * width + columns)
    room = (item * shared + source) * length * width
    if head % group == 0:
        tl.store(keys_ptr + room + position * width + columns, k)
        tl.store(values_ptr + room + position * width + columns, v)
    past = tl.arange(0, block)
    seen = past < position
    where = room + past[:, None] * width + columns[None, :]
    keys = tl.load(keys_ptr + where, mask=seen[:, None], other=0.0).to(tl.float32)
    scores = tl.where(seen, tl.sum(keys * q[None, :], axis=1) * scale, float("-inf"))
    own = tl.sum(q * k.to(tl.float32), axis=0) * scale
    peak = tl.maximum(tl.max(scores, axis=0), own)
    shares = tl.exp(scores - peak)
    own_share = tl.exp(own - peak)
    values = tl.load(values_ptr + where, mask=seen[:, None], other=0.0).to(tl.float32)
    y = tl.sum(shares[:, None] * values, axis=0) + own_share * v.to(tl.float32)
    y /= tl.sum(shares, axis=0) + own_share
    tl.store(y_ptr + (item * heads + head) * width + columns, y.to(kind))


@triton.jit
def _open_cache(
    qkv_ptr, keys_ptr, values_ptr, cos_ptr, sin_ptr, q_ptr, n, heads, shared, length, width: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Some heads of one token: turn queries and keys, put keys and values in the cache."""
    token = tl.program_id(0)
    item = token // n
    position = token % n
    half: tl.constexpr = width // 2
    columns = tl.arange(0, width)
    head = tl.program_id(1) * block + tl.arange(0, block)
    there = head < heads + 2 * shared
    kind = qkv_ptr.dtype.element_ty
    cos = tl.load(cos_ptr + position * width + columns)[None, :]
    sin = tl.load(sin_ptr + position * width + columns)[None, :]
    partner = tl.where(columns < half, columns + half, columns - half)
    sign = tl.where(columns < half, -1.0, 1.0)[None, :]
    source = qkv_ptr + (token * (heads + 2 * shared) + head)[:, None] * width
    straight = tl.load(source + columns[None, :], mask=there[:, None], other=0.0)
    crossed = tl.load(source + partner[None, :], mask=there[:, None], other=0.0).to(tl.float32)
    turned = (straight.to(tl.float32) * cos + sign * crossed * sin).to(kind)
    at = q_ptr + ((item * heads + head) * n + position)[:, None] * width + columns[None, :]
    tl.store(at, turned, mask=(head < heads)[:, None])
    key = head - heads
    at = keys_ptr + ((item * shared + key) * length + position)[:, None] * width + columns[None, :]
    tl.store(at, turned, mask=((key >= 0) & (key < shared))[:, None])
    value = key - shared
    at = values_ptr + ((item * shared + value) * length + position)[:, None] * width + columns[None, :]
    tl.store(at, straight, mask=((value >= 0) & (value < shared))[:, None])


@triton.jit
def _row(
    x_ptr, delta_ptr, gamma_ptr, y_ptr, scale_ptr, k, eps, block: tl.constexpr, norm: tl.constexpr,
    gated: tl.constexpr, add: tl.constexpr, fp8: tl.constexpr, fp8_max: tl.constexpr,
):  # fmt: skip
    """One row: x += delta, norm or gate, and the result as it is or in 8 bits with the row's scale."""
    row = tl.program_id(0)
    columns = tl.arange(0, block)
    ok = columns < k
    if gated:
        gate = tl.load(x_ptr + row * 2 * k + columns, mask=ok, other=0.0).to(tl.float32)
        up = tl.load(x_ptr + row * 2 * k + k + columns, mask=ok, other=0.0).to(tl.float32)
        x = gate / (1.0 + tl.exp(-gate)) * up
    else:
        x = tl.load(x_ptr + row * k + columns, mask=ok, other=0.0).to(tl.float32)
        if add:
            x += tl.load(delta_ptr + row * k + columns, mask=ok, other=0.0).to(tl.float32)
            tl.store(x_ptr + row * k + columns, x.to(x_ptr.dtype.element_ty), mask=ok)
        if norm:
            gamma = tl.load(gamma_ptr + columns, mask=ok, other=0.0).to(tl.float32)
            x = x / tl.sqrt(tl.sum(x * x, axis=0) / k + eps) * gamma
    if fp8:
        scale = tl.maximum(tl.max(tl.abs(x), axis=0) / fp8_max, 1e-12)
        tl.store(scale_ptr + row, scale)
        x = x / scale
    tl.store(y_ptr + row * k + columns, x.to(y_ptr.dtype.element_ty), mask=ok)


def _multiply(
    x: Tensor, weight: Weight, gamma: Tensor | None = None, eps: float = 0.0, gated: bool = False,
    add: Tensor | None = None, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    batch, k = x.shape
    n = weight.rows // 2 if gated else weight.rows
    y = torch.empty((batch, n), dtype=dtype or x.dtype, device=x.device)
    form = _CODES[weight.format]
    block_n, block_k, warps, unroll = _blocks(n, k, form, gated)
    width = k // 2 if form == 2 else k
    grid = (batch * triton.cdiv(n, block_n),)
    _product[grid](
        x, gamma if gamma is not None else x, weight.data, weight.scale if form else x,
        add if add is not None else x, y, n, k, eps, batch, block_n, block_k, form, gamma is not None, gated,
        add is not None, GROUP, width % block_k == 0, n % block_n == 0, _chained(x), unroll, num_warps=warps,
        **_launch(x),
    )  # fmt: skip
    return y


BLOCKS = {
    (0, "few"): (8, 1024, 4, 2),
    (0, "deep"): (8, 512, 4, 4),
    (0, "many"): (16, 256, 4, 1),
    (0, "gated"): (4, 1024, 4, 1),
    (1, "few"): (8, 1024, 4, 1),
    (1, "deep"): (8, 1024, 4, 1),
    (1, "many"): (16, 512, 4, 2),
    (1, "gated"): (4, 2048, 4, 2),
    (2, "few"): (16, GROUP, 4, 1),
    (2, "deep"): (16, GROUP, 4, 1),
    (2, "many"): (16, GROUP, 4, 1),
    (2, "gated"): (16, GROUP, 2, 1),
}
"""Weight form and kind of product to rows, columns, warps and unrolling: together the fastest on an H200."""
MANY = 8192
"""Rows from which on a product has many, and columns from which on it is deep."""


def _blocks(n: int, k: int, form: int, gated: bool) -> tuple[int, int, int, int]:
    kind = "gated" if gated else "many" if n >= MANY else "deep" if k >= MANY else "few"
    block_n, block_k, warps, unroll = BLOCKS[form, kind]
    return block_n, block_k if form == 2 else min(block_k, triton.next_power_of_2(k)), warps, unroll


@cache
def _chains(device: int) -> bool:
    """Whether a kernel may be started while the one before it ends (programmatic dependent launch)."""
    return gdc_wait is not None and torch.cuda.get_device_capability(device) >= (9, 0)


def _chained(x: Tensor) -> bool:
    return x.is_cuda and _chains(x.device.index)


def _launch(x: Tensor) -> dict[str, bool]:
    return {"launch_pdl": True} if _chained(x) else {}


def norm_linear(x: Tensor, gamma: Tensor, eps: float, weight: Weight) -> Tensor:
    """See `engine_ops.norm_linear`; `x` is (b, k)."""
    return _multiply(x, weight, gamma, eps)


def logits(x: Tensor, gamma: Tensor, eps: float, weight: Weight) -> Tensor:
    """`norm_linear` in fp32."""
    return _multiply(x, weight, gamma, eps, dtype=torch.float32)


def norm_gated(x: Tensor, gamma: Tensor, eps: float, weight: Weight) -> Tensor:
    """See `engine_ops.norm_gated`; `x` is (b, k)."""
    return _multiply(x, weight, gamma, eps, gated=True)


def linear_add(y: Tensor, weight: Weight, x: Tensor) -> Tensor:
    """See `engine_ops.linear_add`; `y` is (b, k)."""
    return _multiply(y, weight, add=x)


def attend_next(
    qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, positions: Tensor
) -> Tensor:
    """See `engine_ops.attend_next`."""
    batch, shared, length, width = keys.shape
    if length > ATTENTION_LIMIT:
        return engine_ops.attend_next(qkv, keys, values, cos, sin, positions)
    heads = qkv.shape[1] // width - 2 * shared
    y = torch.empty((batch, heads * width), dtype=qkv.dtype, device=qkv.device)
    block = triton.next_power_of_2(length)
    _attend_next[(batch * heads,)](
        qkv, keys, values, cos, sin, positions, y, heads, shared, length, width**-0.5, width, block,
        _chained(qkv), num_warps=min(8, max(4, block // 64)), **_launch(qkv),
    )  # fmt: skip
    return y


def attend_first(
    qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, causal: bool = True
) -> Tensor:
    """See `engine_ops.attend_first`."""
    batch, shared, length, width = keys.shape
    n = qkv.shape[1]
    heads = qkv.shape[2] // width - 2 * shared
    q = torch.empty((batch, heads, n, width), dtype=qkv.dtype, device=qkv.device)
    grid = (batch * n, triton.cdiv(heads + 2 * shared, HEADS))
    _open_cache[grid](qkv, keys, values, cos, sin, q, n, heads, shared, length, width, HEADS, num_warps=4)
    with sdpa_kernel(BACKENDS, set_priority=True):
        return engine_ops.attend(q, keys[:, :, :n], values[:, :, :n], causal)


class _Rows:
    """What is done to each row of (n, k) before a product of matrices."""

    def __init__(self, fp8: bool) -> None:
        self._fp8 = fp8

    def __call__(
        self, x: Tensor, gamma: Tensor | None = None, eps: float = 0.0, delta: Tensor | None = None,
        gated: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(result (n, k), scale (n, 1) or None); with `delta`, `x` itself grows by it."""
        k = x.shape[1] // 2 if gated else x.shape[1]
        dtype = torch.float8_e4m3fn if self._fp8 else x.dtype
        y = torch.empty((x.shape[0], k), dtype=dtype, device=x.device)
        scale = torch.empty((x.shape[0], 1), dtype=torch.float32, device=x.device)
        block = triton.next_power_of_2(k)
        options: dict[str, Any] = {"num_warps": min(16, max(4, block // 512))}
        _row[(x.shape[0],)](
            x, delta if delta is not None else x, gamma if gamma is not None else x, y, scale, k, eps, block,
            gamma is not None, gated, delta is not None, self._fp8, FP8_MAX, **options,
        )  # fmt: skip
        return y, scale if self._fp8 else None


plain_rows = _Rows(False)
fp8_rows = _Rows(True)


@triton.jit
def _widened(w_ptr, scale_ptr, y_ptr, k, block: tl.constexpr, four: tl.constexpr, group: tl.constexpr):
    """Part of a row of 8-bit or 4-bit weights as numbers."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    if four:
        half = k // 2
        ok = columns < half
        raw = tl.load(w_ptr + row * half + columns, mask=ok, other=0)
        scales = scale_ptr + row * (k // group) + columns // group
        low = ((raw & 15).to(tl.float32) - 8.0) * tl.load(scales, mask=ok, other=0.0)
        high = ((raw >> 4).to(tl.float32) - 8.0) * tl.load(scales + half // group, mask=ok, other=0.0)
        tl.store(y_ptr + row * k + columns, low.to(y_ptr.dtype.element_ty), mask=ok)
        tl.store(y_ptr + row * k + half + columns, high.to(y_ptr.dtype.element_ty), mask=ok)
    else:
        ok = columns < k
        wide = tl.load(w_ptr + row * k + columns, mask=ok, other=0.0).to(tl.float32) * tl.load(
            scale_ptr + row
        )
        tl.store(y_ptr + row * k + columns, wide.to(y_ptr.dtype.element_ty), mask=ok)


def widened(weight: Weight, dtype: torch.dtype) -> Tensor:
    """See `quantization.dequantize`."""
    if weight.scale is None:
        return weight.data
    n, k = weight.rows, weight.columns
    y = torch.empty((n, k), dtype=dtype, device=weight.data.device)
    four, block = weight.format == "int4", 1024
    grid = (n, triton.cdiv(k // 2 if four else k, block))
    _widened[grid](weight.data, weight.scale, y, k, block, four, GROUP, num_warps=4)
    return y


class MatrixProducts:
    """Products of many rows with a weight, and what stands before them, in one format."""

    def __init__(self, form: str) -> None:
        self._form = form
        self.rows = fp8_rows if form == "fp8" else plain_rows

    def __call__(
        self, rows: tuple[Tensor, Tensor | None], weight: Weight, add: Tensor | None = None
    ) -> Tensor:
        """(n, k) by the weight: (n, rows of it); plus `add`."""
        x, scale = rows
        if weight.format == "fp8" and scale is not None and weight.scale is not None:
            y = torch._scaled_mm(
                x, weight.data.t(), scale, weight.scale.view(1, -1), out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )  # fmt: skip
            return y if add is None else add + y
        matrix = widened(weight, x.dtype)
        return x @ matrix.t() if add is None else torch.addmm(add, x, matrix.t())
