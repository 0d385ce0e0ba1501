"""Weights of a checkpoint's folder: one safetensors file or shards with an index, and how they are loaded.

Tensors go one by one from the file to their place in the module: never are there two copies of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.safetensors_file import Entry, read_bytes, read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHOWN = 3
"""Names that a message lists."""


class Shards:
    """Tensors by name; the file is read when one is asked for."""

    def __init__(self, table: Mapping[str, Entry]) -> None:
        self._table = dict(table)

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """The tables of a folder's files; no weights are read.

        Raises `PolicyError` when there are none, a shard is missing or malformed, or index and shards
        disagree.
        """
        return cls(read_table(folder))

    @classmethod
    def of_file(cls, path: Path) -> Shards:
        """The same for one file.  Raises `PolicyError`."""
        return cls(read_header(path))

    def names(self) -> list[str]:
        """All tensors there are."""
        return list(self._table)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor."""
        return self._table[name].shape

    def dtype(self, name: str) -> str:
        """As the format calls it, e.g. BF16."""
        return self._table[name].dtype

    def tensor(self, name: str, scratch: Tensor | None = None) -> Tensor:
        """A tensor in memory of its own, or at the beginning of `scratch` (bytes, enough of them).

        Raises `PolicyError` when the file ends before it does.
        """
        import torch

        entry = self._table[name]
        raw = torch.empty(entry.size, dtype=torch.uint8) if scratch is None else scratch[: entry.size]
        if entry.size:
            read_bytes(entry, memoryview(raw.numpy()))  # type: ignore[arg-type]
        return raw.view(_torch_dtype(entry.dtype)).view(entry.shape)

    def scratch(self, names: Iterable[str]) -> Tensor:
        """Room for the largest of some tensors."""
        import torch

        return torch.empty(max((self._table[name].size for name in names), default=0), dtype=torch.uint8)


def load_into(
    module: nn.Module,
    shards: Shards | Mapping[str, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    rename: Callable[[str], str | None] | None = None,
    ignore: Callable[[str], bool] | None = None,
    source: str = "",
) -> None:
    """Give every parameter and buffer of a module its tensor, one at a time.

    Args:
        module: made on the meta device; its places are replaced, without gradients.
        shards: tensors by the checkpoint's names.
        device: where they go.
        dtype: floating tensors are cast to; others stay.
        rename: the module's name for a checkpoint's; None as result: the tensor is not wanted.
        ignore: checkpoint's names that the module need not have.
        source: named in messages.

    Raises `PolicyError` for tensors that are missing, unknown or of another shape, before any is read, and
    for a file that ends too early.
    """
    names = shards.names() if isinstance(shards, Shards) else list(shards)
    wanted: dict[str, str] = {}
    for name in names:
        if ignore is not None and ignore(name):
            continue
        own = name if rename is None else rename(name)
        if own is not None:
            wanted[own] = name
    places = {
        name: tuple(value.shape)
        for name, value in (*module.named_parameters(), *_kept_buffers(module))
    }  # fmt: skip
    _compare(places, wanted, source)
    for own, name in wanted.items():
        shape = shards.shape(name) if isinstance(shards, Shards) else tuple(shards[name].shape)
        if shape != places[own]:
            raise PolicyError(f"{source}: tensor '{name}' has shape {shape}, but {places[own]} is needed.")
    # one room for all tensors on their way: many of changing size would leave holes in memory
    scratch = shards.scratch(wanted.values()) if isinstance(shards, Shards) else None
    for own, name in wanted.items():
        tensor = shards.tensor(name, scratch) if isinstance(shards, Shards) else shards[name]
        put(module, own, tensor, device, dtype)


def put(module: nn.Module, name: str, tensor: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    """Replace the parameter or buffer `name` of a module by a copy; floating tensors are cast."""
    import torch
    from torch import nn

    kept = dtype if tensor.is_floating_point() else tensor.dtype
    value = torch.empty(tensor.shape, dtype=kept, device=device)
    value.copy_(tensor)
    parent, _, leaf = name.rpartition(".")
    owner = module.get_submodule(parent)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        owner._buffers[leaf] = value


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


def _compare(places: Iterable[str], wanted: Mapping[str, str], source: str) -> None:
    there = set(places)
    for what, names in (
        ("lacks", sorted(there - set(wanted))),
        ("has too many", sorted(wanted[name] for name in set(wanted) - there)),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise PolicyError(f"{source} {what} tensors: {', '.join(names[:SHOWN])}{more}.")


def _kept_buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that belong to a checkpoint."""
    kept = module.state_dict(keep_vars=True)
    return [(name, value) for name, value in module.named_buffers() if name in kept]


def _torch_dtype(name: str) -> Any:
    import torch

    return {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
        "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    }[name]  # fmt: skip
