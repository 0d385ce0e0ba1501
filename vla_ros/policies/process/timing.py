"""How long a policy takes, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from vla_ros.errors import InstructionError, PolicyError
from vla_ros.policies.process.isolated import IsolatedPolicy
from vla_ros.types import Observation

WARM_UP = 2
"""Answers that are not counted, besides the first."""


def measure(policy: IsolatedPolicy, observations: Iterator[Observation], count: int) -> dict[str, Any]:
    """Load, warm up, and time `count` answers; everything in seconds and bytes.

    Keys: `load`; `first` answer; `stages` by name, "total" among them, with p50, p99 and mean; `rate` [Hz] of
    answers one after the other, `actions` steps a second at that rate; `memory`.
    Raises `PolicyError` when the policy fails, or answers made-up images in words only.
    """
    begun = time.perf_counter()
    policy.load()
    loaded = time.perf_counter() - begun
    stages: dict[str, list[float]] = {}
    first, steps = 0.0, 0
    observation = next(observations)
    policy.reset(observation.instruction)
    for number in range(1 + WARM_UP + count):
        begun = time.perf_counter()
        try:
            output = policy.infer(observation)
        except InstructionError as error:
            raise PolicyError(
                f"There is nothing to time, the answer to made-up images is: {error}"
            ) from error
        seconds = time.perf_counter() - begun
        if number == 0:
            first = seconds
        if number > WARM_UP:
            rows = output.values if output.values is not None else output.tokens
            steps += 0 if rows is None else len(rows)
            for name, value in {**output.latency, "total": seconds}.items():
                stages.setdefault(name, []).append(float(value))
        observation = next(observations)
    mean = float(np.mean(stages["total"]))
    return {
        "load": loaded,
        "first": first,
        "count": count,
        "stages": {
            name: {
                "p50": float(np.percentile(values, 50)),
                "p99": float(np.percentile(values, 99)),
                "mean": float(np.mean(values)),
            }
            for name, values in stages.items()
        },
        "rate": 1.0 / mean,
        "actions": steps / count / mean,
        "memory": policy.memory(),
    }
