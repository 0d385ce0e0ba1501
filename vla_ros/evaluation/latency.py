"""Rates of the topics and latency of every hop, from the stamps in the bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_ros.evaluation.run_data import Passage, RunData, Stamps
from vla_ros.execution.pace import FOLLOWING, SLOW, share_of_pace, slow_sentence
from vla_ros.types import Array, Source


@dataclass(frozen=True)
class Hop:
    """Latencies of one hop [s]; empty when one of its ends was not recorded."""

    name: str
    seconds: Array

    def percentile(self, share: float) -> float:
        """Percentile [s]; NaN when there is nothing."""
        return float(np.percentile(self.seconds, share)) if len(self.seconds) else float("nan")


@dataclass(frozen=True)
class Rate:
    """How often a topic was published."""

    topic: str
    count: int
    rate: float
    """Mean rate [Hz]; NaN for fewer than two messages."""
    largest_gap: float
    """Longest time between two messages [s]."""


def hops(run: RunData) -> list[Hop]:
    """The way of an observation to the first command that follows from it.

    Messages are matched by the observation's stamp, which all of them carry; a message's time is when its
    publisher sent it.
    """
    observations, outputs, chunks = _first(run.observations), _first(run.outputs), _first(run.chunks)
    commands = dict(_first_commands(run))
    return [
        _hop("camera stamp to Observation", {stamp: stamp for stamp in observations}, observations),
        _hop("Observation to PolicyOutput", observations, outputs),
        _hop("PolicyOutput to ActionChunk", outputs, chunks),
        _hop("ActionChunk to first command", chunks, commands),
        _hop("camera stamp to first command", {stamp: stamp for stamp in commands}, commands),
    ]


@dataclass(frozen=True)
class Pace:
    """How fast a policy's steps could be executed in a run; medians over the answers that made chunks."""

    horizon: int
    """Steps of an answer."""
    period: float
    """Seconds from step to step."""
    age: float
    """Seconds from the observation to the chunk."""
    interval: float
    """Seconds from one answer to the next."""

    @property
    def share(self) -> float:
        """Share (0, 1] of the policy's own pace that was left to the robot."""
        return share_of_pace(self.horizon, self.period, self.age, self.interval)

    def sentence(self) -> str:
        """What it cost that the policy was too slow for its action rate; empty when it was not."""
        if self.share >= SLOW:
            return ""
        cost = slow_sentence(self.horizon, self.period, self.age, self.interval, self.share)
        return f"{cost[0].upper()}{cost[1:]}."


def pace(run: RunData) -> Pace | None:
    """The pace of a run's policy; None where fewer than two of its answers followed each other."""
    shapes = run.chunk_shapes
    policy = shapes.sources == Source.POLICY
    sent = np.sort(run.chunks.sent[policy]) * 1e-9
    gaps = np.diff(sent)
    gaps = gaps[(gaps > 0.0) & (gaps <= FOLLOWING)]
    if len(gaps) == 0:
        return None
    ages = (run.chunks.sent[policy] - run.chunks.stamps[policy]) * 1e-9
    return Pace(
        int(np.median(shapes.horizons[policy])),
        float(np.median(shapes.periods[policy])),
        float(np.median(ages)),
        float(np.median(gaps)),
    )


def rates(run: RunData) -> list[Rate]:
    """Every topic of the bag, by name."""
    return [_rate(topic, stamps) for topic, stamps in sorted(run.arrivals.items())]


def _first(passage: Passage) -> dict[int, int]:
    """Time sent by observation stamp, of the first message that carries it."""
    sent: dict[int, int] = {}
    for stamp, time in zip(passage.stamps.tolist(), passage.sent.tolist(), strict=True):
        sent.setdefault(stamp, time)
    return sent


def _first_commands(run: RunData) -> Iterator[tuple[int, int]]:
    """(observation stamp, time sent) of the first setpoint of each chunk."""
    stamp_of_chunk = dict(zip(run.chunks.sequences.tolist(), run.chunks.stamps.tolist(), strict=True))
    points = run.setpoints
    if len(points) == 0:
        return
    changes = np.flatnonzero(np.diff(points.chunk_sequences, prepend=points.chunk_sequences[0] - 1))
    for k in changes[1:]:
        stamp = stamp_of_chunk.get(int(points.chunk_sequences[k]))
        if stamp is not None:
            yield stamp, int(points.sent[k])


def _hop(name: str, before: dict[int, int], after: dict[int, int]) -> Hop:
    return Hop(name, np.array([after[stamp] - before[stamp] for stamp in after if stamp in before]) * 1e-9)


def _rate(topic: str, stamps: Stamps) -> Rate:
    gaps = np.diff(np.sort(stamps)) * 1e-9
    if len(gaps) == 0 or gaps.sum() <= 0.0:
        return Rate(topic, len(stamps), float("nan"), float("nan"))
    return Rate(topic, len(stamps), len(gaps) / float(gaps.sum()), float(gaps.max()))
