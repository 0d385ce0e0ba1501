"""The instruction as T5's token ids, by the vocabulary file beside the checkpoint or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError

FILES = ("tokenizer.json", "spiece.model")
"""Either will do; both are published with t5-base."""
_END, _PADDING = 1, 0


class Tokenizer(Protocol):
    """Text to ids and which of them are no padding, each (1, tokens)."""

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


class HubTokenizer:
    """From a `tokenizer.json`."""

    def __init__(self, path: Path, tokens: int) -> None:
        """Raises `PolicyError`."""
        try:
            from tokenizers import Tokenizer as Fast
        except ImportError:
            raise PolicyError(
                f"Reading {path} needs the package 'tokenizers', which is not installed."
            ) from None
        try:
            self._inner: Any = Fast.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise PolicyError(f"{path} is no tokenizer: {error}.") from error
        self._tokens = tokens
        self._inner.no_padding()
        self._inner.no_truncation()

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Tokenizer`."""
        return _framed(self._inner.encode(text, add_special_tokens=False).ids, self._tokens)


class PieceTokenizer:
    """From a `spiece.model`."""

    def __init__(self, path: Path, tokens: int) -> None:
        """Raises `PolicyError`."""
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise PolicyError(
                f"Reading {path} needs the package 'sentencepiece', which is not installed."
            ) from None
        try:
            self._inner: Any = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise PolicyError(f"{path} is no tokenizer: {error}.") from error
        self._tokens = tokens

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Tokenizer`."""
        return _framed(self._inner.encode(text), self._tokens)


def read_tokenizer(folder: Path, tokens: int) -> Tokenizer:
    """The tokenizer in a folder, answering so many tokens.  Raises `PolicyError`."""
    if (folder / FILES[0]).is_file():
        return HubTokenizer(folder / FILES[0], tokens)
    if (folder / FILES[1]).is_file():
        return PieceTokenizer(folder / FILES[1], tokens)
    raise PolicyError(f"{folder} holds no tokenizer: neither {' nor '.join(FILES)} is there.")


def _framed(ids: list[int], tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut, ended and padded, as T5's own tokenizer does."""
    kept = [*ids[: tokens - 1], _END]
    padding = tokens - len(kept)
    return (
        np.array([kept + [_PADDING] * padding], dtype=np.int64),
        np.array([[1] * len(kept) + [0] * padding], dtype=np.int64),
    )
