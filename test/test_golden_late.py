"""Bags of late machines: gone through again, a run that went well goes well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from late_demonstration import Lateness, late_demonstration
from test_golden import rewritten
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.data.bag import bag_metadata
from vla_ros.errors import DataError
from vla_ros.evaluation import bag_replay
from vla_ros.evaluation.bag_replay import replay_bag
from vla_ros.evaluation.golden import Golden, load_golden, save_golden
from vla_ros.lockstep.parity import run_parity
from vla_ros.lockstep.recorded import RecordedRun, read_recorded_run
from vla_ros.lockstep.replayed import replay_run
from vla_ros.lockstep.trace import Trace

pytest_plugins = ["pytester"]


def made(folder: Path, *arguments: Any, **named: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return late_demonstration(patch, folder, Lateness(*arguments, **named))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("late"), 1)


@pytest.fixture(scope="module")
def run(late: Path) -> RecordedRun:
    return read_recorded_run(late)


def recorded(run: RecordedRun, trace: Trace) -> np.ndarray:
    """What the robot was told at the ticks of a trace."""
    told = {row.stamp - trace.start: row.positions for row in run.setpoints}
    return np.array([told[tick] for tick in trace.ticks])


def without_journal(topic: str, message: Any) -> bool:
    return topic != "/vla/control_events"


def test_gone_through_at_its_own_ticks_a_late_run_is_what_the_robot_did(run: RecordedRun) -> None:
    (trace,) = replay_run(run)
    # where a joint state is not in the bag it is interpolated
    assert np.abs(np.array(trace.positions) - recorded(run, trace)).max() < 1e-3
    assert trace.stopped_after is None and trace.moving > 0.7
    assert not any(name.startswith(("STOP", "REJECT", "HOLD stale")) for name in trace.interventions)
    (grid,) = replay_run(run, grid=True)
    # what golden files of format 1 were made of
    assert "HOLD stale_joint_state" in grid.interventions
    assert np.abs(np.array(grid.positions)[-1] - trace.positions[-1]).max() > 0.01


def test_joint_states_that_come_late_hold_the_robot_again_in_the_same_ticks(tmp_path: Path) -> None:
    """How old a state was is not in the bag, so the journal says what followed from it."""
    run = read_recorded_run(made(tmp_path, 2, lost=0.0, outage=0.2, twice=True))
    assert [e for e in run.events if e["event"] == "found" and e["reason"] == "stale_joint_state"]
    parity = run_parity(run)
    assert parity.worst == 0.0 and parity.states == 0, parity
    assert sum(event["event"] == "refused" for event in run.events) > 20
    (trace,) = replay_run(run)
    assert trace.interventions["HOLD stale_joint_state"] >= 1 and trace.stopped_after is None
    assert np.array_equal(np.array(trace.positions), recorded(run, trace))


def test_where_other_commands_come_the_measured_robot_goes_with_them(
    late: Path, run: RecordedRun, tmp_path: Path
) -> None:
    """A robot that is told something else is somewhere else: no tracking error for that."""
    given = yaml.safe_load(bag_metadata(late)["contract"])
    for change in ({"blending": "temporal_ensemble"}, {"control_rate": 250.0}):
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump({**given, **change}))
        (trace,) = replay_bag(late, other).traces
        assert trace.stopped_after is None and trace.moving > 0.6, change
    deaf = [*run.answers[: len(run.answers) // 3], *run.answers[-1:]]
    half = RecordedRun(**{**run.__dict__, "answers": deaf})
    (trace,) = replay_run(half)
    # the robot stays where the answers end, far from where it went
    assert np.abs(np.array(trace.positions) - recorded(run, trace)).max() > 0.2
    assert trace.stopped_after is None


def test_a_bag_that_begins_later_than_its_controller_begins_at_rest(late: Path, tmp_path: Path) -> None:
    cut = read_recorded_run(rewritten(late, tmp_path / "cut", without_journal))
    (trace,) = replay_run(cut)
    assert trace.stopped_after is None and trace.moving > 0.7
    assert np.abs(np.array(trace.positions) - recorded(cut, trace)).max() < 0.02


def stopped_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    read = bag_replay.read_recorded_run

    def stopped(path: Path) -> RecordedRun:
        run = read(path)
        tick = run.setpoints[len(run.setpoints) // 2].tick
        line = {"event": "stop", "tick": tick, "reason": "emergency_stop", "subject": "", "sentence": "hand"}
        run.events.append(line)
        return run

    monkeypatch.setattr(bag_replay, "read_recorded_run", stopped)


def test_a_run_that_stops_becomes_no_golden_file_by_itself(
    late: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_in_the_middle(monkeypatch)
    target, runner = tmp_path / "g.npz", CliRunner()
    call = ["replay", str(late), "--golden", str(target), "--update"]
    refused = runner.invoke(app, call)
    said = " ".join(refused.output.split())
    assert refused.exit_code == 2 and not target.exists()
    assert "the controller stops at tick" in said and "STOP emergency_stop" in said
    assert "--allow-stops" in said and "% are in motion" in said
    allowed = runner.invoke(app, [*call, "--allow-stops"])
    assert allowed.exit_code == 0 and "the controller stops" in allowed.output and target.exists()
    again = runner.invoke(app, call[:-1])
    assert again.exit_code == 0 and "has stopped in" in again.output


def test_a_run_in_which_nothing_moves_becomes_none_either(late: Path, tmp_path: Path) -> None:
    replayed = replay_bag(late)
    trace = replayed.traces[0]
    trace.velocities[:] = [np.zeros(6)] * len(trace.velocities)
    with pytest.raises(DataError, match="nothing moves"):
        replayed.save(tmp_path / "g.npz")
    replayed.save(tmp_path / "g.npz", allow_stops=True)


def test_how_much_moved_is_always_told(late: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["replay", str(late), "--golden", str(tmp_path / "g.npz"), "--update"])
    assert shown.exit_code == 0 and "in motion" in shown.output and "stopped 0%" in shown.output


def test_a_golden_file_of_format_1_is_compared_as_it_was_made(late: Path, tmp_path: Path) -> None:
    replayed = replay_bag(late)
    old = replayed.on_grid().golden
    save_golden(Golden({**old.meta, "format": 1}, old.arrays), tmp_path / "old.npz")
    assert load_golden(tmp_path / "old.npz").grid
    assert replayed.compare(tmp_path / "old.npz").same
    shown = CliRunner().invoke(app, ["replay", str(late), "--golden", str(tmp_path / "old.npz")])
    assert shown.exit_code == 0 and "regular grid" in shown.output
    replayed.save(tmp_path / "new.npz")
    assert replayed.compare(tmp_path / "new.npz").same and not load_golden(tmp_path / "new.npz").grid


def test_the_readmes_fixture_passes_on_a_late_bag(late: Path, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
        def test_my_pick(bag_replay):
            bag_replay({str(late)!r}).matches("golden/pick.npz").within_limits().without_stops()
    """)
    pytester.mkdir("golden")
    pytester.runpytest_subprocess("-q", "--update-golden").assert_outcomes(passed=1)
