"""A digest of what a policy learns from: the same in whatever format the data lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from vla_ros.data.dataset import Dataset
from vla_ros.data.episode import Episode


def episode_digest(episode: Episode) -> str:
    """SHA-256 of actions and states (as float32) and instructions, step by step; not of images."""
    digest = hashlib.sha256()
    for values in (episode.actions, episode.states):
        array = np.ascontiguousarray(np.asarray(values), "<f4")
        digest.update(f"{list(array.shape)}".encode())
        digest.update(array.tobytes())
    for text in episode.instructions:
        data = text.encode("utf-8")
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def joined_digest(digests: Iterable[str]) -> str:
    """Digest of a data set from its episodes', in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def data_hash(dataset: Dataset) -> str:
    """Digest of a data set.  Raises `DataError` when an episode cannot be read."""
    return joined_digest(episode_digest(episode) for episode in dataset)
