"""Images handed over in anonymous shared memory: a file without a name, known to two processes only."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.types import CameraImage, Image

SMALLEST = 1 << 20
"""Bytes of the memory at first; it doubles as often as images need."""


class FrameWriter:
    """The node's end.  One request is under way at a time, so one place is enough."""

    def __init__(self) -> None:
        """Memory that disappears with the last process that holds it."""
        self.descriptor = os.memfd_create("vla_ros_images")
        self._size = 0
        self._memory: mmap.mmap | None = None

    def write(self, images: Mapping[str, CameraImage]) -> dict[str, Any]:
        """Put the images, (height, width, 3) uint8, one behind the other; where they lie, as a map.

        Raises `PolicyError` for anything else.
        """
        rows, end = [], 0
        for name, image in images.items():
            rgb = image.rgb
            if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
                raise PolicyError(
                    f"Camera '{name}' has a frame of {rgb.dtype} {rgb.shape}, but needs uint8 (h, w, 3)."
                )
            rows.append([name, image.stamp, end, rgb.shape[0], rgb.shape[1]])
            end += rgb.size
        if self.descriptor < 0:
            raise PolicyError("The memory for images has been given back.")
        memory = self._room(end)
        for image, (_, _, start, height, width) in zip(images.values(), rows, strict=True):
            # numpy copies without holding the interpreter's lock
            np.copyto(_view(memory, start, height, width), image.rgb)
        return {"size": self._size, "rows": rows}

    def close(self) -> None:
        """Give the memory back."""
        self._memory = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _room(self, size: int) -> mmap.mmap:
        if self._memory is None or size > self._size:
            wanted = max(self._size, SMALLEST)
            while wanted < size:
                wanted *= 2
            os.ftruncate(self.descriptor, wanted)
            self._memory, self._size = mmap.mmap(self.descriptor, wanted), wanted
        return self._memory


class FrameReader:
    """The model's end."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` was inherited."""
        self._descriptor = descriptor
        self._size = 0
        self._memory: mmap.mmap | None = None

    def read(self, where: Mapping[str, Any]) -> dict[str, CameraImage]:
        """Copies of the images: a policy may keep them, and the next ones overwrite the memory."""
        size = int(where["size"])
        if self._memory is None or size != self._size:
            self._memory, self._size = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ), size
        memory = self._memory
        return {
            name: CameraImage(stamp, _view(memory, start, height, width).copy())
            for name, stamp, start, height, width in where["rows"]
        }


def _view(memory: mmap.mmap, start: int, height: int, width: int) -> Image:
    flat = np.frombuffer(memory, np.uint8, height * width * 3, start)
    return flat.reshape(height, width, 3)
