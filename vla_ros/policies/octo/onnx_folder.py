"""The exported form of an Octo model: ONNX graphs and a description beside the checkpoint's files.

```
config.json dataset_statistics.json tokenizer.json   as in the checkpoint
onnx/description.json                                 what was exported
onnx/language.onnx       ids, mask -> tokens
onnx/frame_<camera>.onnx image, goal -> tokens
onnx/observe.onnx        instruction, frames, masks -> embedding
onnx/denoise.onnx        embedding, noise -> actions
onnx/guided.onnx         the same, with a target and weights
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla_ros.errors import PolicyError

FOLDER, DESCRIPTION = "onnx", "description.json"


@dataclass(frozen=True)
class Description:
    """What the graphs were exported for: their shapes are fixed."""

    precision: str
    """Of observe.onnx: fp32 or int8."""
    window: int
    cameras: dict[str, tuple[int, int]]
    """Height and width of each camera's image."""
    language: bool
    """Whether there is an instruction."""

    def write(self, folder: Path) -> None:
        """Into an exported folder."""
        text = json.dumps(asdict(self), indent=2)
        (folder / FOLDER / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def read_description(folder: Path) -> Description:
    """Of an exported folder.  Raises `PolicyError`."""
    path = folder / FOLDER / DESCRIPTION
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(
            f"{folder} holds no exported Octo, {FOLDER}/{DESCRIPTION} is missing: export it first."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        cameras = {str(name): (int(size[0]), int(size[1])) for name, size in content["cameras"].items()}
        return Description(
            str(content["precision"]), int(content["window"]), cameras, bool(content["language"])
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PolicyError(f"{path} is no description of an exported Octo: {error!r}.") from None
