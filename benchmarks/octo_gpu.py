"""Octo on a GPU: transformer and all denoising steps in one graph, beside the plain torch forward.

`python -m benchmarks.octo_gpu --json benchmarks/results/octo_gpu.json`.  Random weights of full size, as in
`octo_cpu`, with the instruction encoded beforehand as there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine, octo_cpu
from benchmarks.figures import summary
from benchmarks.tables import Rows
from vla_ros.commands.shared import plain_errors
from vla_ros.errors import MachineError

LIMIT = 0.010
"""Seconds an answer of octo-base with a window of 2 may take at the median."""
PLAIN, GRAPH = "torch, plain", "torch, one graph"
VARIANTS = ((PLAIN, "fp32"), (GRAPH, "fp32"), (GRAPH, "bf16"))


def answer_of(size: str, window: int, name: str, precision: str) -> Callable[[dict[str, float]], Any]:
    """What answers once, and waits until the answer is on the CPU."""
    from vla_ros.policies.octo.torch_engine import TorchEngine

    config = octo_cpu.published(size, window)
    engine = TorchEngine(octo_cpu.random_model(config), octo_cpu.CAMERAS, window, "cuda", precision)
    kind = octo_cpu.engine_answer if name == GRAPH else octo_cpu.plain_answer
    return kind(engine, window, config)


def measure(size: str, window: int, count: int) -> dict[str, Any]:
    """Figures of all variants, one after the other on the same GPU."""
    import torch

    found: dict[str, Any] = {}
    for name, precision in VARIANTS:
        torch.cuda.reset_peak_memory_stats()
        answer = answer_of(size, window, name, precision)
        times, stages = [], []
        for index in range(count + 5):
            spent: dict[str, float] = {}
            begun = time.perf_counter()
            answer(spent)
            elapsed = time.perf_counter() - begun
            if index >= 5:
                times.append(1e3 * elapsed)
                stages.append(spent)
        found[f"{name}, {precision}"] = {
            "milliseconds": summary(np.array(times)),
            "stages_ms": {
                stage: summary(1e3 * np.array([one[stage] for one in stages]))["p50"] for stage in stages[0]
            },
            "gpu_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20),
        }
        del answer
        torch.cuda.empty_cache()
    return found


def rows(document: dict[str, Any]) -> list[Rows]:
    """The result as a table."""
    cells = [
        [
            name,
            f"{one['milliseconds']['p50']:.2f}",
            f"{one['milliseconds']['p99']:.2f}",
            f"{1e3 / one['milliseconds']['p50']:.0f}",
            f"{one['gpu_memory_mib']}",
        ]
        for name, one in document["variants"].items()
    ]
    title = f"{document['model']}, window {document['window']}, {document['gpu']}"
    return [Rows(title, ["variant", "p50 [ms]", "p99 [ms]", "Hz", "GPU memory [MiB]"], cells)]


@plain_errors
def main(
    size: Annotated[str, typer.Option(help="small or base.")] = "base",
    window: Annotated[int, typer.Option(min=1, max=10, help="Frames at once.")] = 2,
    count: Annotated[int, typer.Option(min=1, help="Answers to time per variant.")] = 200,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time Octo on this machine's GPU."""
    import torch

    if not torch.cuda.is_available():
        raise MachineError("This benchmark needs a GPU that torch can use, and there is none.")
    octo: dict[str, Any] = {
        "model": f"octo-{size}, random weights",
        "window": window,
        "gpu": torch.cuda.get_device_name(),
        "variants": measure(size, window, count),
    }
    best = min(one["milliseconds"]["p50"] for one in octo["variants"].values()) / 1e3
    if (size, window) == ("base", 2):
        octo["targets"] = {"octo-base": {"value": best, "limit": LIMIT, "met": best <= LIMIT}}
    document = {"benchmark": "octo_gpu", **machine.describe(), "torch": torch.__version__, "octo": octo}
    Console().print(*(one.rich() for one in rows(octo)), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
