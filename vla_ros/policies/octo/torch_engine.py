"""Octo's networks in torch, on a CPU or a GPU."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from collections.abc import Sequence as Window
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.errors import PolicyError
from vla_ros.policies.octo.checkpoint import Arrays, octo_from_arrays
from vla_ros.policies.octo.config import OctoConfig
from vla_ros.policies.octo.engine import Floats, Tokens
from vla_ros.policies.octo.graph import CapturedActor
from vla_ros.policies.octo.model import Octo, Sequence
from vla_ros.types import Image


class TorchEngine:
    """See `vla_ros.policies.octo.engine.Engine`.  On a GPU all that follows the stems is one graph."""

    def __init__(
        self, model: Octo, cameras: tuple[str, ...], window: int, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """`cameras` that will be there; `device` auto, cpu or cuda; `precision` fp32 or, on a GPU, bf16.

        Raises `PolicyError` when there is no such device or it lacks the precision.
        """
        self.device = torch.device(_device(device))
        if precision not in ("fp32", "bf16"):
            raise PolicyError(f"Octo in torch runs in fp32 or bf16, but precision is '{precision}'.")
        if precision == "bf16" and self.device.type != "cuda":
            raise PolicyError("Octo runs in bf16 on a GPU only, but the device is the CPU: take fp32.")
        self._half = precision == "bf16"
        self.embedding: Tensor | None = None
        """Of the last answer on a CPU, (1, width): what the head read."""
        try:
            model.fold()
            self.model = model.to(self.device)
            self._sequence = Sequence(self.model, cameras, window).to(self.device)
        except torch.cuda.OutOfMemoryError:
            raise PolicyError(f"Octo does not fit into the memory of {self.device}.") from None
        self._captured: CapturedActor | None = None

    @classmethod
    def of_checkpoint(cls, arrays: Arrays, config: OctoConfig, source: str, **options: Any) -> TorchEngine:
        """The engine for a checkpoint's arrays.  Raises `PolicyError`."""
        return cls(octo_from_arrays(arrays, config, source), **options)

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of each camera's image: square, by the number of its tokens."""
        sides = {
            one.name: one.stem.patch * math.isqrt(self.model.tokens[one.name])
            for one in self.model.config.images
        }
        return {name: (side, side) for name, side in sides.items()}

    def instruction(self, ids: NDArray[np.int64], mask: NDArray[np.int64], shown: bool) -> Tokens:
        """See `Engine`."""
        with torch.inference_mode():
            if self.model.language is None:
                tokens = torch.zeros(1, 0, self.model.config.width, device=self.device)
            else:
                # once an instruction: always in full precision
                tokens = self.model.language(self._put(ids), self._put(mask))
            return tokens, torch.tensor([shown], device=self.device)

    def frame(self, camera: str, image: Image, goal: Image | None) -> Tokens:
        """See `Engine`."""
        with torch.inference_mode(), self._precision():
            goals = None if goal is None else self._put(goal)[None]
            return self.model.frame_tokens(camera, self._put(image)[None], goals).float()[0]

    def act(
        self,
        instruction: Tokens,
        frames: Mapping[str, Window[Tokens]],
        masks: Mapping[str, NDArray[np.bool_]],
        noise: Floats,
        step_noise: Floats,
        kept: NDArray[np.bool_],
        guidance: tuple[Floats, Floats] | None,
        spent: dict[str, float],
    ) -> Floats:
        """See `Engine`."""
        begun = time.perf_counter()
        names = self._sequence.names
        with torch.inference_mode():
            inputs = (
                *instruction,
                [torch.stack(list(frames[name]))[None] for name in names],
                [self._put(masks[name])[None] for name in names],
            )
            given = (self._put(noise)[None], self._put(step_noise)[:, None], self._put(kept))
            guided = None if guidance is None else tuple(self._put(part)[None] for part in guidance)
            if self.device.type == "cuda":
                actions = self._on_gpu(inputs, given, guided)
                found = actions.cpu()
                spent["prefill"] = time.perf_counter() - begun
            else:
                self.embedding = embedding = self._sequence(*inputs)
                middle = time.perf_counter()
                spent["prefill"] = middle - begun
                found = self.model.head.sample(embedding, *given, *(guided or (None, None)))
                spent["denoise"] = time.perf_counter() - middle
        head = self.model.config.head
        return np.asarray(found.float().numpy().reshape(head.horizon, head.dimension), dtype=np.float32)

    def _on_gpu(self, inputs: Any, given: Any, guided: Any) -> Tensor:
        if self._captured is None:
            self._captured = CapturedActor(self._sequence, self.model.head, inputs, self._half)
        return self._captured(inputs, given, guided)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self._half else nullcontext()

    def _put(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise PolicyError(f"The device is '{name}', but must be auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("The device is 'cuda', but torch finds no GPU on this machine: take cpu or auto.")
    return name
