"""Tiny Octo checkpoints with random weights, in the original's form: what the tests read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

WORDS = ("put", "the", "red", "block", "on", "blue", "plate", "lift")
T5 = {"vocabulary": 32, "width": 16, "heads": 2, "head": 8, "mlp": 32, "layers": 2, "buckets": 32}


def stem_spec(key: str) -> dict[str, Any]:
    encoder = {"name": "SmallStem16", "kwargs": {"features": [32, 32, 32, 32], "num_features": 24}}
    return {
        "module": "octo.model.components.tokenizers",
        "name": "ImageTokenizer",
        "args": [],
        "kwargs": {"obs_stack_keys": [key], "task_stack_keys": [key], "encoder": encoder},
    }


def config_json(**model: Any) -> dict[str, Any]:
    """A config.json; `model` replaces parts of it."""
    head = {"readout_key": "readout_action", "use_map": False, "action_horizon": 4, "action_dim": 7}
    return {
        "model": {
            "observation_tokenizers": {
                "primary": stem_spec("image_primary"),
                "wrist": stem_spec("image_wrist"),
            },
            "task_tokenizers": {
                "language": {"name": "LanguageTokenizer", "kwargs": {"encoder": "t5-base"}},
            },
            "heads": {"action": {"name": "DiffusionActionHead", "kwargs": {**head, "hidden_dim": 32}}},
            "readouts": {"action": 1},
            "token_embedding_size": 32,
            "transformer_kwargs": {"num_layers": 2, "mlp_dim": 48, "num_attention_heads": 4},
            "max_horizon": 10,
            "repeat_task_tokens": True,
            "use_correct_attention": True,
            **model,
        },
        "text_processor": None,
        "window_size": 2,
        "dataset_kwargs": {},
    }


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays that belong to `config_json()`."""
    width, mlp, heads, t5 = 32, 48, 4, T5
    root = "octo_transformer/"
    found: dict[str, tuple[int, ...]] = {}

    def dense(path: str, inputs: int, outputs: int) -> None:
        found[f"{path}/kernel"], found[f"{path}/bias"] = (inputs, outputs), (outputs,)

    def norm(path: str, size: int) -> None:
        found[f"{path}/scale"], found[f"{path}/bias"] = (size,), (size,)

    for name, tokens in (("primary", 9), ("wrist", 4)):
        stem = f"{root}observation_tokenizers_{name}/SmallStem16_0/"
        for index in range(4):
            found[f"{stem}StdConv_{index}/kernel"] = (3, 3, 6 if index == 0 else 32, 32)
            found[f"{stem}StdConv_{index}/bias"] = (32,)
            norm(f"{stem}GroupNorm_{index}", 32)
        found[f"{stem}embedding/kernel"], found[f"{stem}embedding/bias"] = (1, 1, 32, 24), (24,)
        dense(f"{root}obs_{name}_projection", 24, width)
        found[f"{root}obs_{name}_pos_embedding"] = (1, 10, tokens, width)
    found[f"{root}readout_action_pos_embedding"] = (1, 10, 1, width)
    dense(f"{root}task_language_projection", t5["width"], width)
    found[f"{root}task_language_pos_embedding"] = (1, 16, width)
    for index in range(2):
        block = f"{root}BlockTransformer_0/Transformer_0/encoderblock_{index}/"
        norm(f"{block}LayerNorm_0", width)
        norm(f"{block}LayerNorm_1", width)
        for part in ("query", "key", "value"):
            path = f"{block}MultiHeadDotProductAttention_0/{part}"
            found[f"{path}/kernel"], found[f"{path}/bias"] = (
                (width, heads, width // heads),
                (heads, width // heads),
            )
        path = f"{block}MultiHeadDotProductAttention_0/out"
        found[f"{path}/kernel"], found[f"{path}/bias"] = (heads, width // heads, width), (width,)
        dense(f"{block}MlpBlock_0/Dense_0", width, mlp)
        dense(f"{block}MlpBlock_0/Dense_1", mlp, width)
    norm(f"{root}BlockTransformer_0/Transformer_0/encoder_norm", width)
    _t5(found, f"{root}task_tokenizers_language/hf_model/")
    head = "heads_action/diffusion_model/"
    found[f"{head}time_preprocess/kernel"] = (16, 1)
    dense(f"{head}cond_encoder/Dense_0", 32, 64)
    dense(f"{head}cond_encoder/Dense_1", 64, 32)
    dense(f"{head}reverse_network/Dense_0", 32 + width + 28, 32)
    dense(f"{head}reverse_network/Dense_1", 32, 28)
    for index in range(3):
        block = f"{head}reverse_network/MLPResNetBlock_{index}/"
        norm(f"{block}LayerNorm_0", 32)
        dense(f"{block}Dense_0", 32, 128)
        dense(f"{block}Dense_1", 128, 32)
    return found


def _t5(found: dict[str, tuple[int, ...]], root: str) -> None:
    width, inner, mlp = T5["width"], T5["heads"] * T5["head"], T5["mlp"]
    found[f"{root}shared/embedding"] = (T5["vocabulary"], width)
    for index in range(T5["layers"]):
        layer = f"{root}encoder/block/{index}/layer/"
        for part in ("q", "k", "v"):
            found[f"{layer}0/SelfAttention/{part}/kernel"] = (width, inner)
        found[f"{layer}0/SelfAttention/o/kernel"] = (inner, width)
        if index == 0:
            found[f"{layer}0/SelfAttention/relative_attention_bias/embedding"] = (T5["buckets"], T5["heads"])
        found[f"{layer}1/DenseReluDense/wi/kernel"] = (width, mlp)
        found[f"{layer}1/DenseReluDense/wo/kernel"] = (mlp, width)
        found[f"{layer}0/layer_norm/weight"] = found[f"{layer}1/layer_norm/weight"] = (width,)
    found[f"{root}encoder/final_layer_norm/weight"] = (width,)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of about the spread of trained ones."""
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes().items():
        fan = float(np.prod(shape[:-1])) if name.endswith("kernel") else 4.0
        made[name] = random.normal(0.0, fan**-0.5, shape).astype(np.float32)
        if name.endswith(("scale", "layer_norm/weight")):
            made[name] += 1.0
    return made


def packed(array: np.ndarray, kind: str = "", code: int = 1) -> msgpack.ExtType:
    """An array as flax packs it."""
    content = msgpack.packb((array.shape, kind or array.dtype.name, array.tobytes()), use_bin_type=True)
    return msgpack.ExtType(code, content)


def tree(flat: dict[str, Any]) -> dict[str, Any]:
    """The map of maps of "/"-joined names."""
    made: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        inner = made
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return made


def flax_bytes(flat: dict[str, np.ndarray]) -> bytes:
    """The content of a checkpoint file."""
    return bytes(msgpack.packb(tree({name: packed(one) for name, one in flat.items()}), strict_types=True))


def statistics() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    low = -np.abs(rng.normal(0.03, 0.01, 7))
    return {
        "mean": (0.1 * low).tolist(),
        "std": np.abs(0.5 * low).tolist(),
        "p01": low.tolist(),
        "p99": (-low).tolist(),
        "mask": [True] * 6 + [False],
    }


def write_tokenizer(folder: Path) -> None:
    """A tokenizer.json whose words are `WORDS`, with T5's ids of padding and end."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{word: 3 + i for i, word in enumerate(WORDS)}}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))


def write_checkpoint(
    folder: Path, config: dict[str, Any] | None = None, seed: int = 0, without: str = "-"
) -> Path:
    """A whole checkpoint in a folder; arrays whose name contains `without` are left out."""
    (folder / "300000" / "default").mkdir(parents=True)
    kept = {name: one for name, one in arrays(seed).items() if without not in name}
    (folder / "300000" / "default" / "checkpoint").write_bytes(flax_bytes(kept))
    spec = config or config_json()
    # few, for exporting them takes time
    spec["model"]["heads"]["action"]["kwargs"].setdefault("diffusion_steps", 5)
    (folder / "config.json").write_text(json.dumps(spec))
    table = {"bridge_dataset": {"action": statistics(), "num_transitions": 10}}
    (folder / "dataset_statistics.json").write_text(json.dumps(table))
    write_tokenizer(folder)
    return folder
