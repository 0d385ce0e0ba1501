"""The whole graph: real processes, simulated robot, camera images in, limited commands out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from vla_ros.bringup.graph import GraphOptions, Process
from vla_ros.bringup.session import EpisodeRefusedError, prepared, session
from vla_ros.bringup.shm import FOLDER
from vla_ros.errors import VlaRosError
from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.run_data import load_run
from vla_ros.robots import load_robot


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)


def quiet(name: str, line: str) -> None:
    return None


def test_one_episode_from_pixels_to_motion_within_limits(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    options = GraphOptions(robot="widowx", record=str(bag), record_cameras=False, timeout=25.0)
    with session(prepared(options, tmp_path), tmp_path, quiet) as running:
        running.wait_up()
        with pytest.raises(EpisodeRefusedError, match="bake a cake"):
            running.run_episode("", "bake a cake", 0)
        with pytest.raises(EpisodeRefusedError, match="empty"):
            running.run_episode("", " ", 0)
        result = running.run_episode("", "pick up the red block", 0)
        assert not running.runner.ended()
    assert set(running.runner.stop().values()) == {0}
    assert result.instruction == "pick up the red block" and result.steps > 3 and result.reason
    robot = load_robot("widowx")
    run = load_run(bag, robot)
    assert run.closed and len(run.setpoints) > 100
    # the robot really moved, on what the policy saw
    assert run.chunks.sequences.size > 3
    moved = run.setpoints.positions.max(axis=0) - run.setpoints.positions.min(axis=0)
    assert moved.max() > 0.2
    verdict = judge_run(run, robot)
    assert verdict.violations == (), verdict.sentence()


def test_a_node_that_refuses_ends_the_graph_with_its_sentence(tmp_path: Path) -> None:
    processes = prepared(GraphOptions(robot="widowx"), tmp_path)
    broken = [
        Process(p.name, {**p.parameters, "action_space": "sideways"}) if p.name == "chunker" else p
        for p in processes
    ]
    with (
        pytest.raises(VlaRosError, match=r"'chunker' refused to start.*sideways"),
        session(broken, tmp_path, quiet) as running,
    ):
        running.wait_up()
    assert all(child.poll() is not None for child in running.runner._children.values())


def test_a_camera_without_frames_ends_the_episode_and_nothing_moves(tmp_path: Path) -> None:
    contract = tmp_path / "silent.yaml"
    contract.write_text("robot: widowx\ncameras: {primary: {topic: /nowhere/image}}\n", encoding="utf-8")
    bag = tmp_path / "bag"
    options = replace(GraphOptions(robot=str(contract), home_first=False), record=str(bag))
    with session(prepared(options, tmp_path), tmp_path, quiet) as running:
        running.wait_up()
        result = running.run_episode("", "pick up the red block", 0)
    assert result.outcome.name == "ABORTED" and "/nowhere/image" in result.reason
    run = load_run(bag, load_robot("widowx"))
    assert run.chunks.sequences.size == 0
    moved = run.setpoints.positions.max(axis=0) - run.setpoints.positions.min(axis=0)
    assert moved.max() < 1e-9


def test_no_shared_memory_is_left(tmp_path: Path) -> None:
    before = {path.name for path in FOLDER.iterdir()}
    with session(prepared(GraphOptions(robot="ur5"), tmp_path), tmp_path, quiet) as running:
        running.wait_up()
        mine = {str(child.pid) for child in running.runner._children.values()}
        held = {
            path.name
            for path in FOLDER.iterdir()
            if path.name not in before and any(str(path) in _maps(pid) for pid in mine)
        }
    assert held
    assert not held & {path.name for path in FOLDER.iterdir()}


def _maps(pid: str) -> str:
    return Path(f"/proc/{pid}/maps").read_text()
