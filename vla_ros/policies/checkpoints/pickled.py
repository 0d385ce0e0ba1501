"""Files of torch.save: tensors only.  A file that would run code when it is read is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.errors import PolicyError

if TYPE_CHECKING:
    from torch import Tensor


def read_pickled(path: Path) -> Mapping[str, Any]:
    """The map a file holds, its tensors mapped from the disk and not yet read.

    Raises `PolicyError` when the file is missing, malformed, holds anything but tensors and plain values, or
    no map.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        raise PolicyError(f"{path} does not exist.") from None
    except Exception as error:  # torch raises many kinds, by what is wrong
        said = str(error)
        if "weights_only" in said or "Unsupported" in said:
            raise PolicyError(
                f"{path} is refused: it holds more than tensors, which could run code when it is read."
            ) from None
        raise PolicyError(
            f"{path} is no file of tensors, or is cut off: {said.splitlines()[0]:.120}."
        ) from None
    if not isinstance(content, Mapping):
        raise PolicyError(f"{path} must hold a map, not a {type(content).__name__}.")
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """A module's tensors by name, without the prefix `module.` of training on several GPUs.

    Raises `PolicyError` as `read_pickled`, or when a value is no tensor.
    """
    from torch import Tensor

    table: dict[str, Tensor] = {}
    for name, value in read_pickled(path).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PolicyError(f"{path}: '{name!s:.60}' is no tensor.")
        table[name.removeprefix("module.")] = value
    return table
