"""A policy and a person who take turns, in virtual time: what they send, what the chunker makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from demonstration_bag import Sent

from vla_ros.execution.authority import Authority
from vla_ros.teleop.grid import LEAD
from vla_ros.types import Source

POLICY, PERSON = int(Source.POLICY), int(Source.PERSON)
FRAME = 1.0 / 15
"""Between observations [s]."""


def turns(
    switches: Sequence[tuple[float, int]],
    seconds: float,
    delay: float = 0.3,
    horizon: int = 8,
    period: float = 0.2,
    heard_after: float = 0.0,
    restarts: Sequence[float] = (),
) -> list[Sent]:
    """Everything on `/vla/policy_output` in the order in which it left, each with whether it became a chunk.

    A policy answers the newest observation when it is idle, `delay` later, whoever is in charge; one that
    answers single actions does so at most once a period.  A person in charge sends one action a period.

    `switches`: (time, source), the first at the start; `heard_after`: so much later the chunker knows them;
    `restarts`: the policy begins to count anew.
    """
    sent: list[Sent] = []
    asked, number = 0.0, 0
    while asked + delay < seconds:
        number = 0 if any(asked - delay - FRAME < t <= asked for t in restarts) else number + 1
        rows = 0.004 * np.sin(asked + np.arange(7 * horizon)).reshape(horizon, 7)
        rows[:, 6] = float(asked < 0.5 * seconds)
        sent.append(Sent(asked, asked + delay, POLICY, "slow", rows, number))
        free = asked + max(delay, period if horizon == 1 else FRAME)
        asked = FRAME * np.ceil(free / FRAME - 1e-6)
    count = 0
    for (begin, who), end in zip(switches, [*(t for t, _ in switches[1:]), seconds], strict=True):
        if who != PERSON:
            continue
        first = begin + LEAD * 1e-9
        for k in range(int(np.ceil((end - first) / period - 1e-9))):
            count += 1
            stamp = first + k * period
            row = np.array([0.01, 0.01 * np.sin(stamp), 0.0, 0.0, 0.0, 0.0, float(stamp < 0.5 * seconds)])
            sent.append(Sent(stamp, stamp + 0.004, PERSON, "keyboard", row, count))
    sent = [one for one in sent if one.published < seconds]
    return judged(sorted(sent, key=lambda one: one.published), switches, heard_after)


def judged(
    sent: Sequence[Sent], switches: Sequence[tuple[float, int]], heard_after: float = 0.0
) -> list[Sent]:
    """What the chunker lets through, by its own rule."""
    authority, said, found = Authority(), 0, []
    for one in sent:
        while said < len(switches) and switches[said][0] + heard_after <= one.published:
            authority.announce(Source(switches[said][1]), ns(switches[said][0]))
            said += 1
        found.append(replace(one, chunk=authority.allows(Source(one.source), ns(one.stamp))))
    return found


def ns(seconds: float) -> int:
    """A time on a clock that began long before [ns]: `Authority` knows none below 0."""
    return 1_000_000_000_000 + round(1e9 * seconds)


def in_charge(switches: Sequence[tuple[float, int]], time: float) -> int:
    """Whose turn it is."""
    return [who for since, who in switches if since <= time + 1e-9][-1]
