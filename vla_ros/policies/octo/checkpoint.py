"""From the arrays of an original checkpoint to the model: each is used once, in its shape.

Dense kernels are (in, out), convolutions (height, width, in, out), query, key and value (width, heads, size)
and out (heads, size, width) there; embeddings and norms are as here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.errors import PolicyError
from vla_ros.policies.octo.config import OctoConfig
from vla_ros.policies.octo.model import Octo
from vla_ros.policies.octo.t5 import T5Sizes

Arrays = Mapping[str, NDArray[Any]]
_BLOCK = "octo_transformer/BlockTransformer_0/Transformer_0/"


def octo_from_arrays(arrays: Arrays, config: OctoConfig, source: str) -> Octo:
    """The model with the weights of a checkpoint ("/"-joined names), in float32.

    Raises `PolicyError` when an array is missing, left over, or not of the shape the configuration says.
    """
    reader = _Reader(arrays, source)
    tokens = {
        one.name: reader.size(f"octo_transformer/obs_{one.name}_pos_embedding", 2, 4) for one in config.images
    }
    with torch.device("meta"):
        model = Octo(config, tokens, _t5_sizes(reader, config))
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        array = reader.value(name, config)
        if array.shape != tuple(tensor.shape):
            raise PolicyError(
                f"{source} does not fit {config.source}: {reader.last} makes {array.shape}, "
                f"but the configuration needs {tuple(tensor.shape)}."
            )
        state[name] = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    left = sorted(set(arrays) - reader.used)
    if left:
        raise PolicyError(
            f"{source} does not fit {config.source}: {len(left)} arrays are not known, "
            f"the first is {left[0]}."
        )
    model.load_state_dict(state, assign=True)
    return model


class _Reader:
    """Looks up arrays by the model's own names, and remembers which were used."""

    def __init__(self, arrays: Arrays, source: str) -> None:
        self.arrays, self.source = arrays, source
        self.used: set[str] = set()
        self.last = ""

    def array(self, name: str) -> NDArray[Any]:
        found = self.arrays.get(name)
        if not isinstance(found, np.ndarray):
            raise PolicyError(f"{self.source} lacks the array {name}.")
        self.used.add(name)
        self.last = name
        return found

    def size(self, name: str, axis: int, dimensions: int) -> int:
        shape = self.array(name).shape
        if len(shape) != dimensions:
            raise PolicyError(f"{self.source}: {name} has shape {shape}, but must have {dimensions} axes.")
        return int(shape[axis])

    def value(self, name: str, config: OctoConfig) -> NDArray[Any]:
        """The array for a name of the model's state."""
        for pattern, make in _RULES:
            match = re.fullmatch(pattern, name)
            if match:
                return make(self, config, match.groups())
        raise PolicyError(f"no array of {self.source} is known for {name}.")

    def dense(self, path: str, kind: str) -> NDArray[Any]:
        """A Dense layer's kernel as weight, or its bias."""
        array = self.array(f"{path}/{'kernel' if kind == 'weight' else 'bias'}")
        return array.T if kind == "weight" else array

    def convolution(self, path: str, kind: str) -> NDArray[Any]:
        array = self.array(f"{path}/{'kernel' if kind == 'weight' else 'bias'}")
        return array.transpose(3, 2, 0, 1) if kind == "weight" and array.ndim == 4 else array

    def norm(self, path: str, kind: str) -> NDArray[Any]:
        return self.array(f"{path}/{'scale' if kind == 'weight' else 'bias'}")

    def joined(self, path: str, kind: str, config: OctoConfig) -> NDArray[Any]:
        """Query, key and value in one."""
        parts = []
        for part in ("query", "key", "value"):
            array = self.array(f"{path}/{part}/{'kernel' if kind == 'weight' else 'bias'}")
            split = (config.heads, config.width // config.heads)
            needed = (config.width, *split) if kind == "weight" else split
            if array.shape != needed:
                raise PolicyError(
                    f"{self.source} does not fit {config.source}: {self.last} has shape {array.shape}, "
                    f"but the configuration needs {needed}."
                )
            parts.append(array.reshape(config.width, -1).T if kind == "weight" else array.reshape(-1))
        return np.concatenate(parts)

    def out(self, path: str, kind: str) -> NDArray[Any]:
        array = self.array(f"{path}/{'kernel' if kind == 'weight' else 'bias'}")
        return array.reshape(-1, array.shape[-1]).T if kind == "weight" else array


def _language(config: OctoConfig) -> str:
    return "" if config.language is None else config.language.name


def _t5(config: OctoConfig) -> str:
    return f"octo_transformer/task_tokenizers_{_language(config)}/hf_model/"


def _t5_sizes(reader: _Reader, config: OctoConfig) -> T5Sizes:
    """Sizes of the instruction's encoder, from its arrays."""
    if config.language is None:
        return T5Sizes()
    root = _t5(config)
    first = f"{root}encoder/block/0/layer/"
    gated = f"{first}1/DenseReluDense/wi_0/kernel" in reader.arrays
    buckets = f"{first}0/SelfAttention/relative_attention_bias/embedding"
    heads = reader.size(buckets, 1, 2)
    inner = reader.size(f"{first}0/SelfAttention/q/kernel", 1, 2)
    numbers = [
        int(match[1])
        for name in reader.arrays
        if (match := re.match(rf"{re.escape(root)}encoder/block/(\d+)/", name))
    ]
    return T5Sizes(
        reader.size(f"{root}shared/embedding", 0, 2),
        reader.size(f"{root}shared/embedding", 1, 2),
        heads,
        inner // heads,
        reader.size(f"{first}1/DenseReluDense/{'wi_0' if gated else 'wi'}/kernel", 1, 2),
        max(numbers) + 1,
        reader.size(buckets, 0, 2),
        gated,
    )


def _t5_layer(reader: _Reader, config: OctoConfig, index: str, part: str) -> NDArray[Any]:
    layer = f"{_t5(config)}encoder/block/{index}/layer/"
    if part in ("attention_norm", "mlp_norm"):
        return reader.array(f"{layer}{0 if part == 'attention_norm' else 1}/layer_norm/weight")
    attention = {"query": "q", "key": "k", "value": "v", "out": "o"}
    if part in attention:
        return reader.dense(f"{layer}0/SelfAttention/{attention[part]}", "weight")
    gated = f"{layer}1/DenseReluDense/wi_0/kernel" in reader.arrays
    inner = {"gate": "wi_0", "wide": "wi_1" if gated else "wi", "narrow": "wo"}[part]
    return reader.dense(f"{layer}1/DenseReluDense/{inner}", "weight")


def _stem(reader: _Reader, camera: str, part: str) -> str:
    return f"octo_transformer/observation_tokenizers_{camera}/SmallStem16_0/{part}"


_Make = Callable[[_Reader, OctoConfig, tuple[Any, ...]], NDArray[Any]]
_NETWORK = "heads_action/diffusion_model/"
_RULES: tuple[tuple[str, _Make], ...] = (
    (
        r"cameras\.(\w+)\.stem\.convolutions\.(\d+)\.(weight|bias)",
        lambda r, c, g: r.convolution(_stem(r, g[0], f"StdConv_{g[1]}"), g[2]),
    ),
    (
        r"cameras\.(\w+)\.stem\.norms\.(\d+)\.(weight|bias)",
        lambda r, c, g: r.norm(_stem(r, g[0], f"GroupNorm_{g[1]}"), g[2]),
    ),
    (
        r"cameras\.(\w+)\.stem\.embedding\.(weight|bias)",
        lambda r, c, g: r.convolution(_stem(r, g[0], "embedding"), g[1]),
    ),
    (
        r"cameras\.(\w+)\.projection\.(weight|bias)",
        lambda r, c, g: r.dense(f"octo_transformer/obs_{g[0]}_projection", g[1]),
    ),
    (r"cameras\.(\w+)\.positions", lambda r, c, g: r.array(f"octo_transformer/obs_{g[0]}_pos_embedding")),
    (r"readouts\.(\w+)", lambda r, c, g: r.array(f"octo_transformer/readout_{g[0]}_pos_embedding")),
    (r"language\.encoder\.embedding\.weight", lambda r, c, g: r.array(f"{_t5(c)}shared/embedding")),
    (
        r"language\.encoder\.position_bias\.weight",
        lambda r, c, g: r.array(
            f"{_t5(c)}encoder/block/0/layer/0/SelfAttention/relative_attention_bias/embedding"
        ),
    ),
    (r"language\.encoder\.layers\.(\d+)\.(\w+)\.weight", lambda r, c, g: _t5_layer(r, c, g[0], g[1])),
    (r"language\.encoder\.norm\.weight", lambda r, c, g: r.array(f"{_t5(c)}encoder/final_layer_norm/weight")),
    (
        r"language\.projection\.(weight|bias)",
        lambda r, c, g: r.dense(f"octo_transformer/task_{_language(c)}_projection", g[0]),
    ),
    (
        r"language\.positions",
        lambda r, c, g: r.array(f"octo_transformer/task_{_language(c)}_pos_embedding"),
    ),
    (
        r"transformer\.blocks\.(\d+)\.(attention|mlp)_norm\.(weight|bias)",
        lambda r, c, g: r.norm(
            f"{_BLOCK}encoderblock_{g[0]}/LayerNorm_{0 if g[1] == 'attention' else 1}", g[2]
        ),
    ),
    (
        r"transformer\.blocks\.(\d+)\.attention\.qkv\.(weight|bias)",
        lambda r, c, g: r.joined(f"{_BLOCK}encoderblock_{g[0]}/MultiHeadDotProductAttention_0", g[1], c),
    ),
    (
        r"transformer\.blocks\.(\d+)\.attention\.out\.(weight|bias)",
        lambda r, c, g: r.out(f"{_BLOCK}encoderblock_{g[0]}/MultiHeadDotProductAttention_0/out", g[1]),
    ),
    (
        r"transformer\.blocks\.(\d+)\.(wide|narrow)\.(weight|bias)",
        lambda r, c, g: r.dense(
            f"{_BLOCK}encoderblock_{g[0]}/MlpBlock_0/Dense_{0 if g[1] == 'wide' else 1}", g[2]
        ),
    ),
    (r"transformer\.norm\.(weight|bias)", lambda r, c, g: r.norm(f"{_BLOCK}encoder_norm", g[0])),
    (
        r"head\.network\.frequencies\.weight",
        lambda r, c, g: r.array(f"{_NETWORK}time_preprocess/kernel"),
    ),
    (
        r"head\.network\.time_(wide|narrow)\.(weight|bias)",
        lambda r, c, g: r.dense(f"{_NETWORK}cond_encoder/Dense_{0 if g[0] == 'wide' else 1}", g[1]),
    ),
    (
        r"head\.network\.(enter|leave)\.(weight|bias)",
        lambda r, c, g: r.dense(f"{_NETWORK}reverse_network/Dense_{0 if g[0] == 'enter' else 1}", g[1]),
    ),
    (
        r"head\.network\.blocks\.(\d+)\.(wide|narrow)\.(weight|bias)",
        lambda r, c, g: r.dense(
            f"{_NETWORK}reverse_network/MLPResNetBlock_{g[0]}/Dense_{0 if g[1] == 'wide' else 1}", g[2]
        ),
    ),
    (
        r"head\.network\.blocks\.(\d+)\.norm\.(weight|bias)",
        lambda r, c, g: r.norm(f"{_NETWORK}reverse_network/MLPResNetBlock_{g[0]}/LayerNorm_0", g[1]),
    ),
)
"""Where each name of the model's state is in the file."""
