"""What the checks look at: the record of an episode and what is computed from it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import ActionSpace, get_action_space
from vla_ros.data.audit.idle import Idle, asks_nothing, idle_stretches
from vla_ros.data.audit.record import EpisodeRecord, Output, Stream
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.audit.scan import episode_period
from vla_ros.data.audit.senders import ACTIONS, Sender, senders_of
from vla_ros.data.audit.steps import Steps, clip_range, steps_of
from vla_ros.data.audit.timing import Timing, timing
from vla_ros.data.demonstration import carried_out
from vla_ros.errors import ContractError
from vla_ros.types import NANOSECONDS, Array

TOO_SLOW = (
    "the machine was too slow for the simulator: run less beside it, or make its cameras smaller or slower"
)


@dataclass(frozen=True)
class Look:
    """One episode and the rules; everything else follows from them."""

    record: EpisodeRecord
    rules: AuditRules

    @cached_property
    def period(self) -> float:
        """Between actions [s]; 0 when not known."""
        return episode_period(self.record)

    @cached_property
    def space(self) -> ActionSpace | None:
        """The action space: the contract's; of an imported episode, the one that its actions name."""
        if self.record.contract is not None and not self.record.imported:
            return self.record.contract.action_space
        names = {output.space for output in self.carried_out}
        if len(names) != 1:
            return None
        joints = len(self.record.joint_names) or None
        try:
            return get_action_space(names.pop(), joints)
        except ContractError:
            return None

    @cached_property
    def steps(self) -> Steps:
        """The actions on their grid."""
        return steps_of(self.record, self.period or 1.0)

    @cached_property
    def edges(self) -> tuple[int, int]:
        """First and last moment of the episode on the clock of the stamps [ns]."""
        offset = self.record.offset
        return self.record.start + offset, self.record.stop + offset

    def at(self, stamp: int) -> float:
        """Seconds since the start of the episode."""
        return (stamp - self.edges[0]) / NANOSECONDS

    def remedy(self, real: str) -> str:
        """What to do where messages are late or missing; `real`: on a real robot.

        A simulator has neither cables nor exposure: nothing but the machine keeps it from its schedule.
        """
        return TOO_SLOW if self.record.simulated else real

    @cached_property
    def senders(self) -> Mapping[str, Sender]:
        """Who sent actions, by the name of their stream."""
        return senders_of(self.record)

    @cached_property
    def carried_out(self) -> tuple[Output, ...]:
        """The outputs of who was in charge; what was refused is not judged."""
        outputs = self.record.outputs
        allowed = carried_out(
            [output.given for output in outputs], self.record.changes, self.record.executed or None
        )
        return tuple(output for output, taken in zip(outputs, allowed, strict=True) if taken)

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """The streams of the episode; actions as one stream a sender."""
        found: dict[str, Stream] = {}
        for name, stream in self.record.streams.items():
            if name == ACTIONS:
                found |= {sent: sender.stream for sent, sender in self.senders.items()}
            else:
                found[name] = stream
        return found

    def stream_period(self, stream: Stream) -> float:
        """Nominal time between messages of a stream [s]; where none is known, the median of the stamps."""
        sender = self.senders.get(stream.name)
        # Policies answer as fast as they can; only actions of horizon 1 come once a step.
        if sender is not None and sender.single and self.period:
            return self.period
        if stream.rate > 0:
            return 1.0 / stream.rate
        if len(stream) < 2:
            return 0.0
        return float(np.median(np.diff(np.sort(stream.stamps)))) / NANOSECONDS

    @cached_property
    def timings(self) -> dict[str, Timing]:
        """Of every stream that has messages."""
        found = {}
        for name, stream in self.streams.items():
            if not len(stream):
                continue
            period, sender = self.stream_period(stream), self.senders.get(name)
            ends = None if sender is not None else (self.record.start, self.record.stop)
            found[name] = timing(
                stream.stamps, stream.recorded, period, self.rules.gap_periods * period, ends,
                sender.pauses if sender is not None else None,
            )  # fmt: skip
        return found

    @cached_property
    def clips(self) -> tuple[Array, Array] | None:
        """(low, high) of `clip_range`, None where the actions cannot be judged by it."""
        if (
            self.space is None
            or not self.steps.physical
            or self.steps.values.shape[1] != self.space.dimension
        ):
            return None
        return clip_range(self.space, self.record)

    @cached_property
    def idle(self) -> Idle:
        """Stretches without action and motion of arm or gripper."""
        if not self.period or not len(self.steps):
            return Idle((), self.record.seconds)
        space = self.space if self.steps.physical else None
        return idle_stretches(
            self.edges,
            self.period,
            self.steps.stamps,
            asks_nothing(self.steps.values, space),
            *self.record.joints(),
            self.rules,
            *self.widths,
        )

    @cached_property
    def widths(self) -> tuple[NDArray[np.int64], Array]:
        """Stamps and openings [m] of the gripper, as the observations have them."""
        seen = [one for one in self.record.observations if np.isfinite(one.width)]
        return np.array([one.stamp for one in seen], np.int64), np.array([one.width for one in seen])
