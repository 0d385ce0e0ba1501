"""Answers and the grammar that admits no other, over tokenizers that cut numbers in different ways."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra 'torch' is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from vision_language_models import byte_level, metaspace

from vla_ros.errors import PolicyError
from vla_ros.policies.rt2.answer import bins_of, from_numbers, from_text, to_text, values_of
from vla_ros.policies.rt2.grammar import (
    Reading,
    TextGrammar,
    TokenGrammar,
    end_tokens,
    last_tokens,
)

TOKENIZERS = {
    "byte_level": byte_level("<image>"),
    "small_byte_level": byte_level(size=262),
    "metaspace": metaspace("<image>"),
}


@given(st.lists(st.lists(st.integers(0, 255), min_size=7, max_size=7), min_size=1, max_size=4), st.booleans())
def test_text_there_and_back(bins: list[list[int]], terminate: bool) -> None:
    values = values_of(np.array(bins))
    assert bins_of(values).tolist() == bins
    assert (np.abs(values) <= 1.0).all()
    steps = from_text(to_text(values, terminate), len(bins), 7)
    assert steps.terminate is terminate and np.array_equal(steps.values, values)


def test_the_ends_are_minus_and_plus_one() -> None:
    assert values_of(np.array([0, 255])).tolist() == [-1.0, 1.0]
    assert bins_of(np.array([-5.0, 5.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    "text",
    ["", "1 2 3", "0 1 2 3 4 5 6 256", "2 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 -7", "0 1 2 3 4 5 6 x", "0 " * 9],
)
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="The model answered"):
        from_text(text, 1, 7)


@given(st.text(alphabet="0123456789 a", max_size=12))
def test_a_reading_admits_beginnings_of_answers_and_nothing_else(text: str) -> None:
    """Against a plain look at the whole text."""
    words = text[1:].split(" ") if text.startswith(" ") else text.split(" ")

    def number(word: str, index: int) -> bool:
        plain = word.isascii() and word.isdigit() and (word == "0" or not word.startswith("0"))
        return plain and int(word) <= (1 if index % 3 == 0 else 255)

    valid = all(number(word, index) for index, word in enumerate(words[:-1])) and len(words) <= 6
    valid = valid and (words[-1] == "" or number(words[-1], len(words) - 1))
    assert (Reading(3, 6).through(text) is not None) is valid


@pytest.mark.parametrize("name", TOKENIZERS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_whatever_is_chosen_among_the_allowed_is_an_answer(name: str, seed: int) -> None:
    tokenizer, random = TOKENIZERS[name], np.random.default_rng(seed)
    grammar = TextGrammar(tokenizer, 2, 7)
    found: list[int] = []
    while len(found) < grammar.longest:
        allowed = grammar.allowed(found)
        assert allowed
        token = int(random.choice(allowed))
        found.append(token)
        if token == tokenizer.eos_token_id:
            break
    assert found[-1] == tokenizer.eos_token_id
    numbers = grammar.numbers(found)
    from_numbers(numbers, 2, 7)
    assert [int(word) for word in tokenizer.decode(found, skip_special_tokens=True).split()] == numbers


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_answer_can_be_given(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    grammar = TextGrammar(tokenizer, 1, 7)
    text = "1 0 9 10 99 100 200 255"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    for index, token in enumerate(ids):
        assert token in grammar.allowed(ids[:index]), tokenizer.convert_ids_to_tokens(token)
    assert tokenizer.eos_token_id in grammar.allowed(ids)
    assert grammar.numbers(ids) == [int(word) for word in text.split()]
    with pytest.raises(PolicyError, match="in the middle"):
        grammar.numbers(ids[:3])


def test_tokens_put_to_this_use() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    tokens = last_tokens(tokenizer)
    assert len(tokens) == 256 and tokenizer.eos_token_id not in tokens
    grammar = TokenGrammar(tokens, end_tokens(tokenizer), 2, 3)
    assert grammar.allowed([]) == tokens[:2] and grammar.allowed(tokens[:1]) == tokens
    answer = [tokens[number] for number in (0, 5, 255, 9, 1, 0, 128, 7)]
    assert grammar.allowed(answer) == end_tokens(tokenizer)
    assert grammar.numbers(answer) == [0, 5, 255, 9, 1, 0, 128, 7]
    with pytest.raises(PolicyError, match="in the middle"):
        grammar.numbers(answer[:-1])
    with pytest.raises(PolicyError, match="256 different tokens"):
        TokenGrammar(tokens[:-1], [2], 1, 7)
