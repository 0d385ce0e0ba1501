"""A recorder killed at 200 random moments loses at most the last second; what is left opens everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_recorders import content, topic
from rosbags.highlevel import AnyReader

from vla_ros.data.bag import METADATA_TOPIC, read_bag, repair_bag
from vla_ros.errors import DataError

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
COUNT, AT_ONCE = 200, 25
LOST = 1.0
"""Seconds of recording that a kill may cost."""


def test_a_kill_costs_at_most_the_last_second(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed_recorders.py")), str(tmp_path)]
    subprocess.run(
        [*command, str(COUNT), str(AT_ONCE), "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )
    killed = json.loads((tmp_path / "killed.json").read_text())
    assert len(killed) == COUNT
    ready = [content(k) for k in range(140)]
    saved_something, worst = 0, 0.0
    for number, (name, (at, times)) in enumerate(sorted(killed.items())):
        bag = tmp_path / name
        try:
            entries = [e for e in read_bag(bag, salvage=True) if e.topic != METADATA_TOPIC]
        except DataError:
            # killed before anything had reached the disk, or before the folder was made
            entries = []
        for k, entry in enumerate(entries):
            assert (entry.stamp, entry.topic, entry.raw) == (k, topic(k), ready[k % 140]), name
        lost = times[len(entries) :]
        if lost:
            worst = max(worst, at - lost[0])
        saved_something += bool(entries)
        if entries and number % 20 == 0:
            repaired = tmp_path / f"{name}_repaired"
            assert sum(repair_bag(bag, repaired).values()) == len(entries) + 1
            with AnyReader([repaired]) as reader:
                assert reader.message_count == len(entries) + 1
    assert worst <= LOST, f"{worst:.2f} s of recording were lost"
    assert saved_something > COUNT // 2
