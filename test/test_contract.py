"""Contracts: made from a robot or a file, checked, written and read back, compared with a policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros.actions.normalization import ActionStatistics, Normalization, NormalizationKind
from vla_ros.actions.tokens import TokenCodec
from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError, ContractError, VlaRosError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.preflight import preflight

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


def scaled(key: str, size: int = 7) -> Normalization:
    statistics = ActionStatistics.from_mapping({"mean": [0.0] * size, "std": [1.0] * size}, key)
    return Normalization(key, NormalizationKind.NORMAL, statistics)


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
        (
            PolicyRequirements("bridge", 5.0, 4, normalization=scaled("bridge_orig")),
            r"'bridge' \(of data set 'bridge_orig'\), but the contract of robot 'panda' says 'delta_tcp'",
        ),
        (
            PolicyRequirements("delta_tcp", 5.0, 4, normalization=scaled("kitchen", 8)),
            "'kitchen', whose actions have 8 dimensions, but action space 'delta_tcp' of robot 'panda' has 7",
        ),
        (
            PolicyRequirements("delta_tcp", 5.0, 4, codec=TokenCodec()),
            "answers tokens without saying by which data set .* action space 'delta_tcp'",
        ),
        (
            PolicyRequirements("delta_tcp", 5.0, 8, action_rate=10.0),
            "trained with 10 steps a second, but the contract of robot 'panda' plays 5 a second",
        ),
        (
            PolicyRequirements("delta_tcp", 5.0, 8, (CameraNeed("primary", 1024, 256),)),
            "1024 x 256 pixels of camera 'primary', but robot 'panda' gives 320 x 240",
        ),
        (
            PolicyRequirements("delta_tcp", 30.0, 8, (CameraNeed("primary"),), observation_window=2),
            "last 2 frames 30 times a second, but camera 'primary' of robot 'panda' gives 15 frames",
        ),
    ],
)
def test_preflight_names_both_sides(needs: PolicyRequirements, sentence: str):
    with pytest.raises(ContractError, match=sentence):
        preflight(load_contract("panda"), needs)


def test_preflight_compares_the_key_asked_for_and_the_controllers_rate():
    asked = load_contract("panda", policy="octo", policy_options={"normalization_key": "kitchen"})
    preflight(asked, PolicyRequirements("delta_tcp", 5.0, 8, normalization=scaled("kitchen")))
    with pytest.raises(ContractError, match="'octo' normalises by 'cellar', but .* asks for .* 'kitchen'"):
        preflight(asked, PolicyRequirements("delta_tcp", 5.0, 8, normalization=scaled("cellar")))
    with pytest.raises(ContractError, match="answers physical values, but .* 'kitchen'"):
        preflight(asked, PolicyRequirements("delta_tcp", 5.0, 8))
    slow = load_contract("widowx", control_rate=50.0, action_rate=60.0)
    with pytest.raises(ContractError, match="60 steps a second, but the controller of .* runs at 50 Hz"):
        preflight(slow, PolicyRequirements("delta_tcp", 15.0, 8))


def test_preflight_takes_what_fits():
    contract = load_contract("panda")
    cameras = (CameraNeed("primary", 256, 256), CameraNeed("head", required=False))
    needs = PolicyRequirements("delta_tcp", 5.0, 4, cameras, 2, normalization=scaled("any"), action_rate=5.0)
    preflight(contract, needs)
