"""Replay as a regression test: the same to the last bit, and a plain diff when something has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.data.bag import BagWriter, bag_metadata, read_bag
from vla_ros.errors import DataError
from vla_ros.evaluation.bag_replay import BagReplay, replay_bag
from vla_ros.evaluation.golden import Golden, compare, load_golden, save_golden
from vla_ros.lockstep.demonstrate import Demonstrator, Order

pytest_plugins = ["pytester"]
SMALL = """
robot: widowx
cameras:
  primary: {width: 64, height: 48, rate: 5.0}
"""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    contract = folder / "small.yaml"
    contract.write_text(SMALL)
    demonstrator = Demonstrator(Order(str(contract), ("pick",), 4), folder)
    result = demonstrator.make(4)
    demonstrator.close()
    assert result.success
    return folder / "episode_000004"


@pytest.fixture(scope="module")
def replayed(bag: Path) -> BagReplay:
    return replay_bag(bag)


@pytest.fixture(scope="module")
def reference(replayed: BagReplay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "pick.npz"
    replayed.save(path)
    return path


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """A copy of a bag; `change(topic, message)` may alter a message, or answer False to leave it out."""
    with BagWriter(target, bag_metadata(source)) as writer:
        for entry in read_bag(source):
            writer.types = entry.types
            message = entry.message
            if change(entry.topic, message) is not False:
                writer.write(entry.topic, entry.type_name, entry.stamp, message)
    return target


def test_what_is_stepped_through_is_the_episode(replayed: BagReplay) -> None:
    trace = replayed.traces[0]
    assert len(trace.chunks) == len(trace.outputs) > 20 and len(trace.observations) > 15
    assert not trace.refused and not replayed.limit_violations()
    moved = np.ptp(np.array(trace.positions), axis=0)
    assert moved.max() > 0.2


def test_another_process_with_other_threads_gives_the_same_bits(bag: Path, reference: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from vla_ros.evaluation.bag_replay import replay_bag;"
        "print(replay_bag(Path(sys.argv[1])).compare(Path(sys.argv[2])).text())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(bag), str(reference)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == ""


def test_the_controllers_state_of_before_leaves_no_trace(bag: Path, tmp_path: Path) -> None:
    """Episodes share one controller: each must be as if it were alone."""
    from vla_ros.lockstep.recorded import read_recorded_run
    from vla_ros.lockstep.replayed import replay_run

    run = read_recorded_run(bag, setpoints=False)
    run.episodes = [*run.episodes, *run.episodes]
    first, second = replay_run(run)
    assert np.array_equal(np.array(first.positions), np.array(second.positions))
    assert first.states == second.states


def test_a_changed_blending_names_the_key_and_the_commands(
    bag: Path, reference: Path, tmp_path: Path
) -> None:
    given = yaml.safe_load(bag_metadata(bag)["contract"])
    given["blending"] = "temporal_ensemble"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(given))
    found = replay_bag(bag, tmp_path / "other.yaml").compare(reference)
    assert found.differences[0].sentence == "blending: replace -> temporal_ensemble"


def test_a_changed_limit_is_a_line_and_changes_the_commands(
    bag: Path, replayed: BagReplay, reference: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    robots = tmp_path / "config" / "robots"
    shutil.copytree(replayed.contract.robot.yaml_path.parent, robots)
    text = (robots / "widowx.yaml").read_text()
    known = yaml.safe_load(text)["applied"]["velocity_scale"]
    assert f"velocity_scale: {known}" in text
    (robots / "widowx.yaml").write_text(text.replace(f"velocity_scale: {known}", "velocity_scale: 0.05", 1))
    from vla_ros.robots import loader

    real = loader.resource_path
    monkeypatch.setattr(
        loader, "resource_path",
        lambda *parts: tmp_path.joinpath(*parts) if parts[:2] == ("config", "robots") else real(*parts),
    )  # fmt: skip
    found = replay_bag(bag).compare(reference)
    assert f"applied.velocity_scale: {known} -> 0.05" in found.text()
    commands = [one for one in found.differences if one.stage == "positions"]
    assert commands and "rad in " in commands[0].sentence and "tick " in commands[0].sentence


def test_one_changed_action_is_found_where_it_is(bag: Path, reference: Path, tmp_path: Path) -> None:
    count = [0]

    def nudge(topic: str, message: Any) -> None:
        if topic == "/vla/policy_output":
            count[0] += 1
            if count[0] == 5:
                message.values = message.values + np.array([0.0, 0.0, 0.004, 0.0, 0.0, 0.0, 0.0])

    found = replay_bag(rewritten(bag, tmp_path / "nudged", nudge)).compare(reference)
    outputs = next(one for one in found.differences if one.stage == "outputs")
    assert "number 4 " in outputs.sentence and "'z'" in outputs.sentence
    assert "at most by 0.004" in outputs.sentence
    assert {"chunks", "positions"} <= {one.stage for one in found.differences}


def test_a_tolerance_lets_small_differences_pass(replayed: BagReplay) -> None:
    golden = replayed.golden
    arrays = {name: array.copy() for name, array in golden.arrays.items()}
    arrays["e0/positions"][100, 1] += 1e-7
    other = Golden(golden.meta, arrays)
    exact = compare(golden, other)
    assert len(exact.differences) == 1 and "tick 100" in exact.differences[0].sentence
    assert "1e-07 rad" in exact.differences[0].sentence
    assert compare(golden, other, 1e-6).same and not compare(golden, other, 1e-8).same
    arrays["e0/positions"][50, 0] = np.nan
    assert "tick 50" in compare(golden, other, 1e-6).differences[0].sentence


def test_the_command_writes_compares_and_draws(bag: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.npz"
    runner = CliRunner()
    missing = runner.invoke(app, ["replay", str(bag), "--golden", str(target)])
    assert missing.exit_code == 2 and not target.exists()
    assert runner.invoke(app, ["replay", str(bag), "--golden", str(target), "--update"]).exit_code == 0
    again = runner.invoke(app, ["replay", str(bag), "--golden", str(target)])
    assert again.exit_code == 0 and "to the last bit" in again.output
    golden = load_golden(target)
    arrays = dict(golden.arrays)
    arrays["e0/positions"] = arrays["e0/positions"] + 1e-3
    save_golden(Golden(golden.meta, arrays), target)
    report = tmp_path / "diff.json"
    differs = runner.invoke(app, ["replay", str(bag), "--golden", str(target), "--json", str(report)])
    assert differs.exit_code == 1 and "0.001 rad" in differs.output
    assert target.with_suffix(".diff.png").stat().st_size > 5000
    assert json.loads(report.read_text())["differences"][0]["stage"] == "positions"


def test_the_fixture_in_three_lines(bag: Path, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
        def test_my_pick(bag_replay):
            bag_replay({str(bag)!r}).matches("golden/pick.npz").within_limits().without_stops()
    """)
    pytester.mkdir("golden")
    first = pytester.runpytest_subprocess("-q")
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["*does not exist*--update-golden*"])
    pytester.runpytest_subprocess("-q", "--update-golden").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def reverse_clock(topic: str, message: Any) -> None:
    if topic == "/vla/observation" and message.sequence == 9:
        message.header.stamp.sec -= 3


def not_a_number(topic: str, message: Any) -> None:
    if topic == "/vla/policy_output":
        message.values = np.where(np.arange(len(message.values)) == 1, np.nan, message.values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (reverse_clock, "the clock goes back by"),
        (not_a_number, "is not finite in dimension y"),
        (lambda topic, message: topic != "/vla/policy_output", "has no topic /vla/policy_output"),
        (lambda topic, message: topic != "/vla/episode_status", "has no topic /vla/episode_status"),
    ],
)
def test_bags_that_are_no_reference(bag: Path, tmp_path: Path, change: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        replay_bag(rewritten(bag, tmp_path / "changed", change))


def test_truncated_empty_and_other_files(bag: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    data = next(bag.glob("*.mcap")).read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut off"):
        replay_bag(cut)
    cut.write_bytes(data[:-200])
    with pytest.raises(DataError, match="bag repair"):
        replay_bag(cut)
    empty = tmp_path / "empty.mcap"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="not an MCAP"):
        replay_bag(empty)
    with pytest.raises(DataError, match="no golden file"):
        load_golden(cut)


def test_another_robots_contract_is_refused_in_one_sentence(bag: Path, tmp_path: Path) -> None:
    path = tmp_path / "panda.yaml"
    path.write_text("robot: panda\n")
    with pytest.raises(DataError, match="recorded with robot 'widowx'.*says 'panda'"):
        replay_bag(bag, path)
