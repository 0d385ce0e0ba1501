"""The parameters by which a node is told its contract, and the contract made of them."""

from __future__ import annotations

from typing import Any

from vla_ros.contract import Contract, load_contract
from vla_ros.nodes.parameters import Parameter
from vla_ros.policies.options import mapped_options

CONTRACT_PARAMETERS = (
    Parameter("contract", "panda", "Name of a robot, or path of a contract in YAML."),
    Parameter("simulated", False, "Whether the robot is simulated (rates differ)."),
    Parameter("policy", "", "Name of the policy; empty: the contract's."),
    Parameter("policy_options", "", "Options of the policy as a YAML mapping; empty: the contract's."),
    Parameter("action_space", "", "Name of the action space; empty: the contract's."),
    Parameter("rate", 0.0, "Steps of a chunk per second [Hz]; 0: the action space's own.", 0.0, 200.0),
)


def contract_of(node: Any) -> Contract:
    """The contract a node's parameters describe.  Raises `ConfigurationError` or `ContractError`."""
    options = node.value("policy_options")
    return load_contract(
        node.value("contract"),
        simulated=node.value("simulated"),
        policy=node.value("policy") or None,
        policy_options=mapped_options(options, "Parameter 'policy_options'") if options else None,
        action_space=node.value("action_space") or None,
        action_rate=node.value("rate") or None,
    )
