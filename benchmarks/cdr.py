"""The few fields of a serialised Observation that a measurement needs, read without copying its images.

Little-endian plain CDR (OMG DDS-XTypes 1.3, 7.4.1): four bytes of encapsulation, then every primitive aligned
to its own size, counted from after them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vla_ros.types import NANOSECONDS

_ENCAPSULATION = 4


@dataclass(frozen=True)
class ObservationStamps:
    """Stamps [ns] and sequence of one `/vla/observation`."""

    stamp: int
    sequence: int
    cameras: dict[str, int]
    """Stamp of the frame of each camera."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, _ENCAPSULATION

    def number(self, kind: str, size: int) -> int:
        self._at += -(self._at - _ENCAPSULATION) % size
        (value,) = struct.unpack_from("<" + kind, self._data, self._at)
        self._at += size
        return int(value)

    def count(self) -> int:
        return self.number("I", 4)

    def skip(self, size: int) -> None:
        self._at += size

    def text(self) -> str:
        length = self.count()
        raw = self._data[self._at : self._at + length - 1]
        self._at += length
        return raw.decode()

    def header(self) -> int:
        seconds, nanoseconds = self.number("i", 4), self.count()
        self.text()
        return seconds * NANOSECONDS + nanoseconds


def observation_stamps(data: bytes) -> ObservationStamps:
    """What the raw bytes of a `vla_ros/msg/Observation` say of time."""
    reader = _Reader(data)
    stamp, sequence = reader.header(), reader.number("Q", 8)
    names = [reader.text() for _ in range(reader.count())]
    stamps = []
    for _ in range(reader.count()):
        stamps.append(reader.header())
        reader.count()  # height
        reader.count()  # width
        reader.text()  # encoding
        reader.skip(1)  # is_bigendian
        reader.count()  # step
        reader.skip(reader.count())
    return ObservationStamps(stamp, sequence, dict(zip(names, stamps, strict=True)))
