"""Policies by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import load_contract
from vla_ros.errors import PolicyError
from vla_ros.policies.base import Policy
from vla_ros.policies.registry import (
    contract_policy,
    family,
    make_policy,
    policy_names,
    policy_requirements,
)
from vla_ros.preflight import preflight
from vla_ros.robots import load_robot

PANDA = load_robot("panda")


def test_knows_the_policies_without_weights() -> None:
    assert {"visual_servo", "replay"} <= set(policy_names())


def test_makes_a_policy() -> None:
    policy = make_policy("visual_servo", PANDA, horizon=6)
    assert isinstance(policy, Policy)
    assert policy.requirements.horizon == 6


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(PolicyError, match=r"'visual_serve' is unknown, known are visual_servo, replay"):
        make_policy("visual_serve", PANDA)


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        PolicyError, match=r"no option 'horizont', its options are action_space, rate, horizon, latency\."
    ):
        make_policy("visual_servo", PANDA, horizont=6)


def test_a_contract_names_policy_space_and_cameras() -> None:
    contract = load_contract(
        "panda", action_space="bridge", cameras={"wrist": {}}, policy_options={"horizon": 5}
    )
    needs = contract_policy(contract).requirements
    assert (needs.action_space, needs.horizon) == ("bridge", 5)
    assert [need.name for need in needs.cameras] == ["wrist"]
    assert policy_requirements(contract) == needs
    preflight(contract, needs)


def test_a_contract_in_a_space_the_policy_does_not_speak_is_refused() -> None:
    with pytest.raises(PolicyError, match="delta_tcp or bridge, but 'droid'"):
        policy_requirements(load_contract("panda", action_space="droid"))


def test_replay_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "actions.npz"
    np.savez(path, actions=np.zeros((4, 7)), action_space="bridge", rate=5.0)
    contract = load_contract(
        "widowx", policy="replay", action_space="bridge", policy_options={"path": str(path)}
    )
    assert policy_requirements(contract).cameras == ()
    preflight(contract, policy_requirements(contract))


def test_importing_the_registry_imports_no_family() -> None:
    code = (
        "import sys, vla_ros.policies.registry; "
        "print([m for m in ('cv2', 'vla_ros.policies.visual_servo', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_light_policies_pay_for_no_model() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    code = (
        "import sys, vla_ros.nodes.inference, vla_ros.nodes.chunker; "
        "print([m for m in ('msgpack', 'torch', 'vla_ros.policies.process.isolated') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_models_run_in_a_process_of_their_own() -> None:
    assert [name for name in policy_names() if not family(name).isolated] == [
        "visual_servo",
        "replay",
        "remote",
        "none",
    ]
