"""The benchmarks run and add up; what they measure is not judged here."""

from __future__ import annotations

import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import figures, machine, safety_cycle, tables
from benchmarks.figures import Logs, evaluate, period_errors, summary
from vla_ros.errors import ConfigurationError, MachineError

pytestmark = pytest.mark.live

MS = 1_000_000
BEGIN = 1_000_000_000_000


def logs(**changes: Any) -> Logs:
    """A second in which two cameras give 10 frames, 5 ms apart; observations leave 3 ms later."""
    primary = BEGIN + 100 * MS * np.arange(10)
    wrist = primary + 5 * MS
    n = np.arange(10)
    observations = np.column_stack([primary, 1 + n, primary + 8 * MS, primary + 10 * MS, primary, wrist])
    published = primary + 20 * MS
    ticks = BEGIN + 4 * MS * np.arange(250)
    sequences = np.searchsorted(published + 2 * MS, ticks, side="right")
    commands = ticks + MS
    parts: dict[str, Any] = {
        "begin": BEGIN,
        "end": BEGIN + 1000 * MS,
        "cameras": ["primary", "wrist"],
        "frames": {"primary": primary, "wrist": wrist},
        "observations": observations,
        "outputs": np.column_stack([primary, 1 + n, published, published]),
        "chunks": np.column_stack([primary, 1 + n, published + MS]),
        "setpoints": np.column_stack([ticks, np.arange(250), ticks + 2 * MS, sequences]),
        "commands": np.column_stack([commands, commands + MS]),
        "statuses": np.array([[BEGIN, 3, MS, 0], [BEGIN + 900 * MS, 5, MS, 0]], np.int64),
        "ingester": [],
        "bare_loops": {"bare": ticks},
    }
    return Logs(**{**parts, **changes})


def test_nothing_lost_and_latencies_as_made() -> None:
    found = evaluate(logs(), 0.004)
    assert (
        found["frames"]["published"] == found["frames"]["in_an_observation"] == {"primary": 10, "wrist": 10}
    )
    assert sum(found["frames"]["lost"].values()) == 0
    latency = found["latency_ms"]
    assert latency["stamp to Observation sent"]["max"] == pytest.approx(8.0)
    assert latency["of it, waiting for the other camera's frame"]["p50"] == pytest.approx(5.0)
    assert latency["stamp to Observation sent, beyond the pairing interval"]["max"] == pytest.approx(3.0)
    assert latency["stamp to Observation received, beyond the pairing interval"]["max"] == pytest.approx(5.0)
    assert latency["PolicyOutput to ActionChunk"]["p50"] == pytest.approx(1.0)
    # published 20 ms after each frame, taken over by the tick 4 ms later, command 1 ms after that
    assert latency["PolicyOutput to first command, sent to the driver"]["max"] == pytest.approx(5.0)
    assert latency["PolicyOutput to first command, received by the driver"]["max"] == pytest.approx(6.0)
    assert latency["PolicyOutput to first /vla/joint_setpoint"]["max"] == pytest.approx(6.0)
    assert found["period_error_ms"]["bare"]["max"] == 0.0
    assert found["controller"] == {
        "ticks": 250,
        "overruns": 2,
        "computing_time_p99_ms": 1.0,
        "waking_period_error_p99_ms": 0.0,
        "policy_outputs": 10,
        "outputs_without_command": 0,
    }
    assert all(target["met"] for target in found["targets"].values())


def test_lost_frames_are_counted_where_they_went() -> None:
    whole = logs()
    refusals = [
        {"stamp": BEGIN - 1, "counts": {"stale": 4, "observations": 9}},
        {"stamp": BEGIN + 900 * MS, "counts": {"stale": 5, "observations": 15}},
    ]
    # two observations unheard (their sequences are missing), one never made
    heard = np.delete(whole.observations, [2, 3, 7], axis=0)
    heard[heard[:, 1] > 7, 1] -= 1
    found = evaluate(logs(observations=heard, ingester=refusals), 0.004)
    assert found["frames"]["lost"] == {"primary": 3, "wrist": 3}
    assert found["frames"]["lost_where"] == {
        "refused by the ingester": {"stale": 1},
        "in Observations that did not reach the observer": 4,
        "before the ingester, or without a partner": 1,
    }
    assert not found["targets"][figures.LOST]["met"]


def test_a_late_tick_and_a_missing_command_show() -> None:
    whole = logs()
    late = whole.setpoints.copy()
    late[100, 2] += 2 * MS
    found = evaluate(logs(setpoints=late), 0.004)
    error = found["period_error_ms"]["controller, /vla/joint_setpoint sent"]
    assert error["max"] == pytest.approx(2.0) and error["p50"] == 0.0
    silent = whole.setpoints.copy()
    silent[silent[:, 3] == 5, 3] = 4
    assert evaluate(logs(setpoints=silent), 0.004)["controller"]["outputs_without_command"] == 1


def test_a_run_without_anything_meets_no_latency_target() -> None:
    empty = {
        name: getattr(logs(), name)[:0]
        for name in ("observations", "outputs", "chunks", "setpoints", "commands", "statuses")
    }
    targets = evaluate(logs(**empty), 0.004)["targets"]
    assert not any(target["met"] for target in targets.values())


def test_period_errors_skip_gaps_between_ticks() -> None:
    times = np.array([0, 4, 9, 20]) * MS
    assert period_errors(times, 0.004, np.array([1, 2, 3, 5])).tolist() == [0.0, MS]
    assert period_errors(times, 0.004).tolist() == [0.0, MS, 7.0 * MS]


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=200))
def test_percentiles_are_ordered(values: list[float]) -> None:
    found = summary(np.array(values), tails=True)
    assert found["count"] == len(values)
    ordered = [found[key] for key in ("p50", "p95", "p99", "p99.9", "max")]
    assert ordered == sorted(ordered) and ordered[-1] == pytest.approx(max(values), abs=1e-3)


def test_a_result_without_a_value_is_null_and_a_bad_path_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    machine.write_json(path, {"a": {"b": [math.nan, 1.5]}})
    assert json.loads(path.read_text()) == {"a": {"b": [None, 1.5]}}
    with pytest.raises(ConfigurationError, match="cannot be written"):
        machine.write_json(path / "below.json", {})


def test_cpu_time_is_that_of_the_process() -> None:
    begun, before = time.process_time(), machine.cpu_seconds(os.getpid())
    while time.process_time() - begun < 0.3:
        sum(range(1000))
    # both clocks count the same time; proc(5) in ticks of 10 ms
    elapsed = time.process_time() - begun
    assert machine.cpu_seconds(os.getpid()) - before == pytest.approx(elapsed, abs=0.03)
    assert machine.cpu_seconds(2**22 + 1) == 0.0


def test_the_safety_cycle_yields_every_stage() -> None:
    found = safety_cycle.cycles("widowx", 30)
    assert found["cycles"] == 30 and found["end_state"] in ("RUNNING", "LIMITED")
    stages = found["stages_ms"]
    assert set(stages) == {
        "whole cycle", *safety_cycle.STAGES, "rest", "bare inverse kinematics (pinocchio, daqp)"
    }  # fmt: skip
    assert all(stage["count"] == 30 and stage["max"] >= stage["p50"] > 0.0 for stage in stages.values())
    document = {"benchmark": "safety_cycle", **machine.describe(), "robots": {"widowx": found}}
    assert len(tables.safety_tables(document)) == 1


def test_the_graph_runs_for_two_seconds_and_yields_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from benchmarks.graph import Plan, measure, median_run

    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        try:
            document = median_run([measure(Plan(warm_up=1.0, seconds=2.0), folder)])
            break
        except MachineError as error:
            # on a machine busy with other work the robot may be stopped before it moves
            failure = str(error)
    else:
        pytest.fail(failure)
    frames = document["frames"]
    for camera in ("primary", "wrist"):
        assert frames["published"][camera] > 0
        assert frames["published"][camera] == frames["in_an_observation"][camera] + frames["lost"][camera]
    assert all(row["count"] > 0 for row in document["latency_ms"].values())
    assert len(document["period_error_ms"]) == 4
    assert all(row["count"] > 0 for row in document["period_error_ms"].values())
    nodes = {"ingester", "inference", "chunker", "safety_controller", "source", "observer", "supervisor"}
    assert nodes <= set(document["cpu_percent"])
    assert all(document["cpu_percent"][name] > 0.0 for name in ("ingester", "safety_controller"))
    assert set(document["targets"]) == set(figures.LIMITS)
    assert {"date", "command", "machine", "versions", "setup", "runs"} <= set(document)
    assert len(tables.graph_tables(document)) == 5
    path = tmp_path / "graph.json"
    machine.write_json(path, document)
    text = "<!-- graph: begin -->\n<!-- graph: end -->\n"
    assert "| frames lost |" in tables.with_results(text, tmp_path)


def test_raw_observations_are_read_as_their_type_is() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from rclpy.serialization import serialize_message

    from benchmarks.cdr import observation_stamps
    from vla_ros.nodes.conversions import observation_message
    from vla_ros.types import CameraImage, JointState, Observation, Pose

    name = st.text("abcdefghij_", min_size=1, max_size=9)
    stamp = st.integers(0, 2**31 * 10**9 - 1)
    size = st.integers(1, 9)

    @settings(deadline=None)
    @given(
        st.dictionaries(name, st.tuples(stamp, size, size), min_size=1, max_size=4),
        stamp,
        st.integers(0, 2**63),
        name,
    )
    def check(cameras: dict[str, tuple[int, int, int]], time: int, sequence: int, frame: str) -> None:
        images = {k: CameraImage(s, np.zeros((h, w, 3), np.uint8)) for k, (s, h, w) in cameras.items()}
        nothing = np.zeros(0)
        joints = JointState(time, np.zeros(1), nothing, nothing)
        pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        observation = Observation(time, sequence, images, joints, 0.0, pose)
        found = observation_stamps(bytes(serialize_message(observation_message(observation, ("j",), frame))))
        assert (found.stamp, found.sequence) == (time, sequence)
        assert found.cameras == {k: s for k, (s, _, _) in cameras.items()}

    check()


SAFETY = (tables.ROOT / "docs" / "safety.md").read_text(encoding="utf-8")


def test_the_document_holds_the_committed_results() -> None:
    texts = [path.read_text(encoding="utf-8") for path in tables.DOCUMENTS]
    results = sorted(tables.RESULTS.glob("*.json"))
    if not results:
        pytest.skip("no results are committed in benchmarks/results")
    for path in results:
        places = [SAFETY] if path.stem == "faults" else texts
        found = sum(f"<!-- {path.stem}: begin" in place for place in places)
        assert found == 1, f"the documents have {found} places for {path.name}, not 1"
    for text in texts:
        assert tables.with_results(text) == text, "run `python benchmarks/tables.py`"
    tampered = re.sub(r"\| \d[^|\n]*\|", "| 7 |", texts[0])
    assert tampered != texts[0] and tables.with_results(tampered) == texts[0]
