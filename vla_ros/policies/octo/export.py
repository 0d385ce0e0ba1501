"""Exports an Octo model to ONNX, for `runtime: onnx`: no torch is needed where it then runs."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.errors import PolicyError
from vla_ros.policies.checkpoints.source import checkpoint_folder
from vla_ros.policies.octo import files
from vla_ros.policies.octo.checkpoint import octo_from_arrays
from vla_ros.policies.octo.config import read_config
from vla_ros.policies.octo.language import FILES
from vla_ros.policies.octo.model import Octo, Sequence
from vla_ros.policies.octo.onnx_folder import FOLDER, Description
from vla_ros.policies.octo.quantize import quantize

OPSET = 20
"""The first with a GELU of its own."""


def export_octo(
    checkpoint: str,
    out_folder: str | Path,
    precision: str = "fp32",
    *,
    cameras: tuple[str, ...] = ("primary",),
    window: int = 0,
    step: int = 0,
    revision: str = "",
) -> Path:
    """Write the exported form of a checkpoint into a folder (see `onnx_folder`) and return the folder.

    Args:
        checkpoint: folder or hub name.
        out_folder: is made; files of an earlier export in it are overwritten.
        precision: fp32, or int8 for the transformer's matrix products (see `quantize`).
        cameras: groups of image tokens that will be shown, `primary` and `wrist` in the published models.
        window: frames at once; 0: as in training.
        step: training step whose weights are taken; 0: the last.
        revision: of the hub's repository.

    Raises:
        PolicyError: the checkpoint cannot be read or an option is none of those.
    """
    _check(precision)
    folder = checkpoint_folder(checkpoint, files.needed_files(step), revision)
    config = read_config(folder / files.CONFIG)
    arrays, source = files.read_weights(folder, step)
    model = octo_from_arrays(arrays, config, source)
    out = Path(out_folder)
    export_model(model, out, precision, cameras, window or config.window)
    for name in (files.CONFIG, files.STATISTICS, *FILES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    return out


def export_model(
    model: Octo, out: Path, precision: str, cameras: tuple[str, ...], window: int, language: bool = True
) -> None:
    """The graphs and their description, of a model that is then folded.

    Not `language`: the instruction's encoder is left out, for measuring the rest.  Raises `PolicyError`.
    """
    _check(precision)
    known = [one.name for one in model.config.images]
    unknown = [name for name in cameras if name not in known]
    if unknown or not cameras:
        raise PolicyError(f"The cameras to export are {list(cameras)}, but the model has {', '.join(known)}.")
    model.float().fold()
    folder = out / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PolicyError(f"{folder} cannot be made: {error.strerror}.") from error
    sizes = {name: _size(model, name) for name in cameras}
    if model.language is not None and language:
        tokens = torch.zeros(1, model.config.instruction_tokens, dtype=torch.int64)
        _write(model.language, (tokens, tokens), folder / "language.onnx", ["ids", "mask"], "tokens")
    for name, size in sizes.items():
        image = torch.zeros(1, *size, 3, dtype=torch.uint8)
        _write(
            _Frame(model, name), (image, image), folder / f"frame_{name}.onnx", ["image", "goal"], "tokens"
        )
    _observe(model, cameras, window, folder / "observe.onnx")
    _denoise(model, folder)
    if precision == "int8":
        quantize(folder / "observe.onnx")
    Description(precision, window, sizes, model.language is not None).write(out)


def _check(precision: str) -> None:
    if precision not in ("fp32", "int8"):
        raise PolicyError(f"Octo is exported in fp32 or int8, but precision is '{precision}'.")


def _size(model: Octo, name: str) -> tuple[int, int]:
    stem = next(one.stem for one in model.config.images if one.name == name)
    side = stem.patch * round(model.tokens[name] ** 0.5)
    return side, side


def _observe(model: Octo, cameras: tuple[str, ...], window: int, path: Path) -> None:
    sequence = Sequence(model, cameras, window)
    config = model.config
    task = torch.zeros(1, config.instruction_tokens if config.language else 0, config.width)
    shown = torch.ones(1, dtype=torch.bool)
    frames = [torch.zeros(1, window, model.tokens[name], config.width) for name in sequence.names]
    masks = [torch.ones(1, window, dtype=torch.bool) for _ in sequence.names]
    names = [
        "task",
        "shown",
        *(f"frames_{name}" for name in sequence.names),
        *(f"mask_{name}" for name in sequence.names),
    ]
    _write(_Flat(sequence), (task, shown, *frames, *masks), path, names, "embedding")


def _denoise(model: Octo, folder: Path) -> None:
    config = model.config.head
    flat = config.horizon * config.dimension
    names = ["embedding", "noise", "step_noise", "kept"]
    inputs = (
        torch.zeros(1, model.config.width),
        torch.zeros(1, flat),
        torch.zeros(config.steps, 1, flat),
        torch.ones(flat, dtype=torch.bool),
    )
    _write(_Sampler(model), inputs, folder / "denoise.onnx", names, "actions")
    guided = (torch.zeros(1, flat), torch.zeros(1, flat))
    names = [*names, "target", "weight"]
    _write(_Sampler(model), (*inputs, *guided), folder / "guided.onnx", names, "actions")


class _Frame(nn.Module):
    def __init__(self, model: Octo, name: str) -> None:
        super().__init__()
        self.camera = model.cameras[name]
        self.goal = model.takes_goal(name)

    def forward(self, image: Tensor, goal: Tensor) -> Tensor:
        if self.goal:
            image = torch.cat([image, goal], dim=-1)
        tokens: Tensor = self.camera(image)
        return tokens


class _Flat(nn.Module):
    """`Sequence` without lists among its inputs."""

    def __init__(self, sequence: Sequence) -> None:
        super().__init__()
        self.sequence = sequence

    def forward(self, task: Tensor, shown: Tensor, *rest: Tensor) -> Tensor:
        count = len(self.sequence.names)
        embedding: Tensor = self.sequence(task, shown, list(rest[:count]), list(rest[count:]))
        return embedding


class _Sampler(nn.Module):
    def __init__(self, model: Octo) -> None:
        super().__init__()
        self.head = model.head

    def forward(self, *inputs: Tensor) -> Tensor:
        actions: Tensor = self.head.sample(*inputs)
        return actions


def _write(module: nn.Module, inputs: tuple[Any, ...], path: Path, names: list[str], output: str) -> None:
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # shapes are fixed on purpose, and the exporter that needs no further package is called old
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                str(path),
                input_names=names,
                output_names=[output],
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, OSError) as error:
        raise PolicyError(f"{path} cannot be exported: {error}.") from error
