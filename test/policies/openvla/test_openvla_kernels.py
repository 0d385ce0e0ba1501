"""Each Triton kernel does what its plain form does: on a GPU, else in Triton's interpreter where that is."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton comes with PyTorch for GPUs only")

from vla_ros.policies.openvla import engine_ops, kernels  # noqa: E402
from vla_ros.policies.openvla.engine_layers import fuse  # noqa: E402
from vla_ros.policies.openvla.engine_read import Reader  # noqa: E402
from vla_ros.policies.openvla.llama import Llama, LlamaConfig, rotary_table  # noqa: E402
from vla_ros.policies.openvla.quantization import FORMATS, dequantize, quantize  # noqa: E402

DEVICE = torch.device("cuda" if GPU else "cpu")
DTYPE = torch.bfloat16 if GPU else torch.float32
CLOSE = 1e-2 if GPU else 1e-5


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).to(DTYPE)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours.float() - theirs.float()).norm()) <= CLOSE * float(theirs.float().norm())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_products(form: str, batch: int) -> None:
    torch.manual_seed(0)
    x, gamma, residual = draw(batch, 512), draw(512), draw(batch, 96)
    weight = quantize(0.05 * draw(96, 512), form)
    wide, wide_gamma = x.float(), gamma.float()
    same(
        kernels.norm_linear(x, gamma, 1e-6, weight),
        engine_ops.norm_linear(wide, wide_gamma, 1e-6, weight),
    )
    same(kernels.norm_gated(x, gamma, 1e-6, weight), engine_ops.norm_gated(wide, wide_gamma, 1e-6, weight))
    same(kernels.linear_add(x, weight, residual), engine_ops.linear_add(wide, weight, residual.float()))
    same(kernels.widened(weight, torch.float32), dequantize(weight, torch.float32))


@pytest.mark.parametrize("shared", [4, 2])
def test_attention_and_its_cache(shared: int) -> None:
    torch.manual_seed(1)
    heads, batch, width, length = 4, 2, 16, 40
    cos, sin = rotary_table(LlamaConfig(head_dim=width), length, DEVICE)
    ours = [torch.zeros(batch, shared, length, width, device=DEVICE, dtype=DTYPE) for _ in range(2)]
    theirs = [one.float() for one in ours]
    first = draw(batch, 11, (heads + 2 * shared) * width)
    same(
        kernels.attend_first(first, *ours, cos, sin),
        engine_ops.attend_first(first.float(), *theirs, cos, sin),
    )
    following = draw(batch, (heads + 2 * shared) * width)
    positions = torch.tensor([11, 9], device=DEVICE)
    same(
        kernels.attend_next(following, *ours, cos, sin, positions),
        engine_ops.attend_next(following.float(), *theirs, cos, sin, positions),
    )
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)


def test_rows() -> None:
    torch.manual_seed(2)
    x, gamma, delta = draw(3, 500), draw(500), draw(3, 500)
    before = x.float().clone()
    found, scale = kernels.plain_rows(x, gamma, 1e-6, delta)
    assert scale is None
    same(x, before + delta.float())
    same(found, engine_ops.rms_norm(before + delta.float(), gamma.float(), 1e-6))
    found, scale = kernels.fp8_rows(draw(3, 500), gamma, 1e-6)
    assert found.dtype == torch.float8_e4m3fn and scale is not None and scale.shape == (3, 1)
    gate, up = (part.float() for part in x[:, :500].chunk(2, dim=1))
    found, _ = kernels.plain_rows(x, gated=True)
    same(found, torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize("form", ["plain", "int8", "int4", *(["fp8"] if GPU else [])])
@pytest.mark.parametrize("kept", [True, False])
def test_many_tokens_through_all_layers(form: str, kept: bool) -> None:
    torch.manual_seed(4)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64, head_dim=64,
    )  # fmt: skip
    with DEVICE:
        model = Llama(config).to(DTYPE).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.1) if parameter.dim() > 1 else parameter.fill_(1.0)
    fused, turn = fuse(model, form), rotary_table(config, 32, DEVICE)
    x, room = draw(2, 9, 256), (*((2,) if kept else ()), 2, 2, 16, 64)
    found = []
    for gpu in (True, False):
        keys, values = (torch.zeros(room, device=DEVICE, dtype=DTYPE) for _ in range(2))
        y = Reader(fused, turn, 1e-6, form, gpu)(x, keys, values, causal=kept)
        found.append((y, keys, values))
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).float().norm()) <= (0.1 if form == "fp8" else 2 * CLOSE) * float(
            theirs.float().norm()
        )
