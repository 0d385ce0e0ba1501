"""Small random models in the live graph: tokens and chunks from another process move the simulated robot."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("tokenizers", reason="the extra 'torch' is not installed")
pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

for family in ("octo", "openvla", "rt2"):
    sys.path.append(str(Path(__file__).parent / family))

import octo_checkpoint  # noqa: E402
import openvla_checkpoint as tiny  # noqa: E402
import torch  # noqa: E402
import vision_language_models  # noqa: E402
from late_machine import StoppedError, stops_told  # noqa: E402

from vla_ros.bringup.graph import GraphOptions  # noqa: E402
from vla_ros.bringup.session import prepared, session  # noqa: E402
from vla_ros.evaluation.judge import judge_run  # noqa: E402
from vla_ros.evaluation.run_data import load_run  # noqa: E402
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector  # noqa: E402
from vla_ros.robots import load_robot  # noqa: E402

pytestmark = pytest.mark.live

SECONDS = float(os.environ.get("GRAPH_SECONDS", "8"))
"""Of every model; longer by hand."""
ROBOT = "panda"
SCALE = [0.004] * 3 + [0.02] * 3 + [1.0]
GENTLE = {
    **tiny.ACTION,
    "q01": [-value for value in SCALE[:6]] + [0.0],
    "q99": SCALE,
}


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)


def openvla(folder: Path) -> dict[str, Any]:
    tiny.write_checkpoint(folder, statistics={"kitchen": {"action": GENTLE}})
    return {"constrained": True}


def openvla_oft(folder: Path) -> dict[str, Any]:
    statistics = {"kitchen": {"action": GENTLE, "proprio": tiny.proprio(7)}}
    tiny.write_checkpoint(folder, statistics=statistics)
    torch.manual_seed(0)
    for name, part in (("action_head", ActionHead(32, 7)), ("proprio_projector", StateProjector(7, 32))):
        table = {f"module.{key}": value.detach() for key, value in part.state_dict().items()}
        torch.save(table, folder / f"{name}--1_checkpoint.pt")
    return {"chunk": 8, "state": "bridge"}


def octo(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    octo_checkpoint.write_checkpoint(folder)
    action = {"mean": [0.0] * 7, "std": [*SCALE[:6], 1.0], "mask": [True] * 6 + [False]}
    (folder / "dataset_statistics.json").write_text(json.dumps({"kitchen": {"action": action}}))
    return {}


def rt2(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    vision_language_models.write_checkpoint(folder, "paligemma", seed=4)
    (folder / "dataset_statistics.json").write_text(json.dumps({"kitchen": {"action": GENTLE}}))
    return {"horizon": 2}


@pytest.mark.parametrize("make", [openvla, openvla_oft, octo, rt2], ids=lambda make: make.__name__)
def test_a_random_model_moves_the_robot_within_all_limits(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "checkpoint"
    towers = {"towers": tiny.TOWERS} if make in (openvla, openvla_oft) else {}
    policy_options = {"checkpoint": str(folder), "device": "cpu", **towers, **make(folder)}
    robot = load_robot(ROBOT)
    options = GraphOptions(
        robot=ROBOT, policy=make.__name__, policy_options=policy_options, record=str(tmp_path / "bag"),
        record_cameras=False, timeout=SECONDS, rate=2.0,
    )  # fmt: skip
    with session(prepared(options, tmp_path), tmp_path, lambda *_: None) as running, stops_told():
        running.wait_up()
        result = running.run_episode("", "pick up the red block", 0)
    run = load_run(tmp_path / "bag", robot)
    verdict = judge_run(run, robot)
    assert verdict.violations == (), verdict.sentence()
    speed = np.abs(run.setpoints.velocities).max(axis=1)
    if result.seconds < SECONDS - 1.0 or (speed > 0.01).sum() <= 100:
        # a late robot is stopped and a late step left out, as it must be
        raise StoppedError(result.reason)
    rate = len(run.chunks.sent) / result.seconds
    print(f"{make.__name__}: {rate:.1f} answers a second, {speed.max():.2f} rad/s")
    assert rate > 0.5
