"""The torch model: the short way gives what the whole gives, checkpoints are used up, gradients are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from octo_checkpoint import arrays, config_json  # noqa: E402

from vla_ros.errors import PolicyError  # noqa: E402
from vla_ros.policies.octo.checkpoint import octo_from_arrays  # noqa: E402
from vla_ros.policies.octo.config import HeadConfig, OctoConfig, parse_config  # noqa: E402
from vla_ros.policies.octo.diffusion import DiffusionHead  # noqa: E402
from vla_ros.policies.octo.model import Octo, Sequence, Tokens, random_octo  # noqa: E402
from vla_ros.policies.octo.t5 import T5Encoder, T5Sizes, position_buckets  # noqa: E402

SMALL = T5Sizes(32, 16, 2, 8, 32, 2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(**model: Any) -> OctoConfig:
    return parse_config(config_json(**model))


def made(shape: OctoConfig, seed: int = 0) -> Octo:
    return random_octo(shape, {"primary": 4, "wrist": 1}, SMALL, seed).eval().requires_grad_(False)


@settings(max_examples=25)
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([{"action": 1}, {"action": 2}, {"value": 1, "action": 1}, {"action": 1, "value": 2}]),
    st.integers(1, 3),
    st.sampled_from([("primary",), ("primary", "wrist")]),
    st.integers(0, 2**31),
)
def test_less_work_gives_the_same(
    correct: bool, repeat: bool, readouts: dict[str, int], window: int, names: tuple[str, ...], seed: int
) -> None:
    model = made(config(use_correct_attention=correct, repeat_task_tokens=repeat, readouts=readouts))
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(2, window, generator=generator) < 0.7
    steps[:, -1] = True
    task = Tokens(torch.randn(2, 16, 32, generator=generator), torch.tensor([True, bool(seed % 2)]))
    frames = {
        name: Tokens(
            torch.randn(2, window, model.tokens[name], 32, generator=generator),
            torch.rand(2, window, generator=generator) < 0.8,
        )
        for name in names
    }
    whole = model.embeddings(model.attend(*model.groups(frames, task, steps))[1])[:, -1]
    short = Sequence(model, names, window)
    masks = [frames[name].mask & steps for name in short.names]
    found = short(task.tokens, task.mask, [frames[name].tokens for name in short.names], masks)
    assert torch.allclose(found, whole, atol=2e-5)


def test_what_is_masked_does_not_matter() -> None:
    model = made(config())
    sequence = Sequence(model, ("primary", "wrist"), 2)
    task, shown = torch.randn(1, 16, 32), torch.tensor([True])
    primary, wrist = torch.randn(1, 2, 4, 32), torch.randn(1, 2, 1, 32)
    seen = torch.ones(1, 2, dtype=torch.bool)
    alone = Sequence(model, ("primary",), 2)(task, shown, [primary], [seen])
    hidden = sequence(task, shown, [primary, wrist], [seen, ~seen])
    assert torch.allclose(hidden, alone, atol=1e-5)
    other = sequence(task, shown, [primary, wrist + 3.0], [seen, seen])
    assert not torch.allclose(other, alone, atol=1e-2)


def test_all_arrays_are_used_and_folding_changes_nothing() -> None:
    weights = arrays()
    model = octo_from_arrays(weights, config(), "weights").eval()
    assert sum(one.numel() for one in model.parameters()) == sum(one.size for one in weights.values())
    image = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    before = model.frame_tokens("primary", image, None)
    model.fold()
    assert torch.allclose(model.frame_tokens("primary", image, None), before, atol=1e-5)
    assert not any(one.requires_grad for one in model.parameters())
    black = model.frame_tokens("primary", image, torch.zeros_like(image))
    assert torch.equal(black, model.frame_tokens("primary", image, None))


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("octo_transformer/obs_wrist_pos_embedding", None, "lacks the array octo_transformer/obs_wrist_pos"),
        ("heads_action/diffusion_model/reverse_network/Dense_1/bias", None, "lacks the array heads_action"),
        (
            "heads_action/diffusion_model/reverse_network/Dense_1/bias",
            (27,),
            r"makes \(27,\), but .* \(28,",
        ),
        ("octo_transformer/obs_wrist_pos_embedding", (3,), "must have 4 axes"),
        (
            "octo_transformer/BlockTransformer_0/Transformer_0/encoderblock_1/MultiHeadDotProductAttention_0/key/kernel",
            (32, 4, 7),
            "has shape .* needs",
        ),
        (
            "octo_transformer/readout_value_pos_embedding",
            (1, 10, 1, 32),
            "1 arrays are not known, the",
        ),
    ],
)
def test_arrays_that_do_not_fit(name: str, shape: tuple[int, ...] | None, sentence: str) -> None:
    weights = arrays()
    if shape is None:
        del weights[name]
    else:
        weights[name] = np.zeros(shape, np.float32)
    with pytest.raises(PolicyError, match=sentence) as caught:
        octo_from_arrays(weights, config(), "weights")
    assert str(caught.value).startswith("weights")


def test_every_single_missing_or_misshapen_array_is_noticed() -> None:
    whole = arrays()
    for name in whole:
        for replacement in ({}, {name: np.zeros((*whole[name].shape, 1), np.float32)}):
            weights = {key: one for key, one in whole.items() if key != name} | replacement
            with pytest.raises(PolicyError, match="^weights"):
                octo_from_arrays(weights, config(), "weights")


@pytest.mark.parametrize("gated", [False, True])
def test_t5_as_transformers_has_it(gated: bool) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=64, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
            feed_forward_proj="gated-gelu" if gated else "relu", dropout_rate=0.0,
        )
    ).eval()  # fmt: skip
    ours = T5Encoder(T5Sizes(64, 24, 3, 8, 40, 2, gated=gated))
    state = theirs.state_dict()
    names = {"q": "query", "k": "key", "v": "value", "o": "out"}
    mine = {
        "embedding.weight": state["shared.weight"],
        "norm.weight": state["encoder.final_layer_norm.weight"],
        "position_bias.weight": state["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
    }
    for index in range(2):
        layer = f"encoder.block.{index}.layer."
        for short, long in names.items():
            mine[f"layers.{index}.{long}.weight"] = state[f"{layer}0.SelfAttention.{short}.weight"]
        inner = {"wi_0": "gate", "wi_1": "wide", "wo": "narrow"} if gated else {"wi": "wide", "wo": "narrow"}
        for short, long in inner.items():
            mine[f"layers.{index}.{long}.weight"] = state[f"{layer}1.DenseReluDense.{short}.weight"]
        mine[f"layers.{index}.attention_norm.weight"] = state[f"{layer}0.layer_norm.weight"]
        mine[f"layers.{index}.mlp_norm.weight"] = state[f"{layer}1.layer_norm.weight"]
    ours.load_state_dict(mine)
    ids = torch.randint(0, 64, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.allclose(ours(ids, mask), expected, atol=1e-5)


def test_buckets_grow_with_distance() -> None:
    buckets = position_buckets(200, 32)
    assert buckets.min() == 0 and buckets.max() == 31
    row = buckets[0].tolist()
    assert row[0] == 0 and row[1:8] == [17 + i for i in range(7)]
    assert all(b >= a for a, b in zip(row[1:], row[2:], strict=False))
    assert (buckets.T[buckets > 15] == buckets[buckets > 15] - 16).all()


HEAD = HeadConfig(horizon=4, dimension=7, hidden=32)


def head(layer_norm: bool = True) -> DiffusionHead:
    torch.manual_seed(0)
    found = DiffusionHead(HeadConfig(horizon=4, dimension=7, hidden=32, layer_norm=layer_norm), 16)
    for one in found.parameters():
        if one.ndim == 1:
            torch.nn.init.normal_(one, 0.5, 0.3)
    return found.eval().requires_grad_(False)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_written_out_gradient(layer_norm: bool) -> None:
    network = head(layer_norm).network.double()
    embedding, vector = torch.randn(3, 16).double(), torch.randn(3, 28).double()
    step = torch.tensor([[0.0], [7.0], [19.0]]).double()
    actions = torch.randn(3, 28).double().requires_grad_(True)
    (expected,) = torch.autograd.grad(network(embedding, step, actions), actions, vector)
    found = network.pulled_back(network.states(embedding, step, actions.detach()), vector)
    assert torch.allclose(found, expected, atol=1e-10)


def sampled(model: DiffusionHead, seed: int, **guided: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(1, 16, generator=generator)
    noise = torch.randn(1, 28, generator=generator)
    return model.sample(embedding, noise, torch.randn(20, 1, 28, generator=generator), **guided)


@given(st.integers(0, 2**31))
def test_guidance_by_nothing_changes_nothing(seed: int) -> None:
    model = head()
    free = sampled(model, seed)
    assert torch.equal(sampled(model, seed, target=torch.ones(1, 28), weight=torch.zeros(1, 28)), free)
    assert free.abs().max() <= 5.0


@given(st.integers(0, 2**31), st.integers(1, 3))
def test_guided_steps_come_near_to_the_target(seed: int, known: int) -> None:
    model = head()
    target = torch.randn(1, 28, generator=torch.Generator().manual_seed(seed + 1)).clamp(-2.0, 2.0)
    weight = torch.zeros(1, 28)
    weight[:, : 7 * known] = 1.0
    free = sampled(model, seed)
    guided = sampled(model, seed, target=target, weight=weight)
    before = (free - target)[:, : 7 * known].abs().mean()
    after = (guided - target)[:, : 7 * known].abs().mean()
    assert after < 0.5 * before
    assert torch.isfinite(guided).all() and guided.abs().max() <= 5.0


def test_guidance_carries_over_to_the_steps_behind() -> None:
    """The network couples the steps: what is held moves what is not."""
    model = head()
    weight = torch.zeros(1, 28)
    weight[:, :7] = 1.0
    free = sampled(model, 3)
    guided = sampled(model, 3, target=free.new_full((1, 28), 1.5), weight=weight)
    assert not torch.allclose(guided[:, 7:], free[:, 7:], atol=1e-3)


def test_dimensions_the_robot_lacks_hold_noise() -> None:
    model = head()
    kept = torch.tensor([True] * 5 + [False] * 2).repeat(4)
    found = sampled(model, 0, kept=kept)
    generator = torch.Generator().manual_seed(0)
    torch.randn(1, 16, generator=generator)
    torch.randn(1, 28, generator=generator)
    last = torch.randn(20, 1, 28, generator=generator)[-1]
    share = (1.0 - model.schedule.products[0]) ** 0.5
    assert torch.allclose(found[:, ~kept], share * last[:, ~kept].float(), atol=1e-6)


def test_the_buffers_of_the_graph_hold_what_is_asked() -> None:
    """Without a GPU the same steps run one by one, on the same buffers."""
    from vla_ros.policies.octo.graph import CapturedActor

    class Eager(CapturedActor):
        def _record(self) -> Any:
            self.replay = lambda: self._actions.copy_(self.run())
            return self, self.run()

    model = made(config())
    sequence = Sequence(model, ("primary", "wrist"), 2)
    kept = torch.tensor([True] * 6 + [False]).repeat(4)
    actor = None
    with torch.inference_mode():
        for seed in range(4):
            torch.manual_seed(seed)
            seen = torch.tensor([[seed % 2 == 0, True]])
            frames = [torch.randn(1, 2, 4, 32), torch.randn(1, 2, 1, 32)]
            inputs = (torch.randn(1, 16, 32), torch.tensor([seed < 3]), frames, [seen, seen])
            noise = (torch.randn(1, 28), torch.randn(20, 1, 28), kept)
            guided = None if seed in (0, 2) else (torch.randn(1, 28), torch.rand(1, 28))
            actor = actor or Eager(sequence, model.head, inputs, False)
            expected = model.head.sample(sequence(*inputs), *noise, *(guided or (None, None)))
            assert torch.allclose(actor(inputs, noise, guided), expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a captured graph needs a GPU")
@pytest.mark.parametrize("half", [False, True])
def test_the_captured_graph_answers_as_the_model(half: bool) -> None:
    from vla_ros.policies.octo.graph import CapturedActor

    model = made(config()).cuda()
    sequence = Sequence(model, ("primary",), 2).cuda()
    seen = torch.ones(1, 2, dtype=torch.bool, device="cuda")
    kept = torch.ones(28, dtype=torch.bool, device="cuda")
    actor = None
    with torch.inference_mode():
        for seed in range(3):
            torch.manual_seed(seed)
            inputs = (
                torch.randn(1, 16, 32, device="cuda"),
                torch.ones(1, dtype=torch.bool, device="cuda"),
                [torch.randn(1, 2, 4, 32, device="cuda")],
                [seen],
            )
            given_noise = (torch.randn(1, 28).cuda(), torch.randn(20, 1, 28).cuda(), kept)
            actor = actor or CapturedActor(sequence, model.head, inputs, half)
            found = actor(inputs, given_noise, None).clone()
            expected = model.head.sample(sequence(*inputs), *given_noise)
            close = (found - expected).abs() < (0.5 if half else 1e-2)
            assert close.float().mean() > 0.9
