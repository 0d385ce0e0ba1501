"""The engine answers what the plain model answers, in every format of weights; a batch as each alone."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

from vla_ros.errors import PolicyError  # noqa: E402
from vla_ros.policies.openvla.engine import Engine, check_precision  # noqa: E402
from vla_ros.policies.openvla.llama import Llama, LlamaConfig  # noqa: E402
from vla_ros.policies.openvla.quantization import FORMATS, GROUP, dequantize, quantize  # noqa: E402

CPU = torch.device("cpu")
SIZES = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320,
}  # fmt: skip
COUNT = 5


class Patches(torch.nn.Module):
    """Images (b, 3, 4, 4) to 4 patches of 12 values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(len(images), 4, 12)


def tiny(seed: int = 0) -> SimpleNamespace:
    torch.manual_seed(seed)
    language = Llama(LlamaConfig.from_mapping(SIZES))
    for name, parameter in language.named_parameters():
        torch.nn.init.normal_(parameter, std=0.08) if parameter.dim() > 1 else torch.nn.init.ones_(parameter)
        parameter.requires_grad_(False)
        assert name
    projector = torch.nn.Linear(12, 256).requires_grad_(False)
    return SimpleNamespace(vision_backbone=Patches(), projector=projector, language_model=language)


def plain(model: SimpleNamespace, image: torch.Tensor, prompt: np.ndarray) -> list[int]:
    """Greedy decoding without any cache."""
    ids = torch.from_numpy(prompt)[None]
    patches = model.projector(model.vision_backbone(image[None]))
    answer: list[int] = []
    for _ in range(COUNT):
        embedded = model.language_model.embed(torch.cat((ids, torch.tensor([answer], dtype=torch.int64)), 1))
        hidden = model.language_model(torch.cat((embedded[:, :1], patches, embedded[:, 1:]), 1))
        answer.append(int(model.language_model.logits(hidden[:, -1]).argmax()))
    return answer


def cases(seed: int) -> tuple[torch.Tensor, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.normal(size=(3, 3, 4, 4)).astype(np.float32))
    prompts = [random.integers(0, 320, size=n).astype(np.int64) for n in (6, 9, 4)]
    return images, prompts


@pytest.mark.parametrize("precision", ["fp32", "fp8", "int8", "int4"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_engine_answers_as_the_plain_model(precision: str, seed: int) -> None:
    model = tiny(seed)
    reference = copy.deepcopy(model)
    if precision != "fp32":
        for layer in reference.language_model.model.layers:
            for part in (layer.self_attn, layer.mlp):
                for linear in part.children():
                    linear.weight.copy_(dequantize(quantize(linear.weight, precision), torch.float32))
    images, prompts = cases(seed)
    engine = Engine(model, precision, CPU, COUNT)
    alone = [
        engine.generate(images[i : i + 1], prompts[i : i + 1]).ids[0].tolist() for i in range(len(prompts))
    ]
    assert alone == [plain(reference, images[i], prompts[i]) for i in range(len(prompts))]
    together = engine.generate(images, prompts)
    assert together.ids.tolist() == alone
    assert list(together.seconds) == ["upload", "vision", "prefill", "decode"]
    assert all(seconds >= 0.0 for seconds in together.seconds.values())


def test_only_allowed_tokens_are_answered() -> None:
    images, prompts = cases(0)
    free = Engine(tiny(), "fp32", CPU, COUNT).generate(images, prompts).ids
    bound = Engine(tiny(), "fp32", CPU, COUNT, allowed=(40, 60)).generate(images, prompts).ids
    assert ((bound >= 40) & (bound < 60)).all() and not ((free >= 40) & (free < 60)).all()


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_keeps_what_it_can_say(form: str) -> None:
    torch.manual_seed(3)
    matrix = torch.randn(32, 4 * GROUP)
    matrix[3] = 0.0
    again = dequantize(quantize(matrix, form), torch.float32)
    bound = {"plain": 0.0, "fp8": 1 / 16, "int8": 0.5 / 127, "int4": 0.5 / 7}[form]
    largest = matrix.abs().amax()
    error = (again - matrix).abs()
    assert (error <= bound * (matrix.abs() if form == "fp8" else largest) + largest * 1e-4).all()
    assert again[3].abs().max() == 0.0
    assert quantize(again, form).data.float().equal(quantize(matrix, form).data.float())


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(PolicyError, match="'fp4' is unknown, known are fp32, bf16, fp8, int8, int4"):
        check_precision("fp4", CPU)
    with pytest.raises(PolicyError, match="'bf16' needs a GPU"):
        check_precision("bf16", CPU)
    with pytest.raises(PolicyError, match="multiple of 256 weights, but they have 130"):
        quantize(torch.zeros(2, 130), "int4")
    with pytest.raises(PolicyError, match="takes 2059 positions, but the model has 2048"):
        Engine(tiny(), "fp32", CPU, COUNT).generate(cases(0)[0][:1], [np.zeros(2050, dtype=np.int64)])
    with pytest.raises(PolicyError, match="rope_scaling"):
        LlamaConfig.from_mapping({"rope_scaling": {"type": "linear"}})
    with pytest.raises(PolicyError, match="'phi'"):
        LlamaConfig.from_mapping({"model_type": "phi"})
