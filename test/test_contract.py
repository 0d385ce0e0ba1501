"""Contracts: made from a robot or a file, checked, written and read back, compared with a policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros.contract import load_contract, preflight
from vla_ros.errors import ConfigurationError, ContractError, VlaRosError
from vla_ros.policies.base import CameraNeed, PolicyRequirements

NEEDS = PolicyRequirements("delta_tcp", 5.0, 8, (CameraNeed("primary"),))


def test_a_robot_name_is_a_contract():
    contract = load_contract("panda")
    assert contract.robot.name == "panda" and contract.action_space.name == "delta_tcp"
    assert set(contract.cameras) == {"primary", "wrist"}
    assert contract.control_rate == contract.robot.control_rate
    assert load_contract("panda", simulated=True).control_rate == contract.robot.simulated_control_rate
    preflight(contract, NEEDS)


def test_a_contract_survives_its_own_text(tmp_path: Path):
    changes = {"cameras": {"primary": {"width": 640, "height": 480, "topic": "/cam"}}, "action_rate": 10.0}
    contract = load_contract("ur5", **changes)
    path = tmp_path / "contract.yaml"
    path.write_text(contract.to_yaml())
    again = load_contract(path)
    assert again.cameras["primary"].topic == "/cam" and again.cameras["primary"].width == 640
    assert again.action_space.rate == 10.0
    assert again.to_yaml() == contract.to_yaml()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("robot: pandaa", "pandaa"),
        ("robot: [panda", "not valid YAML"),
        ("- panda", "must be a mapping"),
        ("policy: replay", "must name a robot"),
        ("robot: panda\nspeed: 2", "key 'speed' is unknown"),
        ("robot: panda\naction_space: bridgee", "'bridgee' is unknown"),
        ("robot: panda\naction_rate: fast", "must be a number"),
        ("robot: panda\naction_rate: -1", "must be a number from 0.5 to 200"),
        ("robot: panda\ncontrol_rate: 5000", "must be a number from 50 to 1000"),
        ("robot: panda\nblending: magic", "blending 'magic' is unknown"),
        ("robot: panda\ncameras: {head: {}}", "camera 'head' is not on robot 'panda'"),
        ("robot: panda\ncameras: {wrist: {width: 0}}", "must be a number"),
        ("robot: panda\ncameras: {wrist: {colour: red}}", "may have the keys"),
        ("robot: panda\ncameras: 3", "must be a mapping"),
        ("robot: panda\npolicy_options: 3", "must be a mapping"),
    ],
)
def test_broken_and_contradictory_contracts_are_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
):
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(VlaRosError) as caught:
        load_contract(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_contract(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        (PolicyRequirements("droid", 5.0, 8), "answers in action space 'droid', but the contract"),
        (PolicyRequirements("delta_tcp", 5.0, 8, (CameraNeed("head"),)), "needs camera 'head'"),
        (
            PolicyRequirements("delta_tcp", 5.0, 8, robots=("ur5",)),
            "is for ur5, but the contract's robot is 'panda'",
        ),
        (PolicyRequirements("delta_tcp", 0.5, 4), "would starve between chunks"),
    ],
)
def test_preflight_names_both_sides(needs: PolicyRequirements, sentence: str):
    with pytest.raises(ContractError, match=sentence):
        preflight(load_contract("panda"), needs)
