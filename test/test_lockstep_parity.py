"""The offline path and the live graph: fed with the same, they answer the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from late_machine import StoppedError

from vla_ros.bringup.graph import GraphOptions
from vla_ros.bringup.session import prepared, session
from vla_ros.errors import DataError
from vla_ros.lockstep.parity import run_parity
from vla_ros.lockstep.recorded import RecordedRun, read_recorded_run

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A short run of the whole graph, with a pause, an emergency stop and a reset by hand in it."""
    folder = tmp_path_factory.mktemp("live")
    options = GraphOptions(robot="widowx", record=str(folder / "bag"))
    with session(prepared(options, folder), folder, lambda name, line: None) as running:
        running.wait_up()
        operator = running.operator
        hands = [operator.client(kind, f"/safety_controller/{name}") for kind, name in _services()]
        operator.start_episode("pick", "", 3, running.check)
        moving = operator.wait_until(lambda: operator.first_command is not None, 20.0, running.check)
        if operator.latched:
            raise StoppedError(operator.safety.message)
        assert moving
        operator.wait_until(lambda: False, 2.0, running.check)
        for client in hands:
            operator.call(client, client.srv_type.Request(), 5.0, lambda: None)
            operator.wait_until(lambda: False, 0.8, running.check)
        operator.stop_episode("enough")
    return read_recorded_run(folder / "bag")


def _services() -> list[tuple[type, str]]:
    from std_srvs.srv import Trigger

    return [(Trigger, name) for name in ("pause", "resume", "emergency_stop", "reset")]


def test_every_command_of_a_live_run_is_made_again_to_the_last_bit(live: RecordedRun) -> None:
    parity = run_parity(live)
    assert parity.ticks > 200 and parity.chunks >= 5
    assert parity.worst <= 1e-9, parity
    assert parity.states == 0 and parity.chunk_error == 0.0
    kinds = {event["event"] for event in live.events}
    assert {"activate", "pause", "resume", "stop", "reset"} <= kinds


def test_a_command_that_differs_is_found(live: RecordedRun) -> None:
    row = live.setpoints[-100]
    row.positions[1] += 1e-6
    try:
        parity = run_parity(live)
    finally:
        row.positions[1] -= 1e-6
    assert parity.position == pytest.approx(1e-6, rel=1e-3) and f"tick {row.tick}" in parity.first


def test_a_run_without_its_journal_is_refused_in_a_sentence(live: RecordedRun) -> None:
    events, live.events = live.events, []
    try:
        with pytest.raises(DataError, match="does not say how its controller was activated"):
            run_parity(live)
    finally:
        live.events = events


def test_not_a_bag(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_recorded_run(tmp_path / "nowhere")
