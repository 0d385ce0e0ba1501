"""From the logs of one run to its figures: numpy in, a plain document out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import Array

Table = NDArray[np.int64]
MILLI = 1e-6
"""Nanoseconds to milliseconds."""
LOST, OBSERVATION, COMMAND, PERIOD = (
    "frames lost",
    "camera stamp to Observation, beyond the pairing interval, p99 [ms]",
    "PolicyOutput to first joint command, p99 [ms]",
    "control period error, p99 [ms]",
)
LIMITS = {LOST: 0.0, OBSERVATION: 15.0, COMMAND: 10.0, PERIOD: 1.0}


@dataclass(frozen=True)
class Logs:
    """What source, observer and the bare loops wrote; times in nanoseconds."""

    begin: int
    end: int
    """The window: frames and outputs stamped, and ticks due, inside it count."""
    cameras: Sequence[str]
    """Order of the camera columns of `observations`."""
    frames: Mapping[str, Table]
    """(N,) stamps of every published frame, per camera."""
    observations: Table
    """(N, 4 + cameras): stamp, sequence, sent, arrived at the observer, stamp per camera."""
    outputs: Table
    """(N, 4): observation stamp, sequence, sent, `published` as the message says."""
    chunks: Table
    """(N, 3): observation stamp, sequence, sent."""
    setpoints: Table
    """(N, 4): stamp of the tick, tick, sent, sequence of the chunk in execution."""
    commands: Table
    """(N, 2): sent by the controller, arrived at the robot."""
    statuses: Table
    """(N, 4): stamp, overruns since activation; the controller's own 99th percentiles over its last thousand
    ticks: computing time, error of the period between wake-ups."""
    ingester: Sequence[Mapping[str, Any]]
    """The ingester's counters, each time it told them."""
    bare_loops: Mapping[str, Table]
    """(N,) moments of waking, per kind of bare loop."""


def evaluate(logs: Logs, period: float) -> dict[str, Any]:
    """Every figure of a run whose control period is `period` [s]."""
    beyond, total, arrival, pairing = _observation_latencies(logs)
    setpoint, command, arrived = _command_latencies(logs)
    ticks = _inside(logs.setpoints, logs)
    controller = period_errors(ticks[:, 2], period, ticks[:, 1])
    document: dict[str, Any] = {
        "frames": _frames(logs),
        "latency_ms": {
            "stamp to Observation sent": summary(total),
            "of it, waiting for the other camera's frame": summary(pairing),
            "stamp to Observation sent, beyond the pairing interval": summary(beyond),
            "stamp to Observation received, beyond the pairing interval": summary(arrival),
            "PolicyOutput to ActionChunk": summary(_chunk_latencies(logs)),
            "PolicyOutput to first command, sent to the driver": summary(command),
            "PolicyOutput to first command, received by the driver": summary(arrived),
            "PolicyOutput to first /vla/joint_setpoint": summary(setpoint),
        },
        "period_error_ms": {
            "controller, /vla/joint_setpoint sent": summary(MILLI * controller, tails=True),
            "controller, command received by the driver": summary(
                MILLI * period_errors(_inside(logs.commands, logs)[:, 1], period), tails=True
            ),
            **{
                name: summary(MILLI * period_errors(woken, period), tails=True)
                for name, woken in logs.bare_loops.items()
            },
        },
        "controller": _controller(logs, ticks),
    }
    values = {
        LOST: float(sum(document["frames"]["lost"].values())),
        OBSERVATION: summary(arrival)["p99"],
        COMMAND: summary(np.concatenate([arrived, setpoint]))["p99"],
        PERIOD: document["period_error_ms"]["controller, /vla/joint_setpoint sent"]["p99"],
    }
    document["targets"] = {
        name: {"value": value, "limit": LIMITS[name], "met": bool(value <= LIMITS[name])}
        for name, value in values.items()
    }
    return document


def summary(values: Array, tails: bool = False) -> dict[str, float]:
    """Count, percentiles and greatest of some values, rounded to a thousandth; NaN when there are none."""
    shares = {"p50": 50.0, "p95": 95.0, "p99": 99.0, **({"p99.9": 99.9} if tails else {}), "max": 100.0}
    found = {
        name: float(np.percentile(values, share)) if len(values) else np.nan for name, share in shares.items()
    }
    return {"count": len(values), **{name: round(value, 3) for name, value in found.items()}}


def period_errors(times: Table, period: float, ticks: Table | None = None) -> Array:
    """|time between neighbours - period| [ns]; neighbours that are not consecutive `ticks` are left out."""
    errors = np.abs(np.diff(times) - 1e9 * period)
    return errors if ticks is None else errors[np.diff(ticks) == 1]


def _inside(table: Table, logs: Logs) -> Table:
    """Rows whose first column lies in the window."""
    return table[(table[:, 0] >= logs.begin) & (table[:, 0] < logs.end)]


def _frames(logs: Logs) -> dict[str, Any]:
    """Published, used and lost frames, and where the lost ones went."""
    published, used, lost = {}, {}, {}
    for column, name in enumerate(logs.cameras):
        stamps = logs.frames[name]
        stamps = stamps[(stamps >= logs.begin) & (stamps < logs.end)]
        found = int(np.isin(stamps, logs.observations[:, 4 + column]).sum())
        published[name], used[name], lost[name] = len(stamps), found, len(stamps) - found
    observations = _inside(logs.observations, logs)
    gaps = np.diff(observations[:, 1]) - 1
    missed = int(gaps[gaps > 0].sum())
    refused = _refused(logs)
    total = sum(lost.values())
    return {
        "published": published,
        "in_an_observation": used,
        "lost": lost,
        "lost_where": {
            "refused by the ingester": refused,
            "in Observations that did not reach the observer": missed * len(logs.cameras),
            "before the ingester, or without a partner": max(
                0, total - sum(refused.values()) - missed * len(logs.cameras)
            ),
        },
        "observations": len(observations),
    }


def _refused(logs: Logs) -> dict[str, int]:
    """Frames the ingester refused in the window, by reason, as far as its half-second reports tell."""
    told = [entry for entry in logs.ingester if logs.begin <= entry["stamp"]]
    before = [entry for entry in logs.ingester if entry["stamp"] < logs.begin]
    if not told:
        return {}
    first = before[-1]["counts"] if before else {}
    last = told[-1]["counts"]
    changes = {
        reason: count - first.get(reason, 0) for reason, count in last.items() if reason != "observations"
    }
    return {reason: change for reason, change in changes.items() if change}


def _observation_latencies(logs: Logs) -> tuple[Array, Array, Array, Array]:
    """Beyond the pairing interval, in all, until arrival beyond the pairing interval, the interval [ms].

    The pairing interval of an observation runs from the primary frame's stamp to that of its latest frame:
    before that, it cannot be complete.
    """
    seen = _inside(logs.observations, logs)
    complete = seen[:, 4:].max(axis=1, initial=0)
    stamp, sent, arrived = seen[:, 0], seen[:, 2], seen[:, 3]
    return (
        MILLI * (sent - complete),
        MILLI * (sent - stamp),
        MILLI * (arrived - complete),
        MILLI * (complete - stamp),
    )


def _chunk_latencies(logs: Logs) -> Array:
    sent = dict(zip(logs.chunks[:, 1].tolist(), logs.chunks[:, 2].tolist(), strict=True))
    rows = _inside(logs.outputs, logs)
    return MILLI * np.array([sent[q] - p for q, p in rows[:, (1, 3)].tolist() if q in sent], float)


def _command_latencies(logs: Logs) -> tuple[Array, Array, Array]:
    """From `published` of each output to the first setpoint and the first command of its chunk [ms].

    Setpoint sent, command sent, command arrived at the robot.  The controller sends the driver's command and
    then the setpoint of the same tick, so the last command sent before that setpoint is the one.
    """
    sequences, first = np.unique(logs.setpoints[:, 3], return_index=True)
    sent = dict(zip(sequences.tolist(), logs.setpoints[first, 2].tolist(), strict=True))
    rows = []
    for sequence, published in _inside(logs.outputs, logs)[:, (1, 3)].tolist():
        if sequence not in sent:
            continue
        index = int(np.searchsorted(logs.commands[:, 0], sent[sequence], side="right")) - 1
        if index >= 0 and logs.commands[index, 0] >= published:
            rows.append((sent[sequence] - published, *(logs.commands[index] - published)))
    table = MILLI * np.array(rows, float).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _controller(logs: Logs, ticks: Table) -> dict[str, Any]:
    statuses = _inside(logs.statuses, logs)
    outputs = _inside(logs.outputs, logs)
    return {
        "ticks": len(ticks),
        "overruns": int(statuses[-1, 1] - statuses[0, 1]) if len(statuses) else 0,
        "computing_time_p99_ms": summary(MILLI * statuses[:, 2])["p50"],
        "waking_period_error_p99_ms": summary(MILLI * statuses[:, 3])["p50"],
        "policy_outputs": len(outputs),
        "outputs_without_command": int((~np.isin(outputs[:, 1], logs.setpoints[:, 3])).sum()),
    }
