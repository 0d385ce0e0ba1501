"""The torch model against a second reading of the architecture, in numpy on the checkpoint's own arrays.

Needs no outside file: a golden of our own.  Written from the description of the original, array by array,
without a line of the torch model; it covers what the recorded cases do not: goal images, padded steps,
missing instructions, the oldest attention.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "policies" / "octo"))

from octo_checkpoint import arrays, config_json  # noqa: E402

from vla_ros.policies.octo.checkpoint import octo_from_arrays  # noqa: E402
from vla_ros.policies.octo.config import parse_config  # noqa: E402
from vla_ros.policies.octo.model import Sequence, Tokens  # noqa: E402

Floats = np.ndarray
ROOT = "octo_transformer/"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Reference:
    """Octo in float64, one sample at a time."""

    def __init__(self, weights: dict[str, Floats], correct: bool) -> None:
        self.weights = {name: one.astype(float) for name, one in weights.items()}
        self.correct = correct

    def dense(self, path: str, inputs: Floats) -> Floats:
        kernel, bias = self.weights[f"{path}/kernel"], self.weights[f"{path}/bias"]
        return np.tensordot(inputs, kernel, axes=(-1, 0)) + bias

    def norm(self, path: str, inputs: Floats) -> Floats:
        centred = inputs - inputs.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * self.weights[f"{path}/scale"] + self.weights[f"{path}/bias"]

    def stem(self, name: str, image: Floats, goal: Floats) -> Floats:
        """(h, w, 3) twice to tokens (n, features)."""
        path = f"{ROOT}observation_tokenizers_{name}/SmallStem16_0/"
        features = np.concatenate([image, goal], axis=-1) / 127.5 - 1.0
        for index in range(4):
            kernel = self.weights[f"{path}StdConv_{index}/kernel"]
            flat = kernel.reshape(-1, kernel.shape[-1])
            kernel = ((flat - flat.mean(0)) / (flat.std(0) + 1e-5)).reshape(kernel.shape)
            padded = np.pad(features, ((1, 1), (1, 1), (0, 0)))
            side = features.shape[0] // 2
            out = np.zeros((side, side, kernel.shape[-1]))
            for row in range(side):
                for column in range(side):
                    patch = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                    out[row, column] = np.tensordot(patch, kernel, axes=3)
            out = out + self.weights[f"{path}StdConv_{index}/bias"]
            # 32 groups of 32 features: a group a feature
            centred = out - out.mean((0, 1))
            out = centred / np.sqrt((centred**2).mean((0, 1)) + 1e-6)
            out = (
                out * self.weights[f"{path}GroupNorm_{index}/scale"]
                + self.weights[f"{path}GroupNorm_{index}/bias"]
            )
            features = np.maximum(out, 0.0)
        kernel = self.weights[f"{path}embedding/kernel"][0, 0]
        return (features @ kernel + self.weights[f"{path}embedding/bias"]).reshape(-1, kernel.shape[1])

    def states(
        self,
        task: Floats,
        shown: bool,
        frames: dict[str, list[Floats]],
        seen: dict[str, list[bool]],
        steps: int,
    ) -> Floats:
        """All tokens behind the transformer; `frames`: stems' features, `seen`: mask of each step."""
        tokens: list[Floats] = []
        groups: list[tuple[str, int]] = []
        keys: list[bool] = []

        def add(group: str, step: int, states: Floats, mask: bool) -> None:
            tokens.append(states)
            groups.extend([(group, step)] * len(states))
            keys.extend([mask] * len(states))

        add("task", -1, task, shown)
        for step in range(steps):
            for name, columns in frames.items():
                placed = self.dense(f"{ROOT}obs_{name}_projection", columns[step])
                placed = placed + self.weights[f"{ROOT}obs_{name}_pos_embedding"][0, step]
                add(f"obs_{name}", step, placed, seen[name][step])
            add("obs_task", step, task, shown)
            add("readout", step, self.weights[f"{ROOT}readout_action_pos_embedding"][0, step], True)
        if not self.correct:
            groups = self._oldest(groups)
        n = len(groups)
        mask = np.zeros((n, n), bool)
        for i, (one, when) in enumerate(groups):
            for j, (other, then) in enumerate(groups):
                if one == "task":
                    sees = other == "task"
                elif one == "readout":
                    sees = then <= when
                else:
                    sees = then <= when and other != "readout"
                mask[i, j] = sees and keys[j]
        return self.transformer(np.concatenate(tokens), mask)

    @staticmethod
    def _oldest(groups: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """The first token of a group counts to the group before it in the same step."""
        return [
            groups[i - 1] if i > 0 and groups[i - 1][1] == step and groups[i - 1][0] != name else (name, step)
            for i, (name, step) in enumerate(groups)
        ]

    def transformer(self, states: Floats, mask: Floats) -> Floats:
        for index in range(2):
            path = f"{ROOT}BlockTransformer_0/Transformer_0/encoderblock_{index}/"
            normed = self.norm(f"{path}LayerNorm_0", states)
            attention = f"{path}MultiHeadDotProductAttention_0/"
            query, key, value = (self.dense(f"{attention}{one}", normed) for one in ("query", "key", "value"))
            logits = np.einsum("ihe,jhe->hij", query, key) / np.sqrt(query.shape[-1])
            logits = np.where(mask[None], logits, np.finfo(np.float32).min)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            shares = shares / shares.sum(-1, keepdims=True)
            attended = np.einsum("hij,jhe->ihe", shares, value)
            kernel = self.weights[f"{attention}out/kernel"]
            states = (
                states + np.einsum("ihe,hed->id", attended, kernel) + self.weights[f"{attention}out/bias"]
            )
            inner = self.dense(f"{path}MlpBlock_0/Dense_0", self.norm(f"{path}LayerNorm_1", states))
            curve = np.tanh(np.sqrt(2.0 / np.pi) * (inner + 0.044715 * inner**3))
            states = states + self.dense(f"{path}MlpBlock_0/Dense_1", 0.5 * inner * (1.0 + curve))
        return self.norm(f"{ROOT}BlockTransformer_0/Transformer_0/encoder_norm", states)

    def noise(self, embedding: Floats, step: int, actions: Floats) -> Floats:
        path = "heads_action/diffusion_model/"
        phase = 2.0 * np.pi * step * self.weights[f"{path}time_preprocess/kernel"][:, 0]
        time = self.dense(f"{path}cond_encoder/Dense_0", np.concatenate([np.cos(phase), np.sin(phase)]))
        time = self.dense(f"{path}cond_encoder/Dense_1", _swish(time))
        states = self.dense(f"{path}reverse_network/Dense_0", np.concatenate([time, embedding, actions]))
        for index in range(3):
            block = f"{path}reverse_network/MLPResNetBlock_{index}/"
            inner = self.dense(f"{block}Dense_0", self.norm(f"{block}LayerNorm_0", states))
            states = states + self.dense(f"{block}Dense_1", _swish(inner))
        return self.dense(f"{path}reverse_network/Dense_1", _swish(states))

    def actions(self, embedding: Floats, noise: Floats, step_noise: Floats) -> Floats:
        at = (np.arange(21) / 20 + 0.008) / 1.008 * np.pi / 2
        left = np.cos(at) ** 2
        alphas = 1.0 - np.clip(1.0 - left[1:] / left[:-1], 0.0, 0.999)
        products = np.cumprod(alphas)
        actions = noise
        for index, step in enumerate(range(19, -1, -1)):
            predicted = self.noise(embedding, step, actions)
            share = (1.0 - alphas[step]) / np.sqrt(1.0 - products[step])
            actions = (actions - share * predicted) / np.sqrt(alphas[step])
            if step:
                actions = actions + np.sqrt(1.0 - alphas[step]) * step_noise[index]
            actions = np.clip(actions, -5.0, 5.0)
        return actions


def _swish(inputs: Floats) -> Floats:
    return inputs / (1.0 + np.exp(-inputs))


CASES: dict[str, dict[str, Any]] = {
    "instruction": {},
    "goal": {"goal": True, "shown": False},
    "both": {"goal": True},
    "first step is padding": {"steps": [False, True]},
    "goal, first step is padding": {"goal": True, "shown": False, "steps": [False, True]},
    "no wrist": {"wrist": False},
    "wrist missing once": {"wrist_seen": [False, True]},
    "window of one": {"steps": [True]},
    "window of three": {"steps": [False, True, True]},
    "oldest attention": {"correct": False},
    "oldest attention, goal": {"correct": False, "goal": True, "shown": False, "steps": [False, True]},
}


@pytest.mark.parametrize("name", CASES)
def test_both_readings_agree(name: str) -> None:
    case = {
        "goal": False,
        "shown": True,
        "steps": [True, True],
        "wrist": True,
        "correct": True,
        **CASES[name],
    }
    steps = case["steps"]
    random = np.random.default_rng(sorted(CASES).index(name))
    weights = arrays(3)
    model = octo_from_arrays(
        weights, parse_config(config_json(use_correct_attention=case["correct"])), "weights"
    )
    # both in float64: what differs then is the reading, not the rounding
    model.eval().requires_grad_(False).double()
    reference = Reference(weights, case["correct"])
    task = random.normal(size=(16, 32))
    features: dict[str, list[Floats]] = {}
    frames: dict[str, Tokens] = {}
    seen = {
        "primary": steps,
        "wrist": [a and b for a, b in zip(steps, case.get("wrist_seen", steps), strict=True)],
    }
    for camera, side in (("primary", 48), ("wrist", 32)):
        if camera == "wrist" and not case["wrist"]:
            continue
        images = random.integers(0, 256, (len(steps), side, side, 3), np.uint8)
        goal = random.integers(0, 256, (side, side, 3), np.uint8) * np.uint8(case["goal"])
        features[camera] = [reference.stem(camera, image, goal) for image in images]
        goals = torch.from_numpy(goal)[None].expand(len(steps), -1, -1, -1)
        tokens = model.frame_tokens(camera, torch.from_numpy(images), goals if case["goal"] else None)
        frames[camera] = Tokens(tokens[None], torch.tensor([seen[camera]]))
    states = reference.states(task, case["shown"], features, seen, len(steps))
    expected = states[-1]
    given = Tokens(torch.from_numpy(task)[None], torch.tensor([case["shown"]]))
    groups = model.groups(frames, given, torch.tensor([steps]))
    of_task, of_step, _ = model.attend(*groups)
    parts = [of_task["task_language"], torch.cat(list(of_step.values()), dim=2).flatten(1, 2)]
    # every token, those that may attend to nothing too
    assert np.abs(torch.cat(parts, dim=1)[0].numpy() - states).max() < 1e-9
    sequence = Sequence(model, tuple(frames), len(steps))
    masks = [torch.tensor([seen[camera]]) for camera in sequence.names]
    short = sequence(given.tokens, given.mask, [frames[one].tokens for one in sequence.names], masks)
    assert np.abs(short[0].numpy() - expected).max() < 1e-9

    noise, step_noise = random.normal(size=28), random.normal(size=(20, 28))
    for step in (0, 7, 19):
        actions = random.normal(size=28)
        at = torch.tensor([float(step)], dtype=torch.float64)
        mine = model.head.network(torch.from_numpy(expected), at, torch.from_numpy(actions))
        assert np.abs(mine.numpy() - reference.noise(expected, step, actions)).max() < 1e-9
    wanted = reference.actions(expected, noise, step_noise)
    drawn = model.head.sample(
        torch.from_numpy(expected), torch.from_numpy(noise), torch.from_numpy(step_noise)
    )
    assert np.abs(drawn.numpy() - wanted).max() < 1e-6
