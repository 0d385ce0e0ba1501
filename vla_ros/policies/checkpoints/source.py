"""Where a checkpoint is: a local folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from vla_ros.errors import PolicyError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
"""owner/name, as the hub writes it."""
LONGEST_REASON = 200
"""Characters of what a library says of a failure."""


def check_source(source: str, revision: str = "") -> None:
    """Refuse what names no folder and no repository, without asking the hub.  Raises `PolicyError`."""
    if not source:
        raise PolicyError("No checkpoint was named; give a folder or a hub id such as 'openvla/openvla-7b'.")
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision:
            raise PolicyError(f"Revision '{revision}' was asked for, but {source} is a folder and has none.")
    elif folder.exists():
        raise PolicyError(f"The checkpoint {source} is a file, but must be a folder or a hub id.")
    elif _HUB_ID.fullmatch(source) is None:
        raise PolicyError(
            f"The checkpoint '{source}' is neither a folder that exists nor a hub id owner/name."
        )


def checkpoint_folder(source: str, patterns: Sequence[str], revision: str = "") -> Path:
    """The local folder of a checkpoint.

    Args:
        source: path of a folder, or `owner/name` of a repository on the hub.
        patterns: shell patterns of the files that are needed; others are not fetched from the hub.
        revision: branch, tag or commit on the hub; "": the newest.

    Raises `PolicyError` when it is neither, or the hub does not give it.
    """
    check_source(source, revision)
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else _download(source, patterns, revision)


def _download(source: str, patterns: Sequence[str], revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise PolicyError(
            f"The checkpoint '{source}' is no local folder, and fetching it from the hub needs the package "
            "'huggingface-hub', which is not installed."
        ) from None
    try:
        found = snapshot_download(
            source, revision=revision or None, allow_patterns=list(patterns),
            local_files_only=os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
        )  # fmt: skip
    except Exception as error:  # the library raises its own kinds, its client's, and the system's
        raise PolicyError(
            f"The checkpoint '{source}' is no local folder, and the hub did not give it: {_reason(error)}."
        ) from error
    return Path(found)


def _reason(error: Exception) -> str:
    """Why the hub gave nothing, in a line that ends with a whole word and without a full stop."""
    cause = error.__cause__
    if type(error).__name__ == "LocalEntryNotFoundError" and cause is not None:
        # the library's own text speaks of its cache; what went wrong is that the hub was not reached
        return f"it cannot be reached from here ({type(cause).__name__}: {_line(cause)})"
    return _line(error)


def _line(error: BaseException) -> str:
    text = textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...").rstrip(". ")
    return text or type(error).__name__
