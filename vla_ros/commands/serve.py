"""`vla-ros policy serve`: a policy for other machines, in openpi's wire form."""

from __future__ import annotations

from vla_ros.commands.safe_console import Console
from vla_ros.contract import Contract
from vla_ros.policies.machine import check_machine
from vla_ros.policies.registry import contract_policy
from vla_ros.policies.remote.layout import layout
from vla_ros.policies.remote.security import read_token
from vla_ros.policies.remote.server import HEALTH, PolicyServer, ServerOptions
from vla_ros.preflight import preflight


def serve(
    contract: Contract,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str = "",
    certificate: str = "",
    key: str = "",
    layout_name: str = "vla_ros",
) -> int:
    """Load the contract's policy and serve it until Ctrl-C.  Raises `VlaRosError`."""
    form, token = layout(layout_name), read_token(token_file)
    policy = contract_policy(contract)
    preflight(contract, policy.requirements)
    check_machine(contract.policy, policy.requirements.machine)
    policy.load()
    options = ServerOptions(host=host, port=port, token=token, certificate=certificate, key=key)
    server = PolicyServer(policy, contract.robot, form, options)
    kind = "wss" if certificate else "ws"
    Console().print(
        f"'{contract.policy}' is served at {kind}://{host}:{server.port} ({HEALTH} says whether it lives). "
        "Ctrl-C ends it.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    try:
        server.serve_forever()
    finally:
        server.close()
    return 0
