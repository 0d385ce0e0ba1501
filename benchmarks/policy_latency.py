"""How long a policy takes to answer, by precision, beside the plain way to run the same weights.

`python -m benchmarks.policy_latency --json benchmarks/results/policy_latency.json`.  The weights are random
and of full size, made where they are used: time does not depend on them, so it runs wherever there is memory.
The baseline of OpenVLA is transformers' `generate`, of Octo the plain torch forward.  CPUs: `octo_cpu.py`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
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

Answer = Callable[[], dict[str, float]]
"""One answer; the seconds of its stages."""
MODELS = ("openvla", "oft", "octo-small", "octo-base")
PRECISIONS = ("bf16", "fp8", "int8", "int4")
TARGETS = {
    ("openvla", "bf16"): 27.0,
    ("openvla", "fp8"): 16.0,
    ("openvla-oft", "bf16"): 12.0,
    ("octo-base", "bf16"): 10.0,
}
"""Milliseconds an answer may take at the median on a GPU of the H200's class."""
PROMPT = 25
"""Tokens of the question, 281 with the patches: "pick up the red block" and some words more."""


def timed(answer: Answer, count: int) -> dict[str, Any]:
    """Milliseconds of `count` answers after three, and the median of each stage."""
    import torch

    for _ in range(3):
        answer()
    times, stages = [], []
    for _ in range(count):
        begun = time.perf_counter()
        stages.append(answer())
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begun))
    return {
        "ms": summary(np.array(times)),
        "stages_ms": {
            name: round(1e3 * float(np.median([one[name] for one in stages])), 3) for name in stages[0]
        },
    }


def openvla_model() -> Any:
    """OpenVLA-7B on the GPU with random weights in bf16."""
    import torch

    from vla_ros.policies.openvla.config import TOWERS, OpenVlaConfig
    from vla_ros.policies.openvla.model import OpenVlaModel

    towers = tuple(
        TOWERS[name] for name in ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")
    )
    config = OpenVlaConfig(towers, 224, "resize-naive", {}, 32000, False, {}, "random weights")
    with torch.device("meta"):
        model = OpenVlaModel(config)
    model = model.to(torch.bfloat16).to_empty(device="cuda").requires_grad_(False).eval()
    generator = torch.Generator("cuda").manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 0.02, generator=generator)
        else:
            parameter.fill_(1.0)
    return model


def question() -> tuple[Any, Any]:
    """Pixels (1, 6, 224, 224) and a prompt."""
    import torch

    random = np.random.default_rng(0)
    images = torch.from_numpy(random.normal(size=(1, 6, 224, 224)).astype(np.float32))
    return images, np.concatenate(([1], random.integers(3, 31000, PROMPT - 1))).astype(np.int64)


def plain_openvla(model: Any) -> Answer:
    """Vision step by step and transformers' `generate` on the weights of `model`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(vocab_size=32064, torch_dtype=torch.bfloat16))
    llama.load_state_dict(model.language_model.state_dict(), assign=True)
    llama.model.rotary_emb = type(llama.model.rotary_emb)(llama.config).to("cuda")
    llama.eval()
    images, prompt = question()
    ids = torch.from_numpy(prompt)[None].cuda()

    def answer() -> dict[str, float]:
        with torch.inference_mode():
            begun = time.perf_counter()
            shown = images.to("cuda", torch.bfloat16)
            patches = model.projector(model.vision_backbone(shown))
            words = model.language_model.embed(ids)
            x = torch.cat((words[:, :1], patches, words[:, 1:]), dim=1)
            torch.cuda.synchronize()
            seen = time.perf_counter()
            mask = torch.ones(x.shape[:2], dtype=torch.int64, device="cuda")
            llama.generate(
                inputs_embeds=x, attention_mask=mask, max_new_tokens=7, min_new_tokens=7, do_sample=False,
                pad_token_id=0,
            ).cpu()  # fmt: skip
            return {"vision": seen - begun, "prefill and decode": time.perf_counter() - seen}

    return answer


def openvla(precisions: list[str], count: int) -> list[dict[str, Any]]:
    """OpenVLA-7B in several precisions, after the baseline."""
    import torch

    from vla_ros.policies.openvla.engine import Engine

    images, prompt = question()
    found = []
    for number, precision in enumerate(precisions):
        model = openvla_model()
        if number == 0:
            baseline = timed(plain_openvla(model), max(3, count // 3))
            found.append({"policy": "openvla-7b", "precision": "bf16, transformers generate", **baseline})
        begun = time.perf_counter()
        engine = Engine(model, precision, torch.device("cuda"))
        del model
        collect()
        engine.generate(images, [prompt])
        ready = time.perf_counter() - begun
        memory = torch.cuda.memory_allocated()

        def answer(engine: Any = engine) -> dict[str, float]:
            return dict(engine.generate(images, [prompt]).seconds)

        found.append(
            {"policy": "openvla-7b", "precision": precision, **timed(answer, count), "actions": 1,
             "memory_gib": round(memory / 2**30, 2), "warm_up_s": round(ready, 1)}
        )  # fmt: skip
        del engine, answer
        collect()
    return found


def oft(count: int) -> list[dict[str, Any]]:
    """OpenVLA-OFT, chunk of 8: one image; then two and the robot's state; beside the plain forward."""
    import torch

    from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector
    from vla_ros.policies.openvla.oft.model import OftModel
    from vla_ros.policies.openvla.oft.runner import Runner

    image, prompt = question()
    device, found = torch.device("cuda"), []
    for name, cameras, size, precisions in (
        ("openvla-oft", 1, 0, ("bf16", "fp8")),
        ("openvla-oft, wrist camera and state", 2, 8, ("bf16", "fp8")),
    ):
        images = image.repeat(1, cameras, 1, 1)
        states = np.zeros((1, size), dtype=np.float32) if size else None
        for number, precision in enumerate(precisions):
            base = openvla_model()
            with device:
                head, state = ActionHead(4096, 7), StateProjector(size, 4096) if size else None
            model = OftModel(base, head, 8, state).to(torch.bfloat16).eval().requires_grad_(False)
            if number == 0:
                ids = torch.from_numpy(prompt)[None].cuda()
                told = torch.zeros(1, size, dtype=torch.bfloat16, device="cuda") if size else None

                def plain(
                    model: Any = model, ids: Any = ids, images: Any = images, told: Any = told
                ) -> dict[str, float]:
                    with torch.inference_mode():
                        shown = images.to("cuda", torch.bfloat16)
                        model(shown, ids, told).cpu()
                    return {}

                found.append(
                    {"policy": name, "precision": "bf16, plain forward", **timed(plain, count), "actions": 8}
                )
                del plain, ids
            runner = Runner(model, precision, device)
            del model, base, head, state
            collect()

            def answer(runner: Any = runner, images: Any = images, states: Any = states) -> dict[str, float]:
                return dict(runner.generate(images, [prompt], states).seconds)

            figures = timed(answer, count)
            memory = round(torch.cuda.memory_allocated() / 2**30, 2)
            found.append(
                {"policy": name, "precision": precision, **figures, "actions": 8, "memory_gib": memory}
            )
            del runner, answer
            collect()
    return found


def octo(size: str, count: int) -> list[dict[str, Any]]:
    """Octo with a window of 2 on the GPU: the plain forward, and one graph in fp32 and bf16."""
    import torch

    from benchmarks.octo_cpu import CAMERAS, engine_answer, plain_answer, published, random_model
    from vla_ros.policies.octo.torch_engine import TorchEngine

    config, window, found = published(size, 2), 2, []
    for name, precision, make in (
        ("fp32, plain forward", "fp32", plain_answer),
        ("fp32", "fp32", engine_answer),
        ("bf16", "bf16", engine_answer),
    ):
        engine = TorchEngine(random_model(config), CAMERAS, window, "cuda", precision)
        run = make(engine, window, config)

        def answer(run: Any = run) -> dict[str, float]:
            spent: dict[str, float] = {}
            run(spent)
            return spent

        figures = timed(answer, count)
        found.append(
            {"policy": f"octo-{size}", "precision": name, **figures, "actions": config.head.horizon,
             "memory_gib": round(torch.cuda.memory_allocated() / 2**30, 2)}
        )  # fmt: skip
        del engine, run, answer
        collect()
    return found


def collect() -> None:
    """Give the GPU's memory back."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def finish(results: list[dict[str, Any]]) -> None:
    """Add rates, the ratio to each policy's first row, and whether a target is met."""
    first: dict[str, float] = {}
    for one in results:
        p50 = one["ms"]["p50"]
        baseline = first.setdefault(one["policy"], p50)
        one["hz"] = round(1e3 / p50, 1)
        one["actions_per_second"] = round(1e3 / p50 * one.get("actions", 1), 1)
        one["times_baseline"] = round(baseline / p50, 2)
        limit = TARGETS.get((one["policy"].removesuffix("-7b"), one["precision"]))
        if limit is not None:
            one["target_ms"] = limit
            one["met"] = bool(p50 <= limit)


def rows(document: dict[str, Any]) -> list[Rows]:
    """The result as a table."""
    cells = [
        [
            f"{one['policy']}, {one['precision']}",
            f"{one['ms']['p50']:.1f}",
            f"{one['ms']['p99']:.1f}",
            f"{one['times_baseline']:.1f}",
            f"{one['hz']:.1f}",
            f"{one['actions_per_second']:.0f}",
            f"{one.get('memory_gib', 0) or 0:.1f}" if "memory_gib" in one else "",
            ", ".join(f"{name} {value:.1f}" for name, value in one["stages_ms"].items()),
            f"{one['target_ms']:.0f} {'yes' if one['met'] else 'NO'}" if "target_ms" in one else "",
        ]
        for one in document["results"]
    ]
    heads = ["policy", "p50 [ms]", "p99 [ms]", "times the baseline", "Hz", "actions/s", "memory [GiB]",
             "stages, median [ms]", "target [ms], met"]  # fmt: skip
    return [Rows(f"Latency on one {document['device']}", heads, cells)]


@plain_errors
def main(
    models: Annotated[str, typer.Option(help=f"With commas between: {', '.join(MODELS)}.")] = ",".join(
        MODELS
    ),
    precisions: Annotated[str, typer.Option(help="Of OpenVLA, with commas between.")] = ",".join(PRECISIONS),
    count: Annotated[int, typer.Option(min=3, help="Answers to time.")] = 50,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time policies on this machine's GPU."""
    import torch

    chosen = [name.strip() for name in models.split(",")]
    unknown = [name for name in chosen if name not in MODELS]
    if unknown:
        raise ConfigurationError(f"Model '{unknown[0]}' is unknown, known are {', '.join(MODELS)}.")
    if not torch.cuda.is_available():
        raise ConfigurationError("This benchmark needs a GPU; on a CPU run benchmarks/octo_cpu.py.")
    document: dict[str, Any] = {
        "benchmark": "policy_latency",
        **machine.describe(),
        "device": torch.cuda.get_device_name(),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "results": [],
    }
    for name in chosen:
        kinds = [one.strip() for one in precisions.split(",")]
        if name == "openvla":
            document["results"] += openvla(kinds, count)
        else:
            document["results"] += oft(count) if name == "oft" else octo(name[5:], count)
        finish(document["results"])
        if json_path is not None:
            machine.write_json(json_path, document)
    Console(width=200).print(*(one.rich() for one in rows(document)), sep="\n")


if __name__ == "__main__":
    typer.run(main)
