"""features.json and dataset_info.json as TFDS 4.9 reads them, and the tf.train.Example of an episode.

Structure of the JSON: tensorflow_datasets/core/proto/{feature,dataset_info}.proto, in the JSON form of
protocol buffers: 64-bit integers are strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vla_ros.data.blobs import Blobs, Spool
from vla_ros.data.encoded_image import image_size, is_png
from vla_ros.data.episode import Episode, SizedInt
from vla_ros.data.frames import Frames
from vla_ros.errors import DataError

Leaf = dict[str, Any]
"""One feature: kind (number, text or image), dtype, shape of one step or of the episode, format of images."""
Values = dict[str, Any]
_CLASSES = "tensorflow_datasets.core.features"
_FORBIDDEN = ("steps/action", "steps/observation/state", "steps/language_instruction")


def episode_leaves(episode: Episode, spool: Spool) -> tuple[dict[str, Leaf], Values]:
    """The features of an episode by their flat names, and their values; images lie in `spool`.

    Raises `DataError` when images differ in size, or something is of a kind that the format cannot hold.
    """
    count = len(episode)
    leaves: dict[str, Leaf] = {}
    values: Values = {}

    def number(name: str, array: Any, dtype: str) -> None:
        leaves[name] = {"kind": "number", "dtype": dtype, "shape": list(np.shape(array)[1:])}
        values[name] = array

    number("steps/action", np.asarray(episode.actions, np.float32), "float32")
    number("steps/observation/state", np.asarray(episode.states, np.float32), "float32")
    for flag in ("is_first", "is_last", "is_terminal"):
        number(f"steps/{flag}", np.asarray(getattr(episode, flag), np.bool_), "bool")
    leaves["steps/language_instruction"] = {"kind": "text", "dtype": "string", "shape": []}
    values["steps/language_instruction"] = [text.encode("utf-8") for text in episode.instructions]
    terminal = np.asarray(episode.is_terminal, np.float32)
    number("steps/reward", terminal, "float32")
    number("steps/discount", np.ones(count, np.float32), "float32")
    for name, array in episode.extra.items():
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"{episode.source}: the feature '{name}' is of {array.dtype}; numbers are written."
            )
        if f"steps/{name}" in _FORBIDDEN:
            raise DataError(f"{episode.source}: a further feature is named '{name}', which is taken.")
        # tf.train.Example has float32 only
        number(f"steps/{name}", array, "float32" if array.dtype.kind == "f" else array.dtype.name)
    for camera in sorted(episode.images):
        name = f"steps/observation/{camera}"
        if name in leaves:
            raise DataError(f"{episode.source}: a camera is named '{camera}', which is taken.")
        encoded, leaf = _images(episode.images[camera], spool, f"{episode.source}, camera '{camera}'")
        leaves[name], values[name] = leaf, encoded
    for key, value in episode.metadata.items():
        leaf, stored = _metadata(value)
        leaves[f"episode_metadata/{key}"], values[f"episode_metadata/{key}"] = leaf, stored
    return leaves, values


def features_json(leaves: Mapping[str, Leaf], descriptions: Mapping[str, str]) -> dict[str, Any]:
    """The content of features.json."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = _leaf_json(leaf, descriptions.get(name, ""))
    top = {key: _tree_json(node) for key, node in tree.items() if key != "steps"}
    steps = {
        "pythonClassName": f"{_CLASSES}.dataset_feature.Dataset",
        "sequence": {"feature": _tree_json(tree["steps"]), "length": "-1"},
    }
    return _dictionary({"steps": steps, **top})


def info_json(name: str, description: str, lengths: Sequence[int], size: int) -> dict[str, Any]:
    """The content of dataset_info.json: a split `train` of `lengths` episodes a shard and `size` bytes."""
    return {
        "description": description,
        "fileFormat": "tfrecord",
        "name": name,
        "releaseNotes": {"1.0.0": "Initial release."},
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": "train",
                "numBytes": str(size),
                "shardLengths": [str(length) for length in lengths],
            }
        ],
        "version": "1.0.0",
    }


def _images(frames: Frames, spool: Spool, where: str) -> tuple[Blobs, Leaf]:
    first: tuple[int, int] | None = None
    pngs = 0

    def seen() -> Iterator[bytes]:
        nonlocal first, pngs
        for step in range(len(frames)):
            data = frames[step]
            size = image_size(data)
            if size is None:
                raise DataError(f"{where}, step {step}: the image is neither JPEG nor PNG.")
            first = first or size
            if size != first:
                raise DataError(
                    f"{where}, step {step}: the image has {size[1]} x {size[0]} pixels, the first one "
                    f"{first[1]} x {first[0]}; RLDS keeps one size a camera."
                )
            pngs += is_png(data)
            yield data

    encoded = spool.put(seen())
    height, width = first or (0, 0)
    form = "png" if pngs == len(encoded) else "jpeg"
    return encoded, {"kind": "image", "dtype": "uint8", "shape": [height, width, 3], "format": form}


def _metadata(value: Any) -> tuple[Leaf, Any]:
    if isinstance(value, (bool, np.bool_)):
        return {"kind": "number", "dtype": "bool", "shape": []}, np.array([value])
    if isinstance(value, SizedInt):
        return {"kind": "number", "dtype": value.dtype, "shape": []}, np.array([int(value)], np.int64)
    if isinstance(value, (int, np.integer)):
        return {"kind": "number", "dtype": "int64", "shape": []}, np.array([int(value)], np.int64)
    if isinstance(value, (float, np.floating)):
        return {"kind": "number", "dtype": "float32", "shape": []}, np.array([value], np.float32)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"kind": "number", "dtype": value.dtype.name, "shape": list(value.shape)}, value[None]
    data = value if isinstance(value, bytes) else str(value).encode("utf-8")
    return {"kind": "text", "dtype": "string", "shape": []}, [data]


def _leaf_json(leaf: Leaf, description: str) -> dict[str, Any]:
    shape = {"dimensions": [str(n) for n in leaf["shape"]]} if leaf["shape"] else {}
    said: dict[str, Any] = {"description": description} if description else {}
    if leaf["kind"] == "text":
        return {"pythonClassName": f"{_CLASSES}.text_feature.Text", "text": {}, **said}
    if leaf["kind"] == "image":
        image = {"shape": shape, "dtype": leaf["dtype"], "encodingFormat": leaf["format"]}
        return {"pythonClassName": f"{_CLASSES}.image_feature.Image", "image": image, **said}
    name = "tensor_feature.Tensor" if leaf["shape"] else "scalar.Scalar"
    tensor = {"shape": shape, "dtype": leaf["dtype"], "encoding": "none"}
    return {"pythonClassName": f"{_CLASSES}.{name}", "tensor": tensor, **said}


def _tree_json(node: dict[str, Any]) -> dict[str, Any]:
    if "pythonClassName" in node:
        return node
    return _dictionary({key: _tree_json(child) for key, child in node.items()})


def _dictionary(features: dict[str, Any]) -> dict[str, Any]:
    name = f"{_CLASSES}.features_dict.FeaturesDict"
    return {"pythonClassName": name, "featuresDict": {"features": features}}
