"""What the bench measures, on made-up commands."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("ur_dashboard_msgs", reason="the messages of the UR driver are not installed")
pytest.importorskip("controller_manager_msgs", reason="the messages of ros2_control are not installed")

from benchmarks.faults import table
from benchmarks.faults.bench import KINDS
from benchmarks.faults.cases import FAULTS
from benchmarks.faults.fault import RESET, Outcome, complaints
from benchmarks.faults.record import Command, Recording, Setpoint, Status
from vla_ros.robots import load_robot
from vla_ros.types import SafetyState

pytestmark = pytest.mark.live

UR5 = load_robot("ur5")
PERIOD = 1.0 / UR5.simulated_control_rate


def recording(steps: list[float]) -> Recording:
    """One command a period from time 10 on; every joint moves by these steps [rad]."""
    made = Recording()
    at, positions = 10.0, UR5.home.copy()
    for tick, step in enumerate([0.0, *steps], start=1):
        positions = positions + step
        made.commands.append(Command(at, positions))
        made.setpoints.append(
            Setpoint(at, tick, positions, 0.0 * positions, 0.0 * positions, 0.05, 1, tick // 10)
        )
        at += PERIOD
    return made


def test_last_motion_and_travel_count_from_the_fault() -> None:
    made = recording([0.001] * 10 + [0.0] * 10)
    assert made.last_motion(9.0) == pytest.approx(10.0 + 10 * PERIOD)
    assert made.travel(9.0) == pytest.approx(np.full(6, 0.01))
    assert made.travel(10.0 + 5.5 * PERIOD) == pytest.approx(np.full(6, 0.005))
    # going there and back is not standing still
    assert recording([0.001, -0.001] * 5).travel(9.0) == pytest.approx(np.full(6, 0.01))
    assert made.last_motion(20.0) == 20.0


def test_what_others_command_is_not_the_controllers() -> None:
    made = recording([0.001] * 10)
    made.commands.insert(5, Command(10.0 + 4.5 * PERIOD, UR5.home + 1.0))
    assert made.travel(9.0).max() > 1.9
    assert made.travel(9.0, foreign=True) == pytest.approx(np.full(6, 0.01))
    still = recording([0.0] * 100)
    still.commands.insert(50, Command(10.0 + 49.5 * PERIOD, UR5.home + 1.0))
    assert still.judge(UR5, 9.0, foreign=True).violations == ()


def test_the_judge_finds_a_step_and_a_command_that_is_no_setpoint() -> None:
    still = recording([0.0] * 100)
    assert still.judge(UR5, 9.0, foreign=False).violations == ()
    still.commands.insert(50, Command(10.0 + 49.5 * PERIOD, UR5.home + 0.001))
    assert Counter(v.kind for v in still.judge(UR5, 9.0, False).violations) == {"foreign_command": 1}
    assert "velocity" in recording([0.0] * 50 + [0.1] + [0.0] * 50).judge(UR5, 9.0, False).by_kind


def test_bursts_of_delivery_break_no_limit() -> None:
    # 0.3 rad/s from rest would be a step; smoothly up and down it is none
    ramp = 0.3 * PERIOD * np.sin(np.linspace(0.0, np.pi, 200)) ** 4
    made = recording(ramp.tolist())
    for k, (command, setpoint) in enumerate(zip(made.commands, made.setpoints, strict=True)):
        late = 10.0 + (k // 25 + 1) * 25 * PERIOD + 1e-5 * k
        made.commands[k] = Command(late, command.positions)
        made.setpoints[k] = replace(setpoint, at=late)
    assert made.judge(UR5, 9.0, False).violations == ()


def test_a_silent_controller_is_gone() -> None:
    made = Recording()
    assert made.state() == "GONE"
    made.statuses.append(Status(time.monotonic(), SafetyState.RUNNING, "", ("leash",)))
    assert made.state() == "RUNNING"
    made.statuses[0] = Status(time.monotonic() - 5.0, SafetyState.RUNNING, "", ())
    assert made.state() == "GONE"


def outcome(**changes: object) -> Outcome:
    given: dict[str, object] = {
        "name": "joints_off", "title": "joint states end", "seconds": 0.5, "angle": 0.1, "state": "FAULT",
        "message": "", "reasons": (), "violations": 0, "verdict": "", "recovery": RESET,
        "recovery_seconds": 1.0, "goes_on": False,
    }  # fmt: skip
    return Outcome(**{**given, **changes})  # type: ignore[arg-type]


def test_every_bound_can_be_broken() -> None:
    fault = next(fault for fault in FAULTS if fault.name == "joints_off")
    assert complaints(fault, outcome()) == []
    for change in (
        {"seconds": 5.0},
        {"angle": 1.0},
        {"state": "RUNNING"},
        {"violations": 1, "verdict": "a limit was broken"},
        {"recovery": "by itself"},
    ):
        assert len(complaints(fault, outcome(**change))) == 1


def test_the_list_of_faults_is_sound() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    kinds = [fault.bench for fault in FAULTS]
    assert set(kinds) == set(KINDS) and kinds == sorted(kinds, key=list(dict.fromkeys(kinds)).index)


def test_the_table_in_the_document_is_that_of_the_results() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    document = json.loads(table.RESULT.read_text(encoding="utf-8"))
    assert table.with_faults(text, document) == text
    assert {found["name"] for found in document["faults"]} == {fault.name for fault in FAULTS}
    assert all(found["title"] in text for found in document["faults"])
