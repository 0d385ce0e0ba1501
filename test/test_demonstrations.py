"""The whole way of a demonstration, small: keys and expert, to both sets, read back, played again."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from late_machine import StoppedError

from benchmarks.demonstrations import one_robot, read_back, rows
from vla_ros.data.open import open_dataset

pytestmark = pytest.mark.live


@pytest.mark.timeout(480)
def test_from_keys_and_expert_to_sets_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    found = one_robot("widowx", 2, 1, tmp_path)
    for entry in found["keyboard"]:
        if entry["stopped"]:
            raise StoppedError(entry["stopped"])
    assert all(entry["success"] for entry in found["keyboard"]), found["keyboard"]
    for name, count in (("scripted", 2), ("keyboard", 1)):
        assert found["audit"][name] == {"episodes": count, "usable": count, "failed": []}
        assert found["replays"][name]["succeeded"] == count
    assert found["replays"]["scripted"]["path_max_m"] < 1e-6  # of float32
    for result in found["sets"].values():
        assert result["episodes"] == 3 and result["unequal"] == [] and result["psnr_min"] > 30.0
    assert found["sets"]["rlds"]["images_exact"] > 0
    # the comparison is one that finds a difference
    other = read_back(open_dataset(tmp_path / "scripted"), open_dataset(tmp_path / "rlds"))
    assert other["unequal"] == ["2 episodes were taken, 3 are there"]
    other = read_back(open_dataset(tmp_path / "keyboard"), open_dataset(tmp_path / "rlds"))
    assert len(other["unequal"]) > 4
    assert len(rows({"robots": [found]})) == 2
