"""Policies for tests that do what the instruction says, mischief included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.actions.normalization import ActionStatistics, Normalization, NormalizationKind
from vla_ros.actions.tokens import TokenCodec
from vla_ros.errors import InstructionError, PolicyError
from vla_ros.policies.base import ActionPrefix, CameraNeed, PolicyRequirements
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Observation, PolicyOutput

NORMALIZATION = Normalization(
    "kitchen",
    NormalizationKind.BOUNDS_Q99,
    ActionStatistics.from_mapping(
        {"q01": [-0.02] * 7, "q99": [0.02] * 7, "mask": [True] * 6 + [False]}, "kitchen"
    ),
)


class Scripted:
    """Says by its values what it saw: column 0 is the mean of the first image, 1 the number of calls."""

    def __init__(self, action_space: str, rate: float, options: dict[str, Any]) -> None:
        self._rate = rate
        self._space = action_space or "delta_tcp"
        self._options = options
        self._instruction = ""
        self._calls = 0
        self._kept: list[np.ndarray] = []

    @property
    def requirements(self) -> PolicyRequirements:
        scaled = NORMALIZATION if self._options.get("scaled") else None
        codec = TokenCodec(500) if self._options.get("scaled") == "tokens" else None
        rate = self._options.get("answers", 5.0)
        return PolicyRequirements(
            self._space, rate, 4, (CameraNeed("primary"),), normalization=scaled, codec=codec
        )

    def load(self) -> None:
        time.sleep(self._options.get("load_seconds", 0.0))
        how = self._options.get("load", "")
        if how == "refuse":
            raise PolicyError("The weights are missing.")
        if how == "crash":
            os._exit(7)
        if how == "fail":
            raise RuntimeError("weights of\nno kind")
        once = self._options.get("crash_unless")
        if once and not Path(once).exists():
            os._exit(9)

    def reset(self, instruction: str) -> None:
        self._calls = 0
        if instruction == "nonsense":
            raise InstructionError("The instruction is nonsense.")
        if instruction == "crash at reset":
            os._exit(5)
        self._instruction = instruction

    def infer(self, observation: Observation) -> PolicyOutput:
        self._calls += 1
        image = observation.images["primary"].rgb if observation.images else np.zeros((1, 1, 3), np.uint8)
        self._kept.append(image)
        values = np.zeros((4, 7))
        values[:, 0] = 0.001 * image.mean()
        values[:, 1], values[:, 2] = self._calls, self._kept[0].mean()
        values[:, 3] = observation.joints.positions.sum()
        values[:, 6] = observation.gripper_width
        output = PolicyOutput(
            observation.stamp,
            observation.sequence,
            self._space,
            values=values,
            latency={"decode": 0.001},
            text=f"{self._instruction} {os.getpid()}",
        )
        return self._mischief(output)

    def _mischief(self, output: PolicyOutput) -> PolicyOutput:
        values = np.zeros((4, 7))
        bad = values.copy()
        bad[2, 1] = np.nan
        word = self._instruction.removeprefix("do ")
        if word == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "exit":
            os._exit(3)
        elif word == "hang":
            time.sleep(1000.0)
        elif word == "raise":
            raise ZeroDivisionError("no such\nnumber")
        elif word == "refuse":
            raise PolicyError("The model is tired.")
        elif word == "offspring":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            return replace(output, text=str(child.pid))
        wrong: dict[str, dict[str, Any]] = {
            "nan": {"values": bad},
            "infinite": {"values": np.full((1, 7), np.inf)},
            "shape": {"values": np.zeros((4, 6))},
            "flat": {"values": np.zeros(7)},
            "long": {"values": np.zeros((5, 7))},
            "short": {"values": np.zeros((0, 7))},
            "dtype": {"values": np.zeros((4, 7), dtype=complex)},
            "objects": {"values": np.full((4, 7), None)},
            "whole": {"values": np.zeros((4, 7), dtype=int)},
            "list": {"values": [[0.0] * 7]},
            "space": {"action_space": "droid"},
            "stamp": {"stamp": 12},
            "key": {"normalization_key": "cellar"},
            "both": {"tokens": np.zeros((4, 7), dtype=int)},
            "neither": {"values": None},
            "fractions": {"values": None, "tokens": np.zeros((4, 7))},
            "late": {"latency": {"decode": float("nan")}},
        }
        if word == "nothing":
            return None  # type: ignore[return-value]
        if word == "done":
            return replace(output, values=None, terminate=True)
        if word == "single":
            return replace(output, values=np.zeros((4, 7), dtype=np.float32))
        return replace(output, **wrong[word]) if word in wrong else output


class Scaled(Scripted):
    """Answers normalised values or tokens."""

    def infer(self, observation: Observation) -> PolicyOutput:
        values = np.full((4, 7), 0.5)
        if self._options["scaled"] == "tokens":
            tokens = TokenCodec(500).encode(values)
            return PolicyOutput(
                observation.stamp,
                observation.sequence,
                self._space,
                tokens=tokens,
                normalization_key="kitchen",
            )
        return PolicyOutput(
            observation.stamp, observation.sequence, self._space, values=values, normalization_key="kitchen"
        )


class Conditioned(Scripted):
    """Repeats the prefix' gripper."""

    def infer_after(self, observation: Observation, prefix: ActionPrefix) -> PolicyOutput:
        values = np.zeros((4, 7))
        values[:, 0], values[:, 1], values[:, 6] = (
            prefix.after[0],
            prefix.targets.sum(),
            prefix.gripper_width[0],
        )
        return PolicyOutput(observation.stamp, observation.sequence, self._space, values=values)


def make(robot: RobotSpec, action_space: str = "", rate: float = 5.0, **options: Any) -> Scripted:
    kind = Scaled if options.get("scaled") else Conditioned if options.get("prefix") else Scripted
    return kind(action_space, rate, options)


def make_nothing(robot: RobotSpec, **options: Any) -> str:
    return "no policy"


class Swaying(Scripted):
    """Moves the tool to and fro along y, by the stamp of what it sees."""

    def infer(self, observation: Observation) -> PolicyOutput:
        values = np.zeros((4, 7))
        due = observation.stamp * 1e-9 + (np.arange(4) + 1) / self._rate
        values[:, 1] = 0.012 * np.cos(2.0 * np.pi * due / 3.0)
        values[:, 6] = 1.0
        return PolicyOutput(observation.stamp, observation.sequence, self._space, values=values)


def make_swaying(robot: RobotSpec, action_space: str = "", rate: float = 5.0, **options: Any) -> Swaying:
    return Swaying(action_space, rate, options)
