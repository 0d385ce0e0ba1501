"""`vla-ros teleop`: what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros.bringup.graph import GraphOptions, TeleopOptions
from vla_ros.commands.teleop import _recorded, drive
from vla_ros.errors import VlaRosError


@pytest.mark.parametrize(
    ("options", "person", "fragment"),
    [
        ({}, {"device": "banana"}, "banana"),
        ({"sim": "none"}, {"device": "scripted", "instruction": "pick"}, "given as 'none'"),
        ({"sim": "gazebo"}, {"device": "scripted", "task": "pick"}, "given as 'gazebo'"),
        ({}, {"device": "gamepad"}, "js"),
        ({}, {"device": "spacemouse"}, "256f"),
        ({}, {"terminal": "/dev/nowhere"}, "nowhere"),
        ({}, {"device": "twist", "task": "juggle"}, "juggle"),
        ({"sim": "none"}, {"device": "twist", "task": "pick"}, "--instruction"),
        ({"robot": "r2d2"}, {"device": "twist"}, "r2d2"),
        ({"policy": "crystal_ball"}, {"device": "twist", "with_policy": True}, "crystal_ball"),
    ],
)
def test_one_sentence_and_no_folder(
    options: dict[str, object], person: dict[str, object], fragment: str, tmp_path: Path
) -> None:
    if person.get("device") == "gamepad" and list(Path("/dev/input").glob("js*")):
        pytest.skip("a gamepad is there")
    with pytest.raises(VlaRosError, match=fragment) as refused:
        drive(GraphOptions(**options, teleop=TeleopOptions(**person)), tmp_path)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_what_was_discarded_is_not_said_to_be_missing(tmp_path: Path) -> None:
    assert _recorded(tmp_path, set()) == f"No episode was recorded in {tmp_path}."
    bag = tmp_path / "discarded" / "20260101-000000_episode_0001"
    bag.mkdir(parents=True)
    (bag / "bag_0.mcap").touch()
    assert "discarded: 1" in _recorded(tmp_path, set())
