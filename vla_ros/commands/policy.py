"""`vla-ros policy`: which policies there are, what they need, whether they run here, and how fast."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from vla_ros.bringup.robot_check import check_robot
from vla_ros.commands.safe_console import Console
from vla_ros.contract import Contract, load_contract
from vla_ros.errors import ConfigurationError, InstructionError, PolicyError, VlaRosError
from vla_ros.policies.base import GrammarPolicy, PolicyRequirements
from vla_ros.policies.checkpoints.source import check_source
from vla_ros.policies.machine import machine_problem, this_machine
from vla_ros.policies.process.isolated import IsolatedPolicy, isolated
from vla_ros.policies.registry import (
    contract_policy,
    family,
    policy_names,
    policy_options,
    policy_requirements,
)
from vla_ros.policies.synthetic import synthetic_observations
from vla_ros.preflight import preflight, preflight_problems
from vla_ros.suitability import doubtful, too_slow

NOT_FIT = 1
INSTRUCTION = "pick up the red block"
ASKED = 0, 9, 4
"""Which of the made-up observations a check asks about: the first, the fifth, the ninth."""
LIMIT = 600.0
"""Longest load and longest answer while checking [s]."""


def chosen(
    robot: str, policy: str, options: Mapping[str, Any], action_space: str = "", rate: float = 0.0
) -> Contract:
    """The contract of what was typed.  Raises `ConfigurationError` or `ContractError`."""
    return load_contract(
        robot,
        policy=policy or None,
        policy_options=dict(options) or None,
        action_space=action_space or None,
        action_rate=rate or None,
    )


def policy_list() -> int:
    """Print every policy, what it is, and what of its libraries is missing here."""
    table = Table(title="Policies", title_justify="left")
    for heading in ("name", "what it is", "runs in", "libraries"):
        table.add_column(heading)
    for name in policy_names():
        kind = family(name)
        missing = kind.missing
        libraries = f"missing: {', '.join(missing)}" if missing else ", ".join(kind.libraries) or "none"
        where = "a process of its own" if kind.isolated else "the inference node"
        table.add_row(name, kind.title, where, libraries)
    Console().print(table)
    return 0


def policy_info(contract: Contract) -> int:
    """Print a policy's options and what it asks for; loads no weights.  Raises `PolicyError`."""
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    name, kind = contract.policy, family(contract.policy)
    say(f"{name}: {kind.title}")
    known = policy_options(name)
    texts = [f"{key}={value!r}" for key, value in (known or {}).items()]
    say(f"  options: {', '.join(texts) if known is not None else 'any that its factory takes'}")
    if kind.needs:
        say(f"  {kind.needs}")
    keys = normalization_keys(str(contract.policy_options.get("checkpoint", "")))
    if keys:
        say(f"  data sets in the checkpoint: {', '.join(keys)}")
    policy = contract_policy(contract)
    if isinstance(policy, GrammarPolicy):
        say(f"  understands {policy.grammar}")
    needs = policy.requirements
    for line in _needs(needs, contract):
        say(f"  {line}")
    problems = list(preflight_problems(contract, needs))
    for problem in problems:
        say(f"  does not fit: {problem}")
    return NOT_FIT if problems else 0


def policy_check(contract: Contract) -> int:
    """Whether a policy fits the contract, loads and answers; a sentence for each problem, and the status."""
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    missing = family(contract.policy).missing
    problems = [f"policy '{contract.policy}' needs {', '.join(missing)}, not installed"] if missing else []
    try:
        needs = policy_requirements(contract)
        problems += list(preflight_problems(contract, needs))
        check_robot(contract, simulated=True)
        machine = this_machine()
        short = machine_problem(contract.policy, needs.machine, machine)
        problems += [short] if short else []
        if not missing and not short:
            with _running(contract) as policy:
                for line in doubtful(contract, needs, machine):
                    say(f"Note: {line}")
                answer, seconds = _answers(policy, contract)
                say(answer)
                problem, cost = too_slow(contract, needs, seconds)
                problems += [problem] if problem else []
                if cost:
                    say(f"Note: {cost}")
    except VlaRosError as error:
        problems.append(str(error))
    for problem in problems:
        say(f"Problem: {problem}")
    if not problems:
        say(f"Policy '{contract.policy}' fits {contract.source}, loads and answers.")
    return NOT_FIT if problems else 0


def policy_bench(contract: Contract, count: int, json_path: Path | None, threads: int) -> int:
    """Time a policy on made-up observations, in a process of its own; the status.  Raises `VlaRosError`."""
    from vla_ros.commands.shared import shown, write_json
    from vla_ros.policies.process.timing import measure

    preflight(contract, policy_requirements(contract))
    with _running(contract, threads) as policy:
        figures = measure(policy, _observations(contract, policy.requirements), count)
    console = Console()
    table = Table(title=f"{contract.policy}: {count} answers", title_justify="left")
    for heading in ("stage", "p50 ms", "p99 ms"):
        table.add_column(heading)
    for stage, values in figures["stages"].items():
        table.add_row(stage, f"{1e3 * values['p50']:.2f}", f"{1e3 * values['p99']:.2f}")
    console.print(table)
    console.print(
        f"{figures['rate']:.2f} answers and {figures['actions']:.2f} actions a second; loaded in "
        f"{figures['load']:.1f} s, first answer after {1e3 * figures['first']:.1f} ms; memory "
        f"{_bytes(figures['memory']['process'])}, GPU {_bytes(figures['memory']['device'])}.",
        highlight=False,
        soft_wrap=True,
    )
    if json_path is not None:
        options = json.loads(json.dumps(dict(contract.policy_options), default=str))
        machine = {"cores": len(os.sched_getaffinity(0)), "threads": threads or "half of the cores"}
        write_json(json_path, {"policy": contract.policy, "options": options, **machine, **figures})
        console.print(shown(json_path))
    return 0


def policy_export(name: str, checkpoint: str, out: Path, options: Mapping[str, Any]) -> int:
    """Write the form of a checkpoint that runs without PyTorch; the status.  Raises `VlaRosError`."""
    family(name)
    if name != "octo":
        raise PolicyError(f"Policy '{name}' cannot be exported, only octo can.")
    if not checkpoint:
        raise PolicyError("The export needs a checkpoint: a local folder or the id of a hub's repository.")
    check_source(checkpoint)
    try:
        from vla_ros.policies.octo.export import export_octo
    except ImportError as error:
        raise PolicyError(f"The export needs a library that is not installed: {error}.") from error
    try:
        folder = export_octo(checkpoint, out, **options)
    except TypeError as error:
        raise ConfigurationError(f"The export of octo was refused: {error}.") from error
    Console().print(f"Exported to {folder}", highlight=False, soft_wrap=True)
    return 0


def normalization_keys(checkpoint: str) -> list[str]:
    """Data sets whose statistics a local checkpoint holds, as far as its files say; [] when they do not."""
    folder = Path(checkpoint)
    if not checkpoint or not folder.is_dir():
        return []
    for name, key in (("dataset_statistics.json", ""), ("config.json", "norm_stats")):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        table = content.get(key) if key and isinstance(content, dict) else content
        if isinstance(table, dict):
            keys = [one for one, entry in table.items() if isinstance(entry, dict) and "action" in entry]
            if keys:
                return keys
    return []


def _needs(needs: PolicyRequirements, contract: Contract) -> Iterator[str]:
    yield f"action space: {needs.action_space}, {needs.horizon} steps in {needs.rate:g} answers a second"
    if needs.action_rate is not None:
        yield f"trained with {needs.action_rate:g} steps a second"
    cameras = [
        need.name
        + (f" at {need.width} x {need.height}" if need.width and need.height else "")
        + ("" if need.required else " (may be missing)")
        for need in needs.cameras
    ]
    yield f"cameras: {', '.join(cameras) or 'none'}; {needs.observation_window} frame(s) each"
    scaled = needs.normalization
    form = "tokens" if needs.codec is not None else "values"
    yield f"answers: {form}, " + (
        f"normalised by '{scaled.key}' as {scaled.kind.value}" if scaled is not None else "physical"
    )
    memory = _bytes(needs.machine.memory) if needs.machine.memory else "not known before it is loaded"
    yield f"machine: {needs.machine.device}, memory {memory}"
    yield f"robots: {', '.join(needs.robots) or 'any'}; the contract's is {contract.robot.name}"


@contextmanager
def _running(contract: Contract, threads: int = 0) -> Iterator[IsolatedPolicy]:
    """The policy, ready, in a process of its own, whatever it runs in otherwise."""
    policy = isolated(contract, answer_limit=LIMIT, load_limit=LIMIT, threads=threads)
    try:
        yield policy
    finally:
        policy.close()


def _observations(contract: Contract, needs: PolicyRequirements) -> Iterator[Any]:
    return synthetic_observations(contract.robot, contract.cameras, needs, INSTRUCTION)


def _answers(policy: IsolatedPolicy, contract: Contract) -> tuple[str, float]:
    """Answers to noise, not to every observation, as in the graph: what came of it, and the median seconds.

    Raises `VlaRosError`.
    """
    policy.load()
    seconds = []
    try:
        policy.reset(INSTRUCTION)
        for observation in islice(_observations(contract, policy.requirements), *ASKED):
            begun = time.monotonic()
            output = policy.infer(observation)
            seconds.append(time.monotonic() - begun)
    except InstructionError as error:
        return f"It answered noise in words: {error}", 0.0
    rows = output.values if output.values is not None else output.tokens
    stages = ", ".join(f"{name} {1e3 * seconds:.1f} ms" for name, seconds in output.latency.items())
    said = f"It answered {'nothing' if rows is None else f'{len(rows)} steps'} ({stages})."
    return said, median(seconds)


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
