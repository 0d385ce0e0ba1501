"""Tiny vision-language models with random weights, of several families, as folders like those on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = "What action should the robot take to pick up the red block Q: A: Instruction: Plan: Action:"
NUMBERS = " ".join(map(str, range(256)))
STATISTICS = {
    "made_up": {
        "action": {"q01": [-0.02] * 6 + [0.0], "q99": [0.02] * 6 + [1.0], "mask": [True] * 6 + [False]}
    }
}


def byte_level(*special: str, size: int = 500) -> Any:
    """A tokenizer as GPT-2's: numbers of several digits are tokens of their own, spaces belong to words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<pad>", "<bos>", "<eos>", *special]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=names, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([WORDS, NUMBERS] * 2, trainer)
    return _wrapped(tokenizer, special)


def metaspace(*special: str) -> Any:
    """A tokenizer as Llama's and Gemma's: every digit for itself, a space as a mark in front."""
    pieces = ["<pad>", "<bos>", "<eos>", *special, "\u2581", *"0123456789"]
    pieces += [f"\u2581{digit}" for digit in "0123456789"]
    pieces += sorted({f"\u2581{word}" for word in WORDS.split()} | set(WORDS.replace(" ", "")))
    pieces += [f"<unused{number}>" for number in range(256)]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in dict.fromkeys(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return _wrapped(tokenizer, special)


def _wrapped(tokenizer: Any, special: tuple[str, ...]) -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        additional_special_tokens=list(special),
    )  # fmt: skip


def _paligemma() -> tuple[Any, Any]:
    tokenizer = metaspace("<image>")
    images = transformers.SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = transformers.PaliGemmaProcessor(images, tokenizer)
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32,
                       "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
                       "projection_dim": 32},
        text_config={"model_type": "gemma", "hidden_size": 32, "intermediate_size": 64,
                     "num_hidden_layers": 2,
                     "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
                     "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=32,
    )  # fmt: skip
    return transformers.PaliGemmaForConditionalGeneration(config), processor


def _idefics3() -> tuple[Any, Any]:
    tokenizer = byte_level(
        "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<row_1_col_1>"
    )
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
    )
    template = (
        "{% for message in messages %}{{ message['role'] }}:{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    config = transformers.Idefics3Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "image_size": 28, "patch_size": 7},
        text_config={"model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
                     "num_hidden_layers": 2,
                     "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": len(tokenizer)},
        scale_factor=2, image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0,
    )  # fmt: skip
    return transformers.Idefics3ForConditionalGeneration(config), processor


def _llava() -> tuple[Any, Any]:
    tokenizer = byte_level("<image>", size=300)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
                       "projection_dim": 16},
        text_config={"model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
                     "num_hidden_layers": 2,
                     "num_attention_heads": 2, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config), processor


FAMILIES = {"paligemma": _paligemma, "idefics3": _idefics3, "llava": _llava}


def write_checkpoint(folder: Path, family: str, seed: int = 0) -> Path:
    """A folder with a model of a family, its processor and statistics."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[family]()
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)
    (folder / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    return folder
