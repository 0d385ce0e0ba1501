"""Who sent actions: the stamps of each go on by themselves, whatever lies between them in the recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.audit.record import EpisodeRecord, Output, Stream
from vla_ros.data.demonstration import carried_out

ACTIONS = "actions"


@dataclass(frozen=True)
class Sender:
    """One who sent actions in an episode: a policy, a person's device."""

    stream: Stream
    """Its messages; called `actions`, where several sent some `actions of NAME`."""
    single: bool
    """Whether its outputs hold one action each."""
    pauses: NDArray[np.bool_]
    """(N,) whether the time before a message says nothing: one of the two was refused, or the other was in
    charge between them."""


def senders_of(record: EpisodeRecord) -> Mapping[str, Sender]:
    """The senders of an episode by the name of their streams."""
    stream = record.streams.get(ACTIONS)
    if stream is None:
        return {}
    outputs = record.outputs
    if len(outputs) != len(stream):
        raise ValueError(f"{len(stream)} actions were recorded, but {len(outputs)} outputs are known.")
    members: dict[tuple[int, str], list[int]] = {}
    for k, output in enumerate(outputs):
        members.setdefault((output.source, output.policy), []).append(k)
    if not members:
        return {ACTIONS: Sender(stream, True, np.zeros(0, np.bool_))}
    allowed = carried_out([output.given for output in outputs], record.changes, record.executed or None)
    stamps, recorded = stream.stamps, stream.recorded
    found: dict[str, Sender] = {}
    for (_, policy), own in members.items():
        name = ACTIONS if len(members) == 1 else f"{ACTIONS} of {policy or 'one without a name'}"
        while name in found:
            name += "'"
        part = Stream(name, stream.topic, stream.rate, stream.needed)
        for k in own:
            part.add(int(stamps[k]), int(recorded[k]))
        single = all(outputs[k].horizon == 1 for k in own)
        pauses = _pauses(record, [outputs[k] for k in own], [allowed[k] for k in own])
        found[name] = Sender(part, single, pauses)
    return found


def _pauses(record: EpisodeRecord, outputs: Sequence[Output], allowed: Sequence[bool]) -> NDArray[np.bool_]:
    times = np.array([change.since for change in record.changes], np.int64)
    left = np.array([output.published for output in outputs], np.int64)
    carried = np.array(allowed, np.bool_)
    said = (left[:, None] >= times[None, :]).sum(axis=1)
    pauses = np.zeros(len(outputs), np.bool_)
    pauses[1:] = (np.diff(said) != 0) | ~carried[1:] | ~carried[:-1]
    return pauses
