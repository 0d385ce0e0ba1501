"""Which tokens may come next, so that every answer is a valid one, whatever the tokenizer's pieces are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vla_ros.errors import PolicyError
from vla_ros.policies.rt2.answer import LARGEST

_BLANKS = "\u2581\u0120 "
"""How tokenizers write a space: sentencepiece, byte-level, plain."""


@dataclass(frozen=True)
class Reading:
    """How far an answer in text has come."""

    width: int
    """Numbers of a step, terminate among them."""
    count: int
    """Numbers of the whole answer."""
    index: int = 0
    """The number that is being written."""
    digits: str = ""
    begun: bool = False
    """Whether anything, a space too, has been written."""

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return self.index == self.count - 1 and bool(self.digits)

    def after(self, character: str) -> Reading | None:
        """The reading one character on; None: it cannot come here."""
        if character == " ":
            if not self.begun:
                return replace(self, begun=True)
            if not self.digits or self.index == self.count - 1:
                return None
            return replace(self, index=self.index + 1, digits="")
        if not ("0" <= character <= "9") or self.digits == "0":
            return None
        digits = self.digits + character
        largest = 1 if self.index % self.width == 0 else LARGEST
        return replace(self, digits=digits, begun=True) if int(digits) <= largest else None

    def through(self, text: str) -> Reading | None:
        """The reading after a text; None: it cannot come here."""
        state: Reading | None = self
        for character in text:
            if state is None:
                return None
            state = state.after(character)
        return state


class TextGrammar:
    """Answers in text, over a tokenizer's own pieces."""

    def __init__(self, tokenizer: Any, horizon: int, dimension: int) -> None:
        """Finds the pieces of digits and spaces.  Raises `PolicyError` when a digit is missing."""
        self._start = Reading(dimension + 1, horizon * (dimension + 1))
        self._ends = end_tokens(tokenizer)
        self.pieces = _pieces(tokenizer)
        missing = [digit for digit in "0123456789" if digit not in self.pieces.values()]
        if missing or not any(" " in piece for piece in self.pieces.values()):
            raise PolicyError(
                f"The tokenizer has no token for {', '.join(missing) or 'a space'}, so that it cannot "
                "answer in numbers; answers in 256 tokens are possible (answer=tokens)."
            )
        self._kept: dict[Reading, list[int]] = {}

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Tokens that may follow those generated so far."""
        state = self._read(generated)
        if state is None:
            return self._ends
        if state not in self._kept:
            found = [token for token, piece in self.pieces.items() if state.through(piece) is not None]
            self._kept[state] = found + (self._ends if state.complete else [])
        return self._kept[state]

    def numbers(self, generated: Sequence[int]) -> list[int]:
        """The numbers that tokens spell.  Raises `PolicyError` when they are no whole answer."""
        text = "".join(self.pieces.get(token, "") for token in generated)
        state = self._read(generated)
        if state is None or not state.complete:
            raise PolicyError(f"The model stopped in the middle of its answer: '{text.strip():.80}'.")
        return [int(word) for word in text.split()]

    @property
    def longest(self) -> int:
        """Tokens of an answer at most: three digits and a space each, and the end."""
        return 4 * self._start.count + 2

    def _read(self, generated: Sequence[int]) -> Reading | None:
        state: Reading | None = self._start
        for token in generated:
            if token in self._ends:
                break
            piece = self.pieces.get(token)
            state = None if piece is None or state is None else state.through(piece)
        return state


class TokenGrammar:
    """Answers in 256 tokens put to this use, the first for 0."""

    def __init__(self, tokens: Sequence[int], ends: list[int], horizon: int, dimension: int) -> None:
        """`tokens` are 256 ids.  Raises `PolicyError` when they are not, or are not all different."""
        if len(tokens) != LARGEST + 1 or len(set(tokens)) != LARGEST + 1:
            raise PolicyError(
                f"{LARGEST + 1} different tokens are needed for answers, but {len(set(tokens))} given."
            )
        self._tokens, self._ends = list(tokens), ends
        self._bins = {token: index for index, token in enumerate(tokens)}
        self._width, self._count = dimension + 1, horizon * (dimension + 1)

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Tokens that may follow those generated so far."""
        if len(generated) >= self._count:
            return self._ends
        return self._tokens[:2] if len(generated) % self._width == 0 else self._tokens

    def numbers(self, generated: Sequence[int]) -> list[int]:
        """The numbers that tokens stand for.  Raises `PolicyError` when they are no whole answer."""
        answer = list(generated[: self._count])
        if len(answer) < self._count or any(token not in self._bins for token in answer):
            raise PolicyError("The model stopped in the middle of its answer.")
        return [self._bins[token] for token in answer]

    @property
    def longest(self) -> int:
        """Tokens of an answer, and the end."""
        return self._count + 1


def end_tokens(tokenizer: Any) -> list[int]:
    """Ids that end an answer.  Raises `PolicyError` when there is none."""
    token = tokenizer.eos_token_id
    ends = [token] if isinstance(token, int) else list(token or [])
    if not ends:
        raise PolicyError("The tokenizer has no token that ends an answer.")
    return ends


def last_tokens(tokenizer: Any) -> list[int]:
    """The last 256 ids of the vocabulary that mean nothing special: the least used of most tokenizers."""
    special = set(tokenizer.all_special_ids)
    added = {one for one, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    ordinary = [token for token in range(len(tokenizer)) if token not in special | added]
    return ordinary[-(LARGEST + 1) :]


def _pieces(tokenizer: Any) -> dict[int, str]:
    """Tokens made of digits and spaces, and their text behind a digit."""
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    anchor = next((vocabulary[digit] for digit in "0123456789" if digit in vocabulary), None)
    if anchor is None:
        return {}
    before = tokenizer.decode([anchor])
    pieces = {}
    for raw, token in vocabulary.items():
        core = raw.strip(_BLANKS)
        if token in special or not (core.isascii() and (core.isdigit() or not core)) or not raw:
            continue
        text = tokenizer.decode([anchor, token], clean_up_tokenization_spaces=False)
        piece = text[len(before) :] if text.startswith(before) else ""
        if piece and set(piece) <= set("0123456789 "):
            pieces[token] = piece
    return pieces
