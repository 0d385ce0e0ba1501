"""Octo on a CPU: ONNX Runtime in fp32 and int8 beside the plain torch forward, with the roofline.

`python -m benchmarks.octo_cpu --json benchmarks/results/octo_cpu.json`.  The weights are random and of full
size, so it runs anywhere; time does not depend on them.  Every variant runs in a process of its own.  The
instruction's encoder runs once per instruction and is not part of an answer.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.figures import summary
from benchmarks.tables import Rows
from vla_ros.commands.shared import plain_errors
from vla_ros.errors import ConfigurationError
from vla_ros.policies.octo.config import (
    HeadConfig,
    ImageTokens,
    LanguageTokens,
    OctoConfig,
    StemConfig,
)
from vla_ros.types import Array

SIZES = {"small": (384, 12, 6, 1536), "base": (768, 12, 12, 3072)}
"""Width, layers, heads and MLP of the published models."""
TOKENS = {"primary": 256, "wrist": 64}
CAMERAS = tuple(TOKENS)
INSTRUCTION = 16
HEAD = HeadConfig(horizon=4)
LIMITS = {"onnx fp32": 0.55, "onnx int8": 0.25}
"""Seconds an answer may take at the median, for octo-small and a window of 2."""
PLAIN = "torch, plain"
"""As the original computes it: all frames, all tokens, all steps of the window."""
VARIANTS = (PLAIN, "torch", *LIMITS)


def published(size: str, window: int) -> OctoConfig:
    """The configuration of a published model."""
    width, layers, heads, mlp = SIZES[size]
    return OctoConfig(
        images=tuple(ImageTokens(name, f"image_{name}", True, StemConfig()) for name in CAMERAS),
        language=LanguageTokens("language", "t5-base"),
        readouts={"action": 1},
        head=HEAD,
        width=width,
        layers=layers,
        heads=heads,
        mlp=mlp,
        window=window,
        repeat_task=True,
        correct_attention=True,
    )


def operations(config: OctoConfig, window: int, plain: bool) -> float:
    """Multiplications and additions of an answer, in matrix products and convolutions alone [FLOP].

    `plain`: every frame's stem and every pair of tokens; else the newest frame's stem, pairs that see each
    other by their time steps, and in the last layer keys and values for one readout.
    """
    width, step = config.width, sum(TOKENS.values()) + INSTRUCTION + 1
    total = INSTRUCTION + window * step
    dense = 2.0 * total * (4 * width**2 + 2 * width * config.mlp)
    pairs = float(total**2)
    if not plain:
        ends = [INSTRUCTION + index * step for index in range(window + 1)]
        pairs = INSTRUCTION**2 + sum(step * end for end in ends[1:])
    attention = 4.0 * pairs * width
    layers = config.layers * (dense + attention)
    if not plain:
        layers = (config.layers - 1) * (dense + attention) + 4.0 * total * width**2
    stems = sum(_stem_operations(one.stem, TOKENS[one.name], width) for one in config.images)
    return layers + stems * (window if plain else 1)


def _stem_operations(stem: StemConfig, tokens: int, width: int) -> float:
    side, channels, found = stem.patch * round(tokens**0.5), 6, 0.0
    for features, kernel, stride in zip(stem.features, stem.kernels, stem.strides, strict=True):
        side //= stride
        found += 2.0 * side**2 * kernel**2 * channels * features
        channels = features
    return found + 2.0 * tokens * (channels * stem.outputs + stem.outputs * width)


def measure(variant: str, size: str, window: int, folder: str, count: int, threads: int) -> dict[str, Any]:
    """Seconds of `count` answers, per stage too, the embedding and peak memory; in a process of its own."""
    config = published(size, window)
    if variant.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
        answer = _torch_answer(config, window, variant == PLAIN)
    else:
        answer = _onnx_answer(config, window, Path(folder) / variant.split()[1], threads)
    times: list[float] = []
    stages: dict[str, list[float]] = {}
    embedding = None
    for index in range(count + 2):
        spent: dict[str, float] = {}
        begun = time.perf_counter()
        embedding = answer(spent)
        elapsed = time.perf_counter() - begun
        if index >= 2:
            times.append(elapsed)
            for stage, seconds in spent.items():
                stages.setdefault(stage, []).append(seconds)
    return {
        "seconds": times,
        "stages": stages,
        "embedding": embedding,
        "memory": _peak_memory(),
    }


def _peak_memory() -> int:
    """Bytes this process had resident at most (proc(5), VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _frames() -> dict[str, Any]:
    random = np.random.default_rng(0)
    sides = {name: 16 * round(count**0.5) for name, count in TOKENS.items()}
    return {name: random.integers(0, 256, (side, side, 3), np.uint8) for name, side in sides.items()}


def _noise(config: OctoConfig) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(1)
    flat = config.head.horizon * config.head.dimension
    return (
        random.standard_normal(flat, np.float32),
        random.standard_normal((config.head.steps, flat), np.float32),
        np.ones(flat, bool),
    )


def random_model(config: OctoConfig) -> Any:
    """The model with random weights, the same in every process; its T5 is tiny, for it is not timed."""
    from vla_ros.policies.octo.model import random_octo
    from vla_ros.policies.octo.t5 import T5Sizes

    return random_octo(config, TOKENS, T5Sizes(64, 64, 2, 32, 64, 1))


def _torch_answer(config: OctoConfig, window: int, plain: bool) -> Callable[[dict[str, float]], Any]:
    from vla_ros.policies.octo.torch_engine import TorchEngine

    engine = TorchEngine(random_model(config), CAMERAS, window)
    return (plain_answer if plain else engine_answer)(engine, window, config)


def plain_answer(engine: Any, window: int, config: OctoConfig) -> Callable[[dict[str, float]], Any]:
    """An answer as the original computes it, with the model of a torch engine: its embedding (width,)."""
    import torch

    from vla_ros.policies.octo.model import Tokens

    model, device = engine.model, engine.device
    task, shown = _instruction(engine)
    images = {
        name: torch.from_numpy(image)[None].repeat(window, 1, 1, 1) for name, image in _frames().items()
    }
    first, later, _ = (torch.from_numpy(one).to(device) for one in _noise(config))
    first = first.repeat(1, window, 1)
    later = later[:, None, None].expand(-1, -1, window, -1)
    seen = torch.ones(1, window, dtype=torch.bool, device=device)

    def answer(spent: dict[str, float]) -> Any:
        with torch.inference_mode():
            begun = time.perf_counter()
            found = {
                name: Tokens(model.frame_tokens(name, image.to(device), None)[None], seen)
                for name, image in images.items()
            }
            spent["vision"] = time.perf_counter() - begun
            begun = time.perf_counter()
            groups = model.groups(found, Tokens(task, shown), seen)
            embeddings = model.embeddings(model.attend(*groups)[1])
            spent["prefill"] = time.perf_counter() - begun
            begun = time.perf_counter()
            model.head.sample(embeddings, first, later).cpu()
            spent["denoise"] = time.perf_counter() - begun
        return embeddings[0, -1].cpu().numpy()

    return answer


def _onnx_answer(
    config: OctoConfig, window: int, folder: Path, threads: int
) -> Callable[[dict[str, float]], Any]:
    from vla_ros.policies.octo.onnx_engine import OnnxEngine

    return engine_answer(OnnxEngine(folder, config, CAMERAS, window, "cpu", "", threads), window, config)


def _instruction(engine: Any) -> Any:
    ids = np.arange(INSTRUCTION)[None]
    return engine.instruction(ids, np.ones_like(ids), True)


def engine_answer(engine: Any, window: int, config: OctoConfig) -> Callable[[dict[str, float]], Any]:
    """An answer as the policy gives it: the newest frame's tokens are made, those before are remembered."""
    instruction, frames, noise = _instruction(engine), _frames(), _noise(config)
    masks = {name: np.ones(window, bool) for name in frames}

    def answer(spent: dict[str, float]) -> Any:
        begun = time.perf_counter()
        tokens = {name: [engine.frame(name, image, None)] * window for name, image in frames.items()}
        spent["vision"] = time.perf_counter() - begun
        actions = engine.act(instruction, tokens, masks, *noise, None, spent)
        return actions if engine.embedding is None else np.asarray(engine.embedding).reshape(-1)

    return answer


def deviation(config: OctoConfig, reference: Array, other: Array) -> dict[str, float]:
    """How far one embedding leads from another: itself, and the noise predicted from it.

    The noise is compared step by step on the same actions.  Final actions say nothing here: with random
    weights the sampling amplifies the least difference.
    """
    import torch

    head = random_model(config).head.eval()
    noise, step_noise, _ = _noise(config)
    away, scale = [], []
    with torch.inference_mode():
        one, two = (torch.from_numpy(np.asarray(part, np.float32))[None] for part in (reference, other))
        for step in range(config.head.steps):
            actions = torch.from_numpy(noise if step == 0 else step_noise[step])[None]
            at = torch.full((1, 1), float(step))
            first, second = head.network(one, at, actions), head.network(two, at, actions)
            away.append((first - second).square().mean().item())
            scale.append(first.square().mean().item())
    return {
        "embedding_relative": _short(np.linalg.norm(other - reference) / np.linalg.norm(reference)),
        "noise_relative": _short(np.sqrt(np.mean(away) / np.mean(scale))),
    }


def _short(value: Any) -> float:
    return float(f"{float(value):.3g}")


def gflops(threads: int) -> float:
    """What the machine does in a large fp32 matrix product [GFLOP/s], the best of some tries."""
    import torch

    torch.set_num_threads(threads)
    one, two = torch.rand(1024, 1536), torch.rand(1536, 1536)
    best = np.inf
    for _ in range(8):
        begun = time.perf_counter()
        torch.mm(one, two)
        best = min(best, time.perf_counter() - begun)
    return float(2.0 * 1024 * 1536 * 1536 / best / 1e9)


def run(size: str, window: int, count: int, threads: int) -> dict[str, Any]:
    """All variants of a model: the `octo` part of the result."""
    from vla_ros.policies.octo.export import export_model

    config = published(size, window)
    with tempfile.TemporaryDirectory() as folder:
        for name in LIMITS:
            precision = name.split()[1]
            export_model(random_model(config), Path(folder) / precision, precision, CAMERAS, window)
        found = {}
        for variant in VARIANTS:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found[variant] = pool.submit(measure, variant, size, window, folder, count, threads).result()
    peak = gflops(threads)
    reference = found[PLAIN]["embedding"]
    variants = {}
    for name, one in found.items():
        work = operations(config, window, name == PLAIN)
        seconds = summary(np.array(one["seconds"]))
        variants[name] = {
            "seconds": seconds,
            "hz": round(1.0 / seconds["p50"], 2),
            "actions_per_second": round(config.head.horizon / seconds["p50"], 1),
            "stages_ms": {
                stage: summary(1e3 * np.array(values))["p50"] for stage, values in one["stages"].items()
            },
            "peak_memory_mib": round(one["memory"] / 2**20),
            "gflop": round(work / 1e9, 1),
            "fp32_bound_s": round(work / 1e9 / peak, 3),
            "deviation": {
                key: float(f"{value:.3g}")
                for key, value in deviation(config, reference, one["embedding"]).items()
            },
        }
    document: dict[str, Any] = {
        "model": f"octo-{size}, random weights",
        "window": window,
        "threads": threads,
        "gflops_fp32": round(peak, 1),
        "variants": variants,
    }
    if (size, window) == ("small", 2):
        document["targets"] = {
            name: {
                "value": variants[name]["seconds"]["p50"],
                "limit": limit,
                "met": variants[name]["seconds"]["p50"] <= limit,
            }
            for name, limit in LIMITS.items()
        }
    return document


def rows(document: dict[str, Any]) -> list[Rows]:
    """The result as tables."""
    document = document["octo"]
    variants = document["variants"].items()
    times = [
        [
            name,
            *(f"{one['seconds'][share]:.3f}" for share in ("p50", "p99")),
            f"{one['fp32_bound_s']:.3f}",
            f"{one['hz']:.1f}",
            f"{one['actions_per_second']:.0f}",
            *(f"{one['stages_ms'][stage]:.0f}" for stage in ("vision", "prefill", "denoise")),
        ]
        for name, one in variants
    ]
    others = [
        [
            name,
            f"{one['gflop']:.1f}",
            f"{one['peak_memory_mib']}",
            *(f"{one['deviation'][key]:.1e}" for key in ("embedding_relative", "noise_relative")),
        ]
        for name, one in variants
    ]
    title = f"{document['model']}, window {document['window']}, {document['threads']} threads"
    bound = f"fp32 bound at {document['gflops_fp32']:.0f} GFLOP/s [s]"
    heads = ["variant", "p50 [s]", "p99 [s]", bound, "Hz", "actions/s"]
    heads += ["vision [ms]", "transformer [ms]", "denoising [ms]"]
    found = [
        Rows(title, heads, times),
        Rows(
            "Work, memory, and deviation from the plain forward (relative, root mean square)",
            ["variant", "GFLOP", "peak memory [MiB]", "of the embedding", "of the predicted noise"],
            others,
        ),
    ]
    if "targets" in document:
        targets = [
            [name, f"{one['value']:.3f}", f"{one['limit']:.2f}", "yes" if one["met"] else "NO"]
            for name, one in document["targets"].items()
        ]
        found.append(Rows("Targets", ["variant", "p50 [s]", "limit [s]", "met"], targets))
    return found


@plain_errors
def main(
    size: Annotated[str, typer.Option(help="small or base.")] = "small",
    window: Annotated[int, typer.Option(min=1, max=10, help="Frames at once.")] = 2,
    count: Annotated[int, typer.Option(min=1, help="Answers to time per variant.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every variant.")] = 2,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time Octo on this machine's CPU, every variant in turn."""
    if size not in SIZES:
        raise ConfigurationError(f"The size is '{size}', but must be {' or '.join(SIZES)}.")
    document = {"benchmark": "octo_cpu", **machine.describe(), "octo": run(size, window, count, threads)}
    Console().print(*(one.rich() for one in rows(document)), sep="\n")
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
