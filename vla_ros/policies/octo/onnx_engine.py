"""Octo's networks in ONNX Runtime: needs numpy and onnxruntime, no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import PolicyError
from vla_ros.policies.octo.config import OctoConfig
from vla_ros.policies.octo.engine import Floats, Tokens
from vla_ros.policies.octo.onnx_folder import FOLDER, read_description
from vla_ros.types import Image

_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""What a device means to ONNX Runtime; what the first cannot do, the next does."""


class OnnxEngine:
    """See `vla_ros.policies.octo.engine.Engine`."""

    def __init__(
        self,
        folder: Path,
        config: OctoConfig,
        cameras: tuple[str, ...],
        window: int,
        device: str = "auto",
        precision: str = "",
        threads: int = 0,
    ) -> None:
        """An exported folder (see `onnx_folder`); `device` auto, cpu, cuda or tensorrt.

        `precision`, when given, must be that of the export.  `threads` 0: OMP_NUM_THREADS, else all cores.
        Raises `PolicyError` when the folder was exported for something else or a provider is missing.
        """
        runtime = _runtime()
        self._folder, self._config = folder, config
        self._providers = _providers(device, runtime.get_available_providers())
        found = read_description(folder)
        if (precision or found.precision) != found.precision:
            raise PolicyError(f"{folder} was exported in {found.precision}, but {precision} is asked for.")
        if window != found.window or set(cameras) != set(found.cameras):
            raise PolicyError(
                f"{folder} was exported for {found.window} frames of {', '.join(found.cameras)}, but "
                f"{window} of {', '.join(cameras)} are asked for: export it again."
            )
        self.sizes: Mapping[str, tuple[int, int]] = found.cameras
        self._options = runtime.SessionOptions()
        # its own threads know nothing of this variable, by which a process is told its share of the cores
        told = os.environ.get("OMP_NUM_THREADS", "")
        self._options.intra_op_num_threads = threads or (int(told) if told.isdecimal() else 0)
        # threads that spin would compete with the control loop
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.log_severity_level = 3
        self._language = self._session("language") if found.language else None
        self._frames = {name: self._session(f"frame_{name}") for name in found.cameras}
        self._observe = self._session("observe")
        self._denoise, self._guided = self._session("denoise"), self._session("guided")
        self.embedding: Floats | None = None
        """Of the last answer, (1, width): what the head read."""
        self._names = [one.name for one in config.images if one.name in found.cameras]

    def instruction(self, ids: NDArray[np.int64], mask: NDArray[np.int64], shown: bool) -> Tokens:
        """See `Engine`."""
        if self._language is None:
            return np.zeros((1, 0, self._config.width), np.float32), np.array([shown])
        return self._run(self._language, {"ids": ids, "mask": mask}), np.array([shown])

    def frame(self, camera: str, image: Image, goal: Image | None) -> Tokens:
        """See `Engine`."""
        goals = np.zeros_like(image) if goal is None else goal
        return self._run(self._frames[camera], {"image": image[None], "goal": goals[None]})[0]

    def act(
        self,
        instruction: Tokens,
        frames: Mapping[str, Sequence[Tokens]],
        masks: Mapping[str, NDArray[np.bool_]],
        noise: Floats,
        step_noise: Floats,
        kept: NDArray[np.bool_],
        guidance: tuple[Floats, Floats] | None,
        spent: dict[str, float],
    ) -> Floats:
        """See `Engine`."""
        begun = time.perf_counter()
        given = {"task": instruction[0], "shown": instruction[1]}
        for name in self._names:
            given[f"frames_{name}"] = np.stack(list(frames[name]))[None]
            given[f"mask_{name}"] = masks[name][None]
        self.embedding = embedding = self._run(self._observe, given)
        middle = time.perf_counter()
        spent["prefill"] = middle - begun
        given = {
            "embedding": embedding,
            "noise": noise[None],
            "step_noise": step_noise[:, None],
            "kept": kept,
        }
        session = self._denoise
        if guidance is not None:
            session = self._guided
            given.update(target=guidance[0][None], weight=guidance[1][None])
        actions = self._run(session, given)
        spent["denoise"] = time.perf_counter() - middle
        return actions.reshape(self._config.head.horizon, self._config.head.dimension)

    def _session(self, name: str) -> Any:
        path = self._folder / FOLDER / f"{name}.onnx"
        if not path.is_file():
            raise PolicyError(f"{path} is missing: export the checkpoint again.")
        try:
            return _runtime().InferenceSession(
                str(path), sess_options=self._options, providers=list(self._providers)
            )
        except Exception as error:  # the library's own exceptions have no common base
            raise PolicyError(f"{path} cannot be loaded by ONNX Runtime: {_first_line(error)}.") from error

    @staticmethod
    def _run(session: Any, given: Mapping[str, Any]) -> Floats:
        wanted = {one.name for one in session.get_inputs()}
        try:
            # what does not matter for the answer is no input of the graph
            (answer,) = session.run(None, {name: one for name, one in given.items() if name in wanted})
        except Exception as error:  # as above
            raise PolicyError(f"ONNX Runtime failed: {_first_line(error)}.") from error
        found: Floats = answer
        return found


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise PolicyError("Octo with runtime 'onnx' needs the package onnxruntime.") from None
    return onnxruntime


def _providers(device: str, available: Sequence[str]) -> tuple[str, ...]:
    if device == "auto":
        device = next((one for one in ("cuda",) if _PROVIDERS[one][0] in available), "cpu")
    if device not in _PROVIDERS:
        raise PolicyError(f"The device is '{device}', but must be auto, {', '.join(_PROVIDERS)}.")
    if _PROVIDERS[device][0] not in available:
        there = [one for one, wanted in _PROVIDERS.items() if wanted[0] in available]
        raise PolicyError(
            f"The device is '{device}', but this onnxruntime has no {_PROVIDERS[device][0]}, "
            f"only what {', '.join(there) or 'nothing'} needs."
        )
    return tuple(one for one in _PROVIDERS[device] if one in available)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
