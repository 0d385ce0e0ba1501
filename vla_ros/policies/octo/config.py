"""What a checkpoint's config.json says of an Octo model: its tokenizers, transformer and action head.

Names and defaults are those of octo-models/octo v1.5; older spellings are understood: `pred_horizon`, and
attention with its off-by-one, which checkpoints from before `use_correct_attention` were trained with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.actions.normalization import NormalizationKind
from vla_ros.errors import PolicyError


@dataclass(frozen=True)
class StemConfig:
    """The convolutions in front of the transformer (SmallStem)."""

    features: tuple[int, ...] = (32, 96, 192, 384)
    kernels: tuple[int, ...] = (3, 3, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    padding: tuple[int, ...] = (1, 1, 1, 1)
    outputs: int = 512
    patch: int = 16
    """Pixels per token along a side."""


@dataclass(frozen=True)
class ImageTokens:
    """A group of tokens made from one camera, with the goal image of the same view behind it."""

    name: str
    """`primary` or `wrist` in the published models."""
    key: str
    """Of the image in an observation, `image_primary`."""
    goal: bool
    """Whether a goal image is stacked on the observed one."""
    stem: StemConfig


@dataclass(frozen=True)
class LanguageTokens:
    """The tokens of the instruction."""

    name: str
    encoder: str
    """Hub name of the T5 model whose encoder and vocabulary are used."""


@dataclass(frozen=True)
class HeadConfig:
    """The diffusion head (DiffusionActionHead)."""

    readout: str = "action"
    horizon: int = 1
    dimension: int = 7
    largest: float = 5.0
    """Normalised actions are clipped to this."""
    time_dimension: int = 32
    blocks: int = 3
    hidden: int = 256
    layer_norm: bool = True
    steps: int = 20


@dataclass(frozen=True)
class OctoConfig:
    """An Octo model's shape."""

    images: tuple[ImageTokens, ...]
    language: LanguageTokens | None
    readouts: Mapping[str, int]
    head: HeadConfig
    width: int
    layers: int
    heads: int
    mlp: int
    longest_window: int = 10
    """Time steps there are position embeddings for."""
    window: int = 1
    """Time steps the model was trained with."""
    repeat_task: bool = False
    correct_attention: bool = False
    normalization: NormalizationKind = NormalizationKind.NORMAL
    instruction_tokens: int = 16
    tokenizer: str = ""
    """Hub name of the tokenizer."""
    data_set: str = ""
    """Name of the data set it was trained on, where it was one."""
    source: str = field(default="config.json", compare=False)


def read_config(path: Path) -> OctoConfig:
    """From a config.json.  Raises `PolicyError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise PolicyError(f"{path} cannot be read as a model's configuration: {detail}.") from error
    return parse_config(content, str(path))


def parse_config(content: Any, source: str = "config.json") -> OctoConfig:
    """From the content of a config.json.  Raises `PolicyError` for what is missing or not supported."""
    top = _Section(content, source, "")
    model = top.section("model")
    transformer = model.section("transformer_kwargs")
    if transformer.get("add_position_embedding", bool, False):
        raise PolicyError(f"{source}: position embeddings inside the transformer are not supported.")
    head = _head(model)
    readouts = {name: model.section("readouts").get(name, int) for name in model.section("readouts").names}
    if head.readout not in readouts:
        raise PolicyError(f"{source}: the head reads '{head.readout}', readouts are {', '.join(readouts)}.")
    language, tokenizer, tokens = _language(model, top)
    width, heads = model.get("token_embedding_size", int), transformer.get("num_attention_heads", int)
    if width % heads:
        raise PolicyError(f"{source}: {heads} attention heads do not divide a width of {width}.")
    window, longest = top.get("window_size", int, 1), model.get("max_horizon", int)
    if not 1 <= window <= longest:
        raise PolicyError(f"{source}: window_size is {window}, but max_horizon is {longest}.")
    return OctoConfig(
        images=tuple(
            _image(name, model.section("observation_tokenizers").section(name))
            for name in model.section("observation_tokenizers").names
        ),
        language=language,
        readouts=readouts,
        head=head,
        width=width,
        layers=transformer.get("num_layers", int),
        heads=heads,
        mlp=transformer.get("mlp_dim", int),
        longest_window=longest,
        window=window,
        repeat_task=model.get("repeat_task_tokens", bool, False),
        correct_attention=model.get("use_correct_attention", bool, False),
        normalization=_normalization(top),
        instruction_tokens=tokens,
        tokenizer=tokenizer,
        data_set=_data_set(top.value("dataset_kwargs")),
        source=source,
    )


class _Section:
    """A map of the file, that says where it is when something is wrong."""

    def __init__(self, content: Any, source: str, path: str) -> None:
        if not isinstance(content, Mapping):
            raise PolicyError(f"{source}: '{path or 'the whole'}' must be a map, not {content!r:.60}.")
        self._content, self._source, self._path = content, source, path

    @property
    def names(self) -> list[str]:
        return list(self._content)

    def has(self, key: str) -> bool:
        """Whether the key is there with anything but null, false or nothing."""
        return bool(self._content.get(key))

    def value(self, key: str) -> Any:
        """The value of the key, whatever it is; None: it is not there."""
        return self._content.get(key)

    def where(self, key: str) -> str:
        return f"{self._source}: '{self._path}{key}'"

    def section(self, key: str, optional: bool = False) -> _Section:
        content = self._content.get(key, {} if optional else None)
        return _Section({} if optional and content is None else content, self._source, f"{self._path}{key}.")

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value: Any = self._content.get(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise PolicyError(f"{self.where(key)} is {value!r:.60}, but must be of type {kind.__name__}.")
        if isinstance(value, int) and kind is int and not 1 <= value <= 1_000_000:
            raise PolicyError(f"{self.where(key)} is {value}, but must be 1 to 1000000.")
        return value

    def sizes(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        value = self._content.get(key, default)
        if not isinstance(value, (list, tuple)) or not all(type(one) is int and one >= 0 for one in value):
            raise PolicyError(f"{self.where(key)} is {value!r:.60}, but must be a list of whole numbers.")
        return tuple(value)

    def keys(self, key: str) -> tuple[str, ...]:
        value = self._content.get(key, ())
        value = (value,) if isinstance(value, str) else value or ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise PolicyError(f"{self.where(key)} is {value!r:.60}, but must be a list of names.")
        return tuple(value)

    def module(self, supported: tuple[str, ...]) -> tuple[str, _Section]:
        """Name and keyword arguments of a ModuleSpec."""
        name = self.get("name", str)
        if name not in supported:
            raise PolicyError(f"{self.where('name')} is {name}, supported are {', '.join(supported)}.")
        if self._content.get("args"):
            raise PolicyError(f"{self.where('args')} are not supported, only keyword arguments.")
        return name, self.section("kwargs", optional=True)


def _image(name: str, spec: _Section) -> ImageTokens:
    _, options = spec.module(("ImageTokenizer",))
    seen, goals = options.keys("obs_stack_keys"), options.keys("task_stack_keys")
    if len(seen) != 1 or len(goals) > 1 or (goals and goals != seen):
        raise PolicyError(
            f"{options.where('obs_stack_keys')} are {list(seen)} with the goal's {list(goals)}, "
            "but one camera a tokenizer, with its own goal image or none, is supported."
        )
    for unsupported in ("task_film_keys", "use_token_learner"):
        if options.has(unsupported):
            raise PolicyError(f"{options.where(unsupported)} is not supported.")
    if not options.get("proper_pad_mask", bool, True):
        raise PolicyError(f"{options.where('proper_pad_mask')} must be true.")
    kind, stem = options.section("encoder").module(("SmallStem16", "SmallStem32", "SmallStem"))
    if stem.get("use_film", bool, False) or stem.get("img_norm_type", str, "default") != "default":
        raise PolicyError(f"{stem.where('')} with FiLM or another image normalisation is not supported.")
    default = StemConfig()
    config = StemConfig(
        stem.sizes("features", default.features),
        stem.sizes("kernel_sizes", default.kernels),
        stem.sizes("strides", default.strides),
        stem.sizes("padding", default.padding),
        stem.get("num_features", int, default.outputs),
        stem.get("patch_size", int, 16 if kind == "SmallStem16" else 32),
    )
    lengths = {len(config.features), len(config.kernels), len(config.strides), len(config.padding)}
    if len(lengths) != 1 or any(one % 32 or not one for one in config.features) or config.patch % 16:
        raise PolicyError(f"{stem.where('features')} and its kernels, strides and padding do not fit.")
    return ImageTokens(name, seen[0], bool(goals), config)


def _language(model: _Section, top: _Section) -> tuple[LanguageTokens | None, str, int]:
    """The language tokens, the tokenizer's hub name and the number of tokens."""
    tasks = model.section("task_tokenizers", optional=True)
    if not tasks.names:
        return None, "", 16
    if len(tasks.names) > 1:
        raise PolicyError(f"{tasks.where('')} are {', '.join(tasks.names)}, but one is supported.")
    name = tasks.names[0]
    _, options = tasks.section(name).module(("LanguageTokenizer",))
    encoder = options.get("encoder", str)
    if "t5" not in encoder:
        raise PolicyError(f"{options.where('encoder')} is '{encoder}', but only T5 is supported.")
    processor = top.section("text_processor", optional=True)
    arguments = processor.section("kwargs", optional=True)
    settings = arguments.section("tokenizer_kwargs", optional=True)
    return (
        LanguageTokens(name, encoder),
        arguments.get("tokenizer_name", str, encoder),
        settings.get("max_length", int, 16),
    )


def _head(model: _Section) -> HeadConfig:
    heads = model.section("heads")
    if heads.names != ["action"]:
        raise PolicyError(f"{heads.where('')} are {', '.join(heads.names)}, but 'action' alone is supported.")
    _, options = heads.section("action").module(("DiffusionActionHead",))
    if options.get("use_map", bool, False):
        raise PolicyError(f"{options.where('use_map')}: a head that pools by attention is not supported.")
    older = options.get("pred_horizon", int, 1)
    default = HeadConfig()
    return HeadConfig(
        options.get("readout_key", str, "readout_action").removeprefix("readout_"),
        options.get("action_horizon", int, older),
        options.get("action_dim", int, default.dimension),
        options.get("max_action", float, default.largest),
        options.get("time_dim", int, default.time_dimension),
        options.get("num_blocks", int, default.blocks),
        options.get("hidden_dim", int, default.hidden),
        options.get("use_layer_norm", bool, default.layer_norm),
        options.get("diffusion_steps", int, default.steps),
    )


def _normalization(top: _Section) -> NormalizationKind:
    """As the training data were scaled; it stands somewhere among the data's options, or is the default."""
    names = {"normal": NormalizationKind.NORMAL, "bounds": NormalizationKind.BOUNDS_Q99}
    found = _search(top.value("dataset_kwargs"), "action_proprio_normalization_type")
    if found is None:
        return NormalizationKind.NORMAL
    word = str(found).lower().rsplit(".", 1)[-1]
    if word not in names:
        raise PolicyError(
            f"{top.where('dataset_kwargs')} scales actions by '{found}', known are {', '.join(names)}."
        )
    return names[word]


def _data_set(options: Any) -> str:
    """Name of the one data set that the training's options speak of; "": they do not."""
    name = options.get("name") if isinstance(options, Mapping) else None
    return name if isinstance(name, str) else ""


def _search(content: Any, key: str, depth: int = 16) -> Any:
    """The value of the key wherever it stands, not deeper than that; None: nowhere."""
    if isinstance(content, Mapping):
        if key in content:
            return content[key]
        content = list(content.values())
    if isinstance(content, list) and depth > 0:
        for item in content:
            found = _search(item, key, depth - 1)
            if found is not None:
                return found
    return None
