"""Recorded actions played again in their scene, from the command line too."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from demonstration_bag import Demonstration, small_contract, write_bag
from typer.testing import CliRunner

from vla_ros.bringup.graph import GraphOptions, Process
from vla_ros.bringup.session import prepared, session
from vla_ros.cli import app
from vla_ros.data.bag import BagWriter, bag_metadata, read_bag
from vla_ros.errors import VlaRosError
from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.run_data import load_run
from vla_ros.lockstep.demonstrate import Demonstrator, Order
from vla_ros.nodes.conversions import to_stamp
from vla_ros.robots import load_robot

SMALL = """
robot: widowx
cameras:
  primary: {width: 64, height: 48, rate: 5.0}
"""


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("into")
    contract = folder / "small.yaml"
    contract.write_text(SMALL)
    demonstrator = Demonstrator(Order(str(contract), ("pick",), 0), folder / "bags")
    assert all(demonstrator.make(seed).success for seed in (0, 1))
    demonstrator.close()
    return folder / "bags"


def test_every_episode_ends_as_it_did_on_the_same_path(bags: Path, tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    done = CliRunner().invoke(app, ["replay", str(bags), "--into", "sim", "--json", str(target)])
    assert done.exit_code == 0 and "2 of 2 succeeded" in done.output
    for row in json.loads(target.read_text())["episodes"]:
        assert row["recorded"] == row["replayed"] == "success"
        assert row["path_max_m"] < 1e-4


def stripped(source: Path, target: Path, scene_topic: bool) -> Path:
    """A copy without the metadata key `scene`: what the live recorder writes says it on a topic."""
    metadata = {k: v for k, v in bag_metadata(source).items() if k != "scene"}
    with BagWriter(target, metadata) as writer:
        for entry in read_bag(source):
            writer.types = entry.types
            if scene_topic or entry.topic != "/simulator/scene":
                writer.write(entry.topic, entry.type_name, entry.stamp, entry.raw)
    return target


def test_the_scene_is_found_on_its_topic_and_the_arm_where_it_was(bags: Path, tmp_path: Path) -> None:
    bag = stripped(bags / "episode_000001", tmp_path / "live", True)
    done = CliRunner().invoke(app, ["replay", str(bag), "--into", "sim"])
    assert done.exit_code == 0 and "1 of 1 succeeded" in done.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--into", "moon"], "known are sim, graph"),
        (["--into", "sim", "--speed", "0.01"], "it may be from 0.1 to 10"),
        (["--into", "sim", "--paused"], "needs a terminal"),
    ],
)
def test_mistakes_are_a_sentence(bags: Path, arguments: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", "replay", str(bags), *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_bag_without_a_scene_is_refused(bags: Path, tmp_path: Path) -> None:
    bag = stripped(bags / "episode_000000", tmp_path / "bare", False)
    done = CliRunner().invoke(app, ["replay", str(bag), "--into", "sim"])
    assert done.exit_code == 2


@contextmanager
def at_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Callable[..., bool]]]:
    """The command with a pseudo-terminal: its process, the terminal, and a wait for words on it."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_ros.cli", "replay", *arguments], stdin=slave, stdout=slave, stderr=slave
    )
    text = ""

    def until(words: str, seconds: float, tell: bool = False) -> bool:
        nonlocal text
        end = time.monotonic() + seconds
        while words not in text and time.monotonic() < end:
            if select.select([master], [], [], 0.05)[0]:
                text += os.read(master, 4096).decode()
        if tell and words not in text:
            print(text)
        return words in text

    try:
        yield process, master, until
    finally:
        if process.poll() is None:
            # the end by hand first: a graph takes its processes down
            os.write(master, b"q")
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def test_pause_single_steps_and_the_end_by_keys(bags: Path) -> None:
    with at_a_terminal(str(bags / "episode_000000"), "--into", "sim", "--paused") as (process, keys, until):
        assert until("q: end", 60.0)
        assert not until("succeeded", 1.5)  # it waits
        os.write(keys, b"..")
        assert not until("succeeded", 0.5)
        os.write(keys, b" ")
        assert until("1 of 1 succeeded", 60.0, tell=True)
        assert process.wait(10.0) == 0


def test_the_speed_is_changed_while_it_runs(bags: Path) -> None:
    bag = str(bags / "episode_000000")
    with at_a_terminal(bag, "--into", "sim", "--speed", "0.1") as (process, keys, until):
        assert until("q: end", 60.0)
        # over a minute at this speed
        assert not until("succeeded", 3.0)
        os.write(keys, b"++++++")
        assert until("1 of 1 succeeded", 60.0, tell=True)
        assert process.wait(10.0) == 0


@pytest.mark.live
def test_through_the_graph_in_its_own_time(bags: Path, tmp_path: Path) -> None:
    """At another speed the same steps are done: the world, the controller and the actions share one clock."""
    target = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", "replay", str(bags), "--into", "graph", "--speed", "10",
         "--episodes", "1", "--json", str(target), "--runs", str(tmp_path / "runs")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240.0,
    )  # fmt: skip
    assert done.returncode == 0 and "1 of 1 succeeded" in done.stdout, done.stdout + done.stderr
    for row in json.loads(target.read_text())["episodes"]:
        assert row["recorded"] == row["replayed"] == "success"
    bag = next((tmp_path / "runs").glob("*/bag"))
    clock, ticks, stamps, late = [], [], [], []
    for entry in read_bag(bag, ("/clock", "/vla/joint_setpoint")):
        if entry.topic == "/clock":
            clock.append(to_stamp(entry.message.clock))
        else:
            ticks.append(entry.message.tick)
            stamps.append(to_stamp(entry.message.header.stamp))
            late.append(entry.stamp - stamps[-1])
    # the bag's own stamps too are of that time, whatever its speed was
    assert np.quantile(np.abs(late), 0.99) < 0.1e9
    assert len(clock) > 500 and (np.diff(clock) >= 0).all()
    # a tick every 10 ms of that time, without a single one left out, however busy this machine was
    assert (np.diff(ticks) == 1).all() and (np.abs(np.diff(stamps) - 10_000_000) <= 1).all()
    robot = load_robot("widowx")
    verdict = judge_run(load_run(bag, robot), robot)
    assert verdict.violations == (), verdict.sentence()


def test_every_episode_of_a_bag_goes_through_the_graph_without_a_scene_too(tmp_path: Path) -> None:
    """As a recording of a real robot: nobody can judge it, and nothing is refused for that."""
    demos = [
        Demonstration(episode_id="a", seconds=2.0),
        Demonstration(episode_id="b", seconds=3.0, instruction="again"),
    ]
    bag = write_bag(tmp_path / "many", *demos)
    target = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", "replay", str(bag), "--into", "graph", "--speed", "5",
         "--json", str(target), "--runs", str(tmp_path / "runs")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240.0,
    )  # fmt: skip
    assert done.returncode == 0 and "-> not judged" in done.stdout, done.stdout + done.stderr
    rows = json.loads(target.read_text())["episodes"]
    assert [row["episode_id"] for row in rows] == ["a", "b"]
    assert rows[0]["steps"] < rows[1]["steps"] and rows[0]["seconds"] < rows[1]["seconds"]
    played = [entry.message.instruction for entry in read_bag(next((tmp_path / "runs").glob("*/bag")),
              ("/vla/policy_output",))]  # fmt: skip
    assert set(played) == {demos[0].instruction, "again"}


def test_bags_of_different_contracts_are_not_played_together(bags: Path, tmp_path: Path) -> None:
    write_bag(tmp_path / "one", Demonstration())
    write_bag(tmp_path / "other", Demonstration(contract=small_contract(action_space="bridge")))
    done = CliRunner().invoke(app, ["replay", str(tmp_path), "--into", "graph"])
    assert done.exit_code == 2 and not (tmp_path / "runs").exists()


def test_the_graph_is_paused_stepped_and_made_faster_by_keys(bags: Path, tmp_path: Path) -> None:
    arguments = ("--into", "graph", "--speed", "0.5", "--paused", "--runs", str(tmp_path / "runs"))
    with at_a_terminal(str(bags / "episode_000001"), *arguments) as (process, keys, until):
        assert until("q: end", 60.0)
        assert not until("actions in", 9.0)  # it waits
        os.write(keys, b"...")
        assert not until("actions in", 1.5)
        os.write(keys, b"++ ")
        assert until("1 of 1 succeeded", 120.0, tell=True)
        assert process.wait(30.0) == 0


def test_another_speed_without_a_clock_is_refused() -> None:
    """Nobody would know of it: the simulator says so and does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.nodes.simulator", "--ros-args", "-p", "speed:=2.0"],
        capture_output=True, text=True, check=False, timeout=60.0,
    )  # fmt: skip
    assert done.returncode == 2 and "without publish_clock nobody would know of it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.live
def test_a_real_robot_is_not_controlled_on_a_clock_that_messages_set(tmp_path: Path) -> None:
    processes = [
        Process(p.name, {**p.parameters, "follow_clock": True}) if p.name == "safety_controller" else p
        for p in prepared(GraphOptions(robot="widowx"), tmp_path)
    ]
    with (
        pytest.raises(VlaRosError, match=r"'safety_controller' refused to start.*this machine's clock"),
        session(processes, tmp_path, lambda name, line: None) as running,
    ):
        running.wait_up()
