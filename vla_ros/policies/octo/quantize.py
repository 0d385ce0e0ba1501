"""The transformer's matrix products in 8 bits: weights per column, activations by the range of each call."""

from __future__ import annotations

import logging
from pathlib import Path

from vla_ros.errors import PolicyError


def quantize(path: Path) -> None:
    """Quantise the products with constant weights in an ONNX file, in place.

    Dynamic quantisation (ONNX Runtime, "Quantize ONNX models"): no calibration data are needed, and a range
    seen at run time is never too narrow.  Attention's own products and all norms stay in fp32.
    Raises `PolicyError` when onnxruntime or onnx is missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise PolicyError(f"int8 needs the packages onnx and onnxruntime: {error}.") from error
    raw = path.with_suffix(".fp32.onnx")
    path.replace(raw)
    level = logging.getLogger().level
    try:
        # its advice to pre-process is about models with shapes that vary
        logging.getLogger().setLevel(logging.ERROR)
        quantize_dynamic(
            raw,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().setLevel(level)
        raw.unlink()
