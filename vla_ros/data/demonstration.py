"""The rule that makes steps of a recorded stretch of messages.

Steps lie on the grid of the action rate.  Outputs of one action each are the steps; of longer chunks a step
takes the row that is due in the newest output that was out by then.  A step's observation is the newest one
that is not younger than the step: never one from the future.

Only what was carried out is a step (`carried_out`).  Where a person and a policy take turns, each turn has
its own grid, which begins with its first output: between two turns the robot waits for the first action of
the next, and no step stands for that time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import groupby

_ROUNDING = 1e-6
"""Of a period: stamps that lie a rounding before the grid count as on it."""
_SHORTEST = 0.5
"""Of a period: a step that the next turn cut shorter than this was hardly carried out, and is none."""
SWITCHING = 500_000_000
"""An output that left within so long of a change may have been judged before it or behind it [ns]."""
CLOCK_SET = 1_000_000_000
"""Outputs of several senders may be recorded in another order than they left in, but not by so much [ns]."""


@dataclass(frozen=True)
class Given:
    """When an output was made of what, and how many actions it has; all times in ns."""

    stamp: int
    published: int
    horizon: int
    sequence: int = 0
    source: int = 0
    """Who made it, a `Source`."""

    @property
    def key(self) -> tuple[int, int, int]:
        """What its chunk on `/vla/action_chunk` says too: (sequence, source, stamp)."""
        return self.sequence, self.source, self.stamp


@dataclass(frozen=True)
class Change:
    """What `/vla/authority` said: since when [ns] which `Source` is in charge."""

    since: int
    source: int


@dataclass(frozen=True)
class Step:
    """One step: `row` of output number `output`, at `stamp` [ns]."""

    stamp: int
    output: int
    row: int


@dataclass(frozen=True)
class Turn:
    """One source in charge: the times of its grid [ns], and the step at each; None where no row was left."""

    slots: tuple[tuple[int, Step | None], ...]
    chunked: bool
    """Whether its outputs have more than one action."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step."""
        return tuple(step for _, step in self.slots if step is not None)

    @property
    def missing(self) -> int:
        """Number of times for which no row was left although an action came later."""
        known = [step is not None for _, step in self.slots]
        return known.count(False) - (known[::-1].index(True) if True in known else len(known))

    @property
    def gap(self) -> int | None:
        """The first time [ns] for which no row was left; None: there was one for each."""
        return next((stamp for stamp, step in self.slots if step is None), None)

    @property
    def stood(self) -> bool:
        """Whether no action came after the first gap: the robot stood until the turn ended."""
        missing = [step is None for _, step in self.slots]
        return all(missing[missing.index(True) :]) if any(missing) else False


def carried_out(
    outputs: Sequence[Given],
    changes: Sequence[Change] = (),
    executed: Container[tuple[int, int, int]] | None = None,
) -> list[bool]:
    """Whether each output was carried out, by the rule of `vla_ros.execution.authority`.

    Args:
        outputs: in any order.
        changes: everything that was said on `/vla/authority`, in the order in which it was recorded.
        executed: keys of the chunks on `/vla/action_chunk`; None: none were recorded.

    Before anybody was announced, as in a recording without the topic, every output counts.  An output whose
    chunk is on record was carried out; one that left within `SWITCHING` of a change, and has none where
    others have, was refused: what the chunker had heard by then is not on record.
    """
    switches = _switches(changes)
    return [_allowed(output, switches, executed) for output in outputs]


def turns_of(
    outputs: Sequence[Given],
    period: int,
    end: int,
    changes: Sequence[Change] = (),
    executed: Container[tuple[int, int, int]] | None = None,
) -> tuple[Turn, ...]:
    """The turns of one episode, in time; those without a step are left out.

    Args:
        outputs: in the order in which they were recorded, those without actions left out.
        period: time between steps [ns].
        end: stamp of the episode's end [ns].
        changes: see `carried_out`.
        executed: see `carried_out`.
    """
    switches = _switches(changes)
    used = [
        (_turn(output, switches), k)
        for k, output in enumerate(outputs)
        if _allowed(output, switches, executed)
    ]
    used.sort(key=lambda entry: (entry[0], outputs[entry[1]].published))
    groups = [(number, [k for _, k in group]) for (number, _), group in groupby(
        used, lambda entry: (entry[0], outputs[entry[1]].source)
    )]  # fmt: skip
    found: list[Turn] = []
    first, begin = None, end
    for number, members in reversed(groups):
        members.sort(key=lambda k: outputs[k].stamp)
        turn = _turn_of(outputs, members, period, min(begin, end))
        if first is not None:
            latest = first - round(_SHORTEST * period)
            turn = Turn(tuple(slot for slot in turn.slots if slot[0] <= latest), turn.chunked)
        if turn.steps:
            found.append(turn)
            first = turn.steps[0].stamp
        begin = switches[number - 1].since if number else outputs[members[0]].stamp
    return tuple(reversed(found))


def steps_of(
    outputs: Sequence[Given],
    period: int,
    end: int,
    changes: Sequence[Change] = (),
    executed: Container[tuple[int, int, int]] | None = None,
) -> tuple[tuple[Step, ...], int | None]:
    """Steps of one episode, and where its actions ran out before its end; arguments as of `turns_of`.

    Where rows run out in the middle of a turn the episode ends, for what comes later does not follow from
    what is on record; where they run out until another one takes over, the robot stood, and it goes on.

    Returns:
        the steps, and the stamp [ns] of the first step that had no action; None: none lacked one.
    """
    turns = turns_of(outputs, period, end, changes, executed)
    steps: list[Step] = []
    for number, turn in enumerate(turns):
        gap, last = turn.gap, number == len(turns) - 1
        if gap is not None and (last or not turn.stood):
            return (*steps, *(step for step in turn.steps if step.stamp < gap)), gap
        steps += turn.steps
    if len(turns) > 1 and not turns[-1].chunked and steps[-1].stamp + period < end:
        return tuple(steps), steps[-1].stamp + period
    return tuple(steps), None


def set_back(times: Sequence[int], tolerance: int = 0) -> list[tuple[int, int]]:
    """(time before, time) wherever times [ns] go back by more than `tolerance`, in the order of recording."""
    return [(a, b) for a, b in zip(times, times[1:], strict=False) if b < a - tolerance]


def newest(stamps: Sequence[int], stamp: int) -> int:
    """Index of the newest of ascending `stamps` that is not above `stamp`; -1: none."""
    return bisect_right(stamps, stamp) - 1


def _switches(changes: Sequence[Change]) -> list[Change]:
    """What changed something: what is said again, as by a node started anew, or older does not."""
    found: list[Change] = []
    for change in changes:
        if not found or (change.since >= found[-1].since and change.source != found[-1].source):
            found.append(change)
    return found


def _allowed(
    output: Given, switches: Sequence[Change], executed: Container[tuple[int, int, int]] | None
) -> bool:
    if executed is not None and output.key in executed:
        return True
    number = _number(output, switches)
    near = switches[max(number - 1, 0) : number + 1]
    if executed is not None and any(abs(switch.since - output.published) <= SWITCHING for switch in near):
        return False
    in_charge = switches[number - 1] if number else None
    return in_charge is None or (output.source == in_charge.source and output.stamp >= in_charge.since)


def _number(output: Given, switches: Sequence[Change]) -> int:
    """How many switches there were when an output left."""
    return bisect_right(switches, output.published, key=lambda switch: switch.since)


def _turn(output: Given, switches: Sequence[Change]) -> int:
    """How many switches there were before the turn that an output belongs to."""
    number = _number(output, switches)
    while number and switches[number - 1].source != output.source:
        number -= 1  # carried out although it left behind the switch: of the turn before
    return number


def _turn_of(outputs: Sequence[Given], members: Sequence[int], period: int, end: int) -> Turn:
    """The turn made of the outputs `members`, in the order of their stamps, up to `end` [ns]."""
    if all(outputs[k].horizon == 1 for k in members):
        single = ((outputs[k].stamp, Step(outputs[k].stamp, k, 0)) for k in members)
        return Turn(tuple(single), False)
    # An output that left late may not hide an earlier one that was out: candidates are tried from the newest.
    stamps = [outputs[k].stamp for k in members]
    slots: list[tuple[int, Step | None]] = []
    first, number = stamps[0], 0
    while (stamp := first + number * period) < end:
        number += 1
        index = bisect_right(stamps, stamp + round(_ROUNDING * period)) - 1
        while index >= 0 and outputs[members[index]].published > stamp:
            index -= 1
        if index < 0:
            continue  # before the first output was out
        row = int((stamp - stamps[index]) / period + _ROUNDING)
        inside = row < outputs[members[index]].horizon
        slots.append((stamp, Step(stamp, members[index], row) if inside else None))
    return Turn(tuple(slots), True)
