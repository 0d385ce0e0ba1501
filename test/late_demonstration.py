"""A demonstration in virtual time on a machine that is late: what the recorder of a loaded one writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.lockstep import simulated
from vla_ros.lockstep.bag_log import BagLog
from vla_ros.lockstep.demonstrate import Demonstrator, Order
from vla_ros.lockstep.line import Line
from vla_ros.sim.realtime import Sample
from vla_ros.types import NANOSECONDS, PolicyOutput

SMALL = """
robot: widowx
cameras:
  primary: {width: 64, height: 48, rate: 5.0}
"""


RUN = 14
"""Joint states lost one after the other."""


class Lateness:
    """How late it is: chunks reach the controller late, joint states are lost on the way or in the bag."""

    def __init__(
        self, seed: int, chunks: float = 0.08, lost: float = 0.3, outage: float = 0.0, twice: bool = False
    ) -> None:
        """`chunks`: most that a chunk is late [s]; `lost`: share of joint states that the bag lacks, in runs;
        `outage`: time without any for controller and bag, 2 s after the start [s]; `twice`: every chunk comes
        again, and is refused.
        """
        self.random = np.random.default_rng(seed)
        self.chunks, self.lost, self.outage, self.twice = chunks, lost, outage, twice

    def out(self, elapsed: float) -> bool:
        """Whether no joint state comes."""
        return 2.0 <= elapsed < 2.0 + self.outage


def late_demonstration(patch: pytest.MonkeyPatch, folder: Path, lateness: Lateness, seed: int = 4) -> Path:
    """The bag of a demonstration that succeeds all the same."""

    class LateLine(Line):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._late: list[tuple[int, Any]] = []

        def joints(self, sample: Sample, gripper: bool) -> None:
            if not lateness.out(sample.sim_time):
                super().joints(sample, gripper)

        def output(self, output: PolicyOutput, now: int) -> None:
            super().output(output, now)
            late = round(lateness.random.uniform(0.0, lateness.chunks) * NANOSECONDS)
            chunk = self._chunks.pop()
            self._late.append((now + late, chunk))
            if lateness.twice:
                self._late.append((now + late + NANOSECONDS // 20, chunk))

        def tick(self, now: int) -> Any:
            self._chunks += [chunk for at, chunk in self._late if at <= now]
            self._late = [(at, chunk) for at, chunk in self._late if at > now]
            return super().tick(now)

    class LossyLog(BagLog):
        _lost = 0

        def joints(self, sample: Sample, gripper: bool, wrench: bool) -> None:
            if self._lost == 0 and lateness.random.random() < lateness.lost / RUN:
                self._lost = RUN
            self._lost = max(0, self._lost - 1)
            if not lateness.out(sample.sim_time) and self._lost == 0:
                super().joints(sample, gripper, wrench)

    patch.setattr(simulated, "Line", LateLine)
    patch.setattr("vla_ros.lockstep.demonstrate.BagLog", LossyLog)
    contract = folder / "small.yaml"
    contract.write_text(SMALL)
    demonstrator = Demonstrator(Order(str(contract), ("pick",), 1), folder)
    result = demonstrator.make(seed)
    demonstrator.close()
    assert result.success, result
    return folder / f"episode_{seed:06d}"
