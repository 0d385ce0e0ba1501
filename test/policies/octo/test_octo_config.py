"""config.json: what is supported is read, what is not is refused in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octo_checkpoint import config_json, stem_spec

from vla_ros.actions.normalization import NormalizationKind
from vla_ros.errors import PolicyError
from vla_ros.policies.octo.config import parse_config, read_config


def test_the_present_form() -> None:
    config = parse_config(config_json())
    assert [one.name for one in config.images] == ["primary", "wrist"]
    assert config.images[0].goal and config.images[0].stem.patch == 16
    assert config.language is not None and config.language.encoder == config.tokenizer == "t5-base"
    assert (config.head.horizon, config.head.dimension, config.head.steps) == (4, 7, 20)
    assert config.head.readout == "action"
    assert config.correct_attention and config.repeat_task
    assert config.normalization is NormalizationKind.NORMAL


def test_the_oldest_form() -> None:
    content = config_json()
    for name in ("repeat_task_tokens", "use_correct_attention"):
        del content["model"][name]
    head = content["model"]["heads"]["action"]["kwargs"]
    head["pred_horizon"] = head.pop("action_horizon")
    config = parse_config(content)
    assert config.head.horizon == 4
    assert not config.correct_attention and not config.repeat_task


def test_words_of_the_training_data() -> None:
    content = config_json()
    content["dataset_kwargs"] = {"common": [{"action_proprio_normalization_type": "bounds"}], "name": "mine"}
    content["text_processor"] = {
        "name": "HFTokenizer",
        "kwargs": {"tokenizer_name": "t5-small", "tokenizer_kwargs": {"max_length": 12}},
    }
    for other in (None, [], {"name": None}, "text"):
        assert parse_config({**content, "dataset_kwargs": other}).data_set == ""
    config = parse_config(content)
    assert config.normalization is NormalizationKind.BOUNDS_Q99
    assert config.data_set == "mine"
    assert (config.tokenizer, config.instruction_tokens) == ("t5-small", 12)


def broken(path: str, value: Any) -> dict[str, Any]:
    content = config_json()
    inner: Any = content
    *parts, last = path.split("/")
    for part in parts:
        inner = inner[part]
    inner[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("model", None, "'model.' must be a map"),
        ("model/token_embedding_size", "32", "token_embedding_size' is '32', but must be of type int"),
        ("model/token_embedding_size", True, "must be of type int"),
        ("model/token_embedding_size", 30, "4 attention heads do not divide a width of 30"),
        ("model/token_embedding_size", 2_000_000, "must be 1 to 1000000"),
        ("model/transformer_kwargs/add_position_embedding", True, "position embeddings inside"),
        ("model/heads/action/kwargs/use_map", True, "pools by attention"),
        ("model/heads/action/name", "MSEActionHead", "MSEActionHead, supported are DiffusionActionHead"),
        ("model/heads/action/args", [1], "only keyword arguments"),
        ("model/heads/action/kwargs/readout_key", "readout_value", "head reads 'value', readouts are action"),
        ("model/heads/other", {}, "'action' alone is supported"),
        (
            "model/observation_tokenizers/proprio",
            {"name": "LowdimObsTokenizer"},
            "are ImageTokenizer",
        ),
        ("model/observation_tokenizers/primary/kwargs/task_film_keys", ["a"], "task_film_keys' is not supp"),
        ("model/observation_tokenizers/primary/kwargs/obs_stack_keys", ["a", "b"], "one camera a tokenizer"),
        ("model/observation_tokenizers/primary/kwargs/encoder/name", "ViT", "ViT, supported are SmallStem16"),
        ("model/observation_tokenizers/primary/kwargs/encoder/kwargs", {"use_film": True}, "FiLM"),
        ("model/observation_tokenizers/primary/kwargs/encoder/kwargs", {"features": [33]}, "do not fit"),
        ("model/observation_tokenizers/primary/kwargs/proper_pad_mask", False, "must be true"),
        ("model/task_tokenizers/language/kwargs/encoder", "bert", "only T5"),
        ("model/task_tokenizers/two", {}, "one is supported"),
        ("window_size", 11, "window_size is 11, but max_horizon is 10"),
        ("dataset_kwargs", {"action_proprio_normalization_type": "other"}, "known are normal, bounds"),
    ],
)
def test_what_is_not_supported(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence) as caught:
        parse_config(broken(path, value), "model/config.json")
    assert "model/config.json" in str(caught.value)


def test_a_thousand_damaged_files() -> None:
    random = np.random.default_rng(1)
    junk = [None, 0, -3, 1e30, "", "x", [], {}, [1, "a"], {"a": None}, True]
    refused = 0
    for _ in range(1000):
        content = copy.deepcopy(config_json())
        for _ in range(random.integers(1, 4)):
            inner: Any = content
            while True:
                keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
                key = keys[random.integers(len(keys))]
                if isinstance(inner[key], (dict, list)) and inner[key] and random.random() < 0.8:
                    inner = inner[key]
                    continue
                inner[key] = copy.deepcopy(junk[random.integers(len(junk))])
                break
        try:
            parse_config(content)
        except PolicyError as error:
            refused += 1
            assert "config.json" in str(error)
    assert refused > 500


def test_options_of_the_data_nested_without_end() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert parse_config({**config_json(), "dataset_kwargs": deep}) == parse_config(config_json())


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(PolicyError, match="cannot be read as a model's configuration"):
            read_config(path)
    with pytest.raises(PolicyError, match="No such file"):
        read_config(tmp_path / "none.json")
    path.write_text(json.dumps(config_json()))
    assert read_config(path) == parse_config(config_json())


def test_a_camera_without_goal() -> None:
    spec = stem_spec("image_primary")
    spec["kwargs"]["task_stack_keys"] = []
    config = parse_config(config_json(observation_tokenizers={"primary": spec}))
    assert not config.images[0].goal
