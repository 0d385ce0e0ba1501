"""A second reading of OpenVLA-OFT, written for being plain: what the tests hold the model against."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvla_checkpoint as tiny
import torch
import transformers

from vla_ros.policies.openvla.oft.model import OftModel


def second_reading(model: OftModel, images: Any, ids: Any, state: Any) -> np.ndarray:
    """The same model from its weights alone: numpy and float64, one token, head and block at a time.

    Only the language model's layers are another library's, with nothing masked.
    """
    weights = {name: value.double().numpy() for name, value in model.base.state_dict().items()}
    table = weights["language_model.model.embed_tokens.weight"]
    tokens = [int(token) for token in ids[0]]
    words = np.stack([table[token] for token in (*tokens, 2)])
    patches: list[np.ndarray] = []
    for camera in range(images.shape[1] // 6):
        halves = []
        for half, (name, tower) in enumerate(
            zip(("featurizer", "fused_featurizer"), model.base.config.towers, strict=True)
        ):
            shown = images[0, 6 * camera + 3 * half : 6 * camera + 3 * half + 3].double().numpy()
            own = {
                key.removeprefix(f"vision_backbone.{name}."): value
                for key, value in weights.items()
                if key.startswith(f"vision_backbone.{name}.")
            }
            added = None if model.film is None else getattr(model.film, name).state_dict()
            halves.append(see(shown, own, tower, added, words.mean(axis=0)))
        x = np.concatenate(halves, axis=1)
        for number in (1, 2, 3):
            x = x @ weights[f"projector.fc{number}.weight"].T + weights[f"projector.fc{number}.bias"]
            x = gelu(x) if number < 3 else x
        patches.extend(x)
    places = [words[0], *patches]
    if model.state is not None:
        own = {name: value.double().numpy() for name, value in model.state.state_dict().items()}
        told = gelu(state[0].double().numpy() @ own["fc1.weight"].T + own["fc1.bias"])
        places.append(told @ own["fc2.weight"].T + own["fc2.bias"])
    places.extend(words[1:-1])
    before = len(places) - 1
    places.extend(np.zeros(len(words[0])) for _ in range(model.chunk * model.head.dimension))
    places.append(words[-1])
    theirs = transformers.LlamaModel(transformers.LlamaConfig(**tiny.TEXT, rms_norm_eps=1e-6)).double().eval()
    theirs.load_state_dict({
        name.removeprefix("language_model.model."): torch.from_numpy(value)
        for name, value in weights.items()
        if name.startswith("language_model.model.")
    })  # fmt: skip
    everybody = torch.zeros(1, 1, len(places), len(places), dtype=torch.float64)
    with torch.no_grad():
        hidden = theirs(
            inputs_embeds=torch.from_numpy(np.stack(places))[None], attention_mask=everybody
        ).last_hidden_state[0].numpy()  # fmt: skip
    head = {name.removeprefix("model."): v.double().numpy() for name, v in model.head.state_dict().items()}
    steps = []
    for step in range(model.chunk):
        # the place before each empty one: what predicts it, as in training by next tokens
        x = np.concatenate([hidden[before + 7 * step + number] for number in range(7)])
        x = norm(x, head["layer_norm1.weight"], head["layer_norm1.bias"], 1e-5)
        x = np.maximum(x @ head["fc1.weight"].T + head["fc1.bias"], 0.0)
        for block in range(2):
            key = f"mlp_resnet_blocks.{block}.ffn."
            y = norm(x, head[f"{key}0.weight"], head[f"{key}0.bias"], 1e-5)
            x = x + np.maximum(y @ head[f"{key}1.weight"].T + head[f"{key}1.bias"], 0.0)
        x = norm(x, head["layer_norm2.weight"], head["layer_norm2.bias"], 1e-5)
        steps.append(x @ head["fc2.weight"].T + head["fc2.bias"])
    return np.stack(steps)


def see(shown: np.ndarray, own: dict[str, Any], tower: Any, added: Any, words: np.ndarray) -> np.ndarray:
    kernel = own["patch_embed.proj.weight"]
    rows = []
    for top in range(0, tiny.SIZE, 14):
        for left in range(0, tiny.SIZE, 14):
            patch = shown[:, top : top + 14, left : left + 14]
            rows.append((kernel * patch[None]).sum(axis=(1, 2, 3)) + own["patch_embed.proj.bias"])
    x = np.stack(rows) + own["pos_embed"][0]
    if tower.kind == "dino":
        x = np.concatenate((own["cls_token"][0], own["reg_token"][0], x))
    width = tower.width // tower.heads
    for block in range(tower.depth - 1):
        part = {key.removeprefix(f"blocks.{block}."): value for key, value in own.items()}
        one = np.ones(tower.width)
        y = norm(x, part["norm1.weight"], part["norm1.bias"], 1e-6)
        q, k, v = np.split(y @ part["attn.qkv.weight"].T + part["attn.qkv.bias"], 3, axis=1)
        looks = []
        for head in range(tower.heads):
            cut = slice(head * width, (head + 1) * width)
            scores = np.exp(q[:, cut] @ k[:, cut].T / np.sqrt(width))
            looks.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, cut])
        y = np.concatenate(looks, axis=1) @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        x = x + part.get("ls1.scale_factor", one) * y
        if added is not None:
            film = {kind: added[f"blocks.{block}.{kind}"].double().numpy() for kind in
                    ("scale.weight", "scale.bias", "shift.weight", "shift.bias")}  # fmt: skip
            gamma = film["scale.weight"] @ words + film["scale.bias"]
            x = x * (1.0 + gamma) + film["shift.weight"] @ words + film["shift.bias"]
        y = norm(x, part["norm2.weight"], part["norm2.bias"], 1e-6)
        y = gelu(y @ part["mlp.fc1.weight"].T + part["mlp.fc1.bias"])
        y = y @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
        x = x + part.get("ls2.scale_factor", one) * y
    return x[5:] if tower.kind == "dino" else x


def norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    scaled: np.ndarray = (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + eps
    ) * gamma + beta
    return scaled


def gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return np.asarray(0.5 * x * (1.0 + erf(x / np.sqrt(2.0))))
