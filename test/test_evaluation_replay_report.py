"""The page of a replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_ros.errors import DataError
from vla_ros.evaluation.judge import Verdict
from vla_ros.evaluation.replay_compare import PosePath, compare_trajectory, summary
from vla_ros.evaluation.replay_report import ReplayedTrajectory, replay_report

VERDICT = Verdict((), 10, 1, 0, 0.01, np.zeros((3, 6)), np.zeros((3, 6)), 0.1, 0.1, np.inf, ())


def path(offset: float = 0.0) -> PosePath:
    times = np.arange(8) * 0.2
    positions = np.stack([0.2 + 0.1 * times, 0.05 * times + offset * times, 0.1 + 0 * times], axis=1)
    return PosePath(times, positions, np.tile([0.0, 0.0, 0.0, 1.0], (8, 1)))


def trajectory(number: int, offset: float) -> ReplayedTrajectory:
    recorded, led, driven = path(), path(0.01), path(offset)
    comparison = compare_trajectory(f"record {number}", recorded, led, driven)
    return ReplayedTrajectory(number, f"put <cup> {number} away", recorded, led, driven, comparison)


def test_every_trajectory_and_refusal_is_told(tmp_path: Path) -> None:
    made = [trajectory(k, 0.01 * k) for k in range(7)]
    refused = [{"source": "record 7", "reason": "The robot cannot reach it."}]
    document = summary([one.comparison for one in made])
    replay_report(made, document, VERDICT, refused, "Replay", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for one in made:
        assert f"put &lt;cup&gt; {one.number} away" in text
        assert f"{100 * one.comparison.position_error_m:.2f}" in text
    assert f"{100 * document['median_position_error_m']:.2f} cm" in text
    assert "The robot cannot reach it." in text and "<svg" in text and "<script" not in text


def test_a_page_without_trajectories_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    replay_report([], summary([]), VERDICT, [], "Replay", tmp_path / "report.html")
    assert "Nothing was played." in (tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="report.html"):
        replay_report([], summary([]), VERDICT, [], "Replay", tmp_path / "missing" / "report.html")
