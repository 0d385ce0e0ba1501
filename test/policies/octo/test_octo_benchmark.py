"""The benchmark's arithmetic, and that it runs through on a small model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from benchmarks import octo_cpu


def test_operations_are_those_of_the_published_models() -> None:
    small, base = octo_cpu.published("small", 2), octo_cpu.published("base", 2)
    assert octo_cpu.operations(small, 2, plain=True) == pytest.approx(41.1e9, rel=0.02)
    assert octo_cpu.operations(base, 2, plain=True) == pytest.approx(141e9, rel=0.04)
    short = octo_cpu.operations(small, 2, plain=False)
    assert 0.7 < short / octo_cpu.operations(small, 2, plain=True) < 0.9


def test_all_variants_answer_alike(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setitem(octo_cpu.SIZES, "small", (48, 2, 4, 64))
    for camera, tokens in (("primary", 16), ("wrist", 4)):
        monkeypatch.setitem(octo_cpu.TOKENS, camera, tokens)
    monkeypatch.setattr(octo_cpu, "HEAD", replace(octo_cpu.HEAD, steps=5))
    found: dict[str, Any] = {}
    config = octo_cpu.published("small", 2)
    from vla_ros.policies.octo.export import export_model

    for precision in ("fp32", "int8"):
        export_model(octo_cpu.random_model(config), tmp_path / precision, precision, octo_cpu.CAMERAS, 2)
    for variant in octo_cpu.VARIANTS:
        found[variant] = octo_cpu.measure(variant, "small", 2, str(tmp_path), 1, 1)
        assert set(found[variant]["stages"]) == {"vision", "prefill", "denoise"}
        assert found[variant]["memory"] > 0
    reference = found[octo_cpu.PLAIN]["embedding"]
    for variant, one in found.items():
        away = octo_cpu.deviation(config, reference, one["embedding"])
        limit = 0.1 if variant == "onnx int8" else 1e-4
        assert away["embedding_relative"] < limit and away["noise_relative"] < limit
    away = octo_cpu.deviation(config, reference, reference + np.float32(1.0))
    assert away["embedding_relative"] > 0.1


def test_tables() -> None:
    one = {
        "seconds": {"p50": 0.2, "p99": 0.3}, "hz": 5.0, "actions_per_second": 20.0,
        "stages_ms": {"vision": 10.0, "prefill": 180.0, "denoise": 7.0}, "peak_memory_mib": 400,
        "gflop": 41.0, "fp32_bound_s": 0.1,
        "deviation": {"embedding_relative": 0.01, "noise_relative": 0.02},
    }  # fmt: skip
    document = {
        "model": "octo-small", "window": 2, "threads": 2, "gflops_fp32": 300.0,
        "variants": {"onnx fp32": one},
        "targets": {"onnx fp32": {"value": 0.6, "limit": 0.55, "met": False}},
    }  # fmt: skip
    tables = octo_cpu.rows({"octo": document})
    assert tables[0].cells[0] == ["onnx fp32", "0.200", "0.300", "0.100", "5.0", "20", "10", "180", "7"]
    assert tables[1].cells[0] == ["onnx fp32", "41.0", "400", "1.0e-02", "2.0e-02"]
    assert tables[2].cells[0] == ["onnx fp32", "0.600", "0.55", "NO"]
