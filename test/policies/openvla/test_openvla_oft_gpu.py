"""OpenVLA-OFT on a GPU: kernels and graphs answer what the plain model answers."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

import openvla_checkpoint as tiny  # noqa: E402

from vla_ros.policies.openvla.oft.film import Film  # noqa: E402
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector  # noqa: E402
from vla_ros.policies.openvla.oft.model import OftModel  # noqa: E402
from vla_ros.policies.openvla.oft.runner import Runner  # noqa: E402

TEXT = {**tiny.TEXT, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}


@pytest.mark.parametrize("film", [False, True])
@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.1), ("fp8", 0.3)])
def test_the_graph_answers_what_the_model_answers(
    tmp_path: Path, precision: str, bound: float, film: bool
) -> None:
    base = tiny.random_model(tiny.write_config(tmp_path, text_config=TEXT))
    torch.manual_seed(0)
    model = OftModel(
        base, ActionHead(256, 7), 8, StateProjector(8, 256), Film(base.vision_backbone, 256) if film else None
    ).requires_grad_(False)
    device = torch.device("cuda")
    runner = Runner(copy.deepcopy(model).to(device, torch.bfloat16), precision, device)
    random = np.random.default_rng(0)
    # lengths come back: the second time their graphs are replayed
    for length in (12, 17, 12, 17, 20):
        images = torch.from_numpy(random.normal(size=(2, 12, tiny.SIZE, tiny.SIZE)).astype(np.float32))
        ids = np.stack([np.append(1, random.integers(3, 259, length)) for _ in range(2)])
        states = random.uniform(-1.0, 1.0, (2, 8)).astype(np.float32)
        with torch.no_grad():
            exact = model(images, torch.from_numpy(ids), torch.from_numpy(states)).numpy()
        answer = runner.generate(images, list(ids), states)
        assert np.abs(answer.values - exact).max() <= bound
        assert np.array_equal(runner.generate(images, list(ids), states).values, answer.values)
