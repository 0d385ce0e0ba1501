"""The weights of a checkpoint's folder: one safetensors file, or shards with an index."""

from __future__ import annotations

import json
from pathlib import Path

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.safetensors_file import Entry, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_table(folder: Path) -> dict[str, Entry]:
    """Every tensor of the checkpoint, by name; no weights are read.

    Raises `PolicyError` when there are none, a shard is missing or malformed, or index and shards disagree.
    """
    index = folder / INDEX
    if not index.is_file():
        single = folder / SINGLE
        if not single.is_file():
            raise PolicyError(f"{folder} has no weights: neither {SINGLE} nor {INDEX} is there.")
        return read_header(single)
    places = _read_index(index)
    table: dict[str, Entry] = {}
    for shard in sorted(set(places.values())):
        path = folder / shard
        if not path.is_file():
            raise PolicyError(f"{index} names the shard {shard}, which is missing.")
        for name, entry in read_header(path).items():
            if places.get(name) != shard:
                told = f"places it in {places[name]}" if name in places else "does not name it"
                raise PolicyError(f"{path} holds the tensor '{name:.80}', but {index} {told}.")
            table[name] = entry
    for name, shard in places.items():
        if name not in table:
            raise PolicyError(f"{index} places the tensor '{name:.80}' in {shard}, but it is not there.")
    return table


def _read_index(path: Path) -> dict[str, str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is no JSON: {error}.") from error
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not places:
        raise PolicyError(f"{path} has no weight_map.")
    for shard in places.values():
        # a plain name: no path that leads out of the folder
        plain = isinstance(shard, str) and shard.endswith(".safetensors") and Path(shard).name == shard
        if not plain or "\0" in shard:
            raise PolicyError(f"{path} names the shard {shard!r:.60}, but a shard is a file beside it.")
    return places
