"""What one pass over a bag keeps of one episode: numbers, no pictures but a few small ones."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Contract
from vla_ros.data.audit.timing import Stamps
from vla_ros.data.demonstration import Change, Given
from vla_ros.types import Array

OUTCOMES = {1: "", 2: "success", 3: "failure", 4: "aborted", 5: "discarded"}
"""Of `EpisodeStatus`; empty: the recording ends before the episode does."""


@dataclass
class Stream:
    """Stamps of the messages of one topic within an episode, in the order they were recorded."""

    name: str
    """What people call it: `camera primary`, `joint states`."""
    topic: str
    rate: float
    """Nominal [Hz]; 0: none is known."""
    needed: bool = True
    """Whether steps are made of it."""
    _stamps: array[int] = field(default_factory=lambda: array("q"))
    _recorded: array[int] = field(default_factory=lambda: array("q"))

    def add(self, stamp: int, recorded: int) -> None:
        """One message: its header's stamp and when it was recorded [ns]."""
        self._stamps.append(stamp)
        self._recorded.append(recorded)

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._stamps)

    @property
    def stamps(self) -> Stamps:
        """Of the headers."""
        return np.array(self._stamps, np.int64)

    @property
    def recorded(self) -> Stamps:
        """When each was recorded."""
        return np.array(self._recorded, np.int64)


class Thumbnail(NamedTuple):
    """A small picture."""

    stamp: int
    jpeg: bytes


@dataclass
class CameraRecord:
    """What is kept of one camera's frames."""

    stream: Stream
    equal: array[int] = field(default_factory=lambda: array("b"))
    """1 where a frame is equal to the one before, one entry a frame."""
    looked: array[int] = field(default_factory=lambda: array("q"))
    """Stamps of the frames that were decoded [ns]."""
    black: array[int] = field(default_factory=lambda: array("b"))
    """1 where a decoded frame is black."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(width, height) of the decoded frames."""
    undecodable: int = 0
    trouble: str = ""
    """Why the first of them could not be decoded."""
    thumbnails: list[Thumbnail] = field(default_factory=list)


class Output(NamedTuple):
    """One policy output."""

    stamp: int
    published: int
    source: int
    values: Array
    """(horizon, dimension) as sent; (0, 0) for tokens and for errors."""
    tokens: int
    """Number of tokens."""
    space: str
    key: str
    horizon: int
    dimension: int
    error: str
    sequence: int = 0
    policy: str = ""
    """Who made it, by name: a policy or a person's device."""

    @property
    def given(self) -> Given:
        """What steps are made by."""
        return Given(self.stamp, self.published, self.horizon, self.sequence, self.source)


class Paired(NamedTuple):
    """One observation: stamps [ns] of what was put together."""

    stamp: int
    frames: tuple[tuple[str, int], ...]
    joints: int
    width: float
    finite: bool


class Noted(NamedTuple):
    """One intervention of the safety controller, when it was reported [ns]."""

    stamp: int
    action: int
    reason: str
    subject: str


@dataclass
class EpisodeRecord:
    """One episode as recorded.  Times in ns; `start` and `stop` by recording time."""

    episode_id: str
    contract: Contract | None
    imported: bool
    """Written from a data set (`/episode/...` topics): no controller, no pairing."""
    start: int
    stop: int = 0
    task: str = ""
    outcome: str = ""
    instructions: list[str] = field(default_factory=list)
    """In the order they were given, each change once."""
    streams: dict[str, Stream] = field(default_factory=dict)
    """By name."""
    cameras: dict[str, CameraRecord] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """Who was in charge since when, as far as the recording says."""
    executed: set[tuple[int, int, int]] = field(default_factory=set)
    """(sequence, source, stamp) of the outputs that the chunker made a chunk of; empty: none was recorded."""
    observations: list[Paired] = field(default_factory=list)
    state_stamps: array[int] = field(default_factory=lambda: array("q"))
    states: array[int] = field(default_factory=lambda: array("b"))
    """Of the safety controller at each setpoint (or status, where no setpoints are)."""
    interventions: list[Noted] = field(default_factory=list)
    joint_stamps: array[int] = field(default_factory=lambda: array("q"))
    joint_positions: list[Array] = field(default_factory=list)
    """At most 100 a second."""
    joint_names: tuple[str, ...] = ()
    joints_not_finite: int = 0
    wrong_joints: Counter[str] = field(default_factory=Counter)
    """Sentences on joint states that lack joints."""
    simulated: bool = False

    @property
    def seconds(self) -> float:
        """Length by recording time [s]."""
        return (self.stop - self.start) * 1e-9

    @property
    def offset(self) -> int:
        """Stamps less recording times [ns], the median over the observations or actions; 0 when alike."""
        for name in ("observations", "actions"):
            stream = self.streams.get(name)
            if stream is not None and len(stream):
                apart = int(np.median(stream.stamps - stream.recorded))
                # Delays of transport are no offset; only clocks that were never the same are.
                return apart if abs(apart) > 5_000_000_000 else 0
        return 0

    def joints(self) -> tuple[Stamps, Array]:
        """Stamps (N,) and positions (N, n) of the joints (imported: of the state)."""
        if not self.joint_positions:
            return np.zeros(0, np.int64), np.zeros((0, 0))
        return np.array(self.joint_stamps, np.int64), np.stack(self.joint_positions)

    def controller(self) -> tuple[Stamps, NDArray[np.int64]]:
        """Stamps and states of the safety controller."""
        return np.array(self.state_stamps, np.int64), np.array(self.states, np.int64)
