"""Where things lie in a LeRobot data set v3.0, and how its features are called.

Sources: `lerobot` 0.4.4, `lerobot/datasets/utils.py` and `lerobot_dataset.py`.  Many episodes share one data
file (parquet) and one video a camera (mp4); `meta/episodes` says which rows and which seconds are whose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.data.episode import Episode

VERSION = "v3.0"
CHUNK = 1000
"""Files a folder."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
CONTRACT = "meta/contract.yaml"
OURS = "meta/vla_ros.json"
"""What the format has no place for: shapes of extra features, the action space, the codec's loss."""
METADATA = "vla_ros/metadata"
"""Column of meta/episodes: `Episode.metadata` as JSON."""
FLAGS = "vla_ros/flags"
"""Column of meta/episodes: steps marked first and last as JSON, empty where these are just that."""
ACTION, STATE, CAMERA, TERMINAL = "action", "observation.state", "observation.images.", "next.done"
STANDARD = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_STANDARD_TYPES = {"timestamp": "float32"}


def place(template: str, index: int, key: str = "") -> str:
    """Path of file `index` of a kind, below the data set's folder."""
    return template.format(chunk_index=index // CHUNK, file_index=index % CHUNK, video_key=key)


def feature_name(extra: str) -> str:
    """LeRobot's name of an extra feature; it allows no slash."""
    return extra.replace("/", ".")


def numeric_features(episode: Episode) -> dict[str, dict[str, Any]]:
    """info.json's entries of everything but the cameras, in the order of the columns."""
    features: dict[str, dict[str, Any]] = {
        ACTION: _vector(episode.actions.shape[1], episode.action_names, "action"),
    }
    if episode.states.shape[1]:
        features[STATE] = _vector(episode.states.shape[1], episode.state_names, "state")
    for name in sorted(episode.extra):
        array = episode.extra[name]
        shape = [int(n) for n in array.shape[1:]] or [1]
        features[feature_name(name)] = {"dtype": str(array.dtype), "shape": shape, "names": None}
    features[TERMINAL] = {"dtype": "bool", "shape": [1], "names": None}
    for name in STANDARD:
        features[name] = {"dtype": _STANDARD_TYPES.get(name, "int64"), "shape": [1], "names": None}
    return features


def camera_feature(size: tuple[int, int], rate: float, codec: str, pixels: str) -> dict[str, Any]:
    """info.json's entry of a camera."""
    height, width = size
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.codec": codec,
            "video.pix_fmt": pixels,
            "video.is_depth_map": False,
            "video.fps": frames_per_second(rate),
            "video.channels": 3,
            "has_audio": False,
        },
    }


def frames_per_second(rate: float) -> int | float:
    """A whole number where it is one: what LeRobot expects."""
    return round(rate) if abs(rate - round(rate)) < 1e-9 else rate


def hub_metadata(features: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The schema metadata by which Hugging Face `datasets` knows the columns' types."""
    types: dict[str, Any] = {}
    for key, feature in features.items():
        value: dict[str, Any] = {"dtype": feature["dtype"], "_type": "Value"}
        shape = list(feature["shape"])
        if len(shape) > 1:
            value = {"shape": shape, "dtype": feature["dtype"], "_type": f"Array{len(shape)}D"}
        elif shape != [1]:
            value = {"feature": value, "length": shape[0], "_type": "Sequence"}
        types[key] = value
    return json.dumps({"info": {"features": types}}).encode()


def exact_float32(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As float32, which is what the format holds for actions and states."""
    return np.asarray(values, np.float32)


def _vector(dimension: int, names: tuple[str, ...], word: str) -> dict[str, Any]:
    shown = list(names) if len(names) == dimension else [f"{word}_{i}" for i in range(dimension)]
    return {"dtype": "float32", "shape": [dimension], "names": shown}
