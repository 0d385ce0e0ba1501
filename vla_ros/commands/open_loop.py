"""`vla-ros replay SET --policy P`: a policy's answers beside what was recorded; the robot does not move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import shown, stamp, write_json
from vla_ros.contract import Contract, load_contract
from vla_ros.data.bag_dataset import contract_from_text
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.open import open_dataset
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.evaluation.open_loop import OpenLoop, open_loop
from vla_ros.evaluation.open_loop_page import DIMENSION_HEAD, dimension_rows, episode_page, summary_page
from vla_ros.evaluation.open_loop_result import figures_of
from vla_ros.evaluation.recorded_observation import Observer
from vla_ros.policies.base import Policy
from vla_ros.policies.process.isolated import isolated
from vla_ros.policies.registry import contract_policy, family, policy_requirements
from vla_ros.preflight import preflight

LIMIT = 600.0
"""Longest load and longest answer [s]."""


def open_loop_command(
    path: Path, policy: str, options: Mapping[str, Any], contract: Path | None, cameras: Sequence[str],
    episodes: int, every: int, json_path: Path | None, runs: Path,
) -> int:  # fmt: skip
    """Compare and write the pages; the exit status.  Raises `VlaRosError`."""
    console = Console(highlight=False, soft_wrap=True)
    dataset = open_dataset(path)
    used = replace(_contract(dataset.info, contract), policy=policy, policy_options=dict(options))
    needs = policy_requirements(used)
    observer = Observer(used, needs, dataset.info, _named(cameras))
    used = _seen(used, dataset.info, observer.cameras)
    preflight(used, needs)
    if not observer.joints_known:
        console.print(
            f"{path} does not hold the joints of {used.robot.name}; its home posture stands for them."
        )
    count = min(episodes, len(dataset)) if episodes else len(dataset)
    folder = runs / f"{stamp()}-open-loop"
    ones: list[OpenLoop] = []
    rows: list[dict[str, Any]] = []
    with _running(used) as running:
        running.load()
        for number in range(count):
            episode = dataset.episode(number)
            one = open_loop(episode, number, used, running, observer, every)
            figures = figures_of([one])
            name = f"episode_{number:06d}.html"
            _write(folder / name, episode_page(one, figures, episode, list(observer.cameras.values())))
            ones.append(one)
            rows.append({"episode": number, "instruction": one.instruction, "page": name, **figures})
            console.print(_line(rows[-1]))
    total = figures_of(ones)
    table = Table(title=f"{policy}: {total['answers']} answers in {count} episodes", title_justify="left")
    for heading in DIMENSION_HEAD:
        table.add_column(heading, justify="left" if heading == DIMENSION_HEAD[0] else "right")
    for row in dimension_rows(total):
        table.add_row(*row)
    console.print(table)
    console.print(_gripper(total))
    for sentence in [sentence for one in ones for sentence in one.refused][:3]:
        console.print(f"not used: {sentence}", style="yellow", markup=False)
    title = f"{policy} on {dataset.info.name}"
    subtitle = f"{count} of {len(dataset)} episodes, action space {used.action_space.name}"
    _write(folder / "index.html", summary_page(title, subtitle, total, rows))
    document = {
        "data": str(path), "policy": policy, "options": {k: str(v) for k, v in options.items()},
        "action_space": used.action_space.name, "every": every, **total, "by_episode": rows,
    }  # fmt: skip
    write_json(json_path or folder / "result.json", document)
    console.print(shown(folder / "index.html"))
    return 0 if total["answers"] else 1


def _contract(info: DatasetInfo, given: Path | None) -> Contract:
    """What was typed, or what the data set carries."""
    if given is not None:
        contract = load_contract(given)
    elif info.contract:
        contract = contract_from_text(info.contract, info.path)
    else:
        raise ConfigurationError(
            f"{info.path} carries no contract, so its numbers have no meaning: give one with --contract."
        )
    if info.rate and abs(info.rate / contract.action_space.rate - 1.0) > 0.01:
        raise DataError(
            f"{info.path} has {info.rate:g} steps a second, "
            f"but the contract of {contract.source} says {contract.action_space.rate:g}."
        )
    return contract


def _seen(contract: Contract, info: DatasetInfo, cameras: Mapping[str, str]) -> Contract:
    """The contract with the cameras that the data set really shows."""
    specs = dict(contract.cameras)
    any_spec = next(iter(specs.values()), None)
    for name, theirs in cameras.items():
        spec = specs.get(name, any_spec)
        if spec is not None:
            height, width = info.cameras[theirs]
            specs[name] = replace(spec, name=name, width=width, height=height)
    return replace(contract, robot=replace(contract.robot, cameras=specs))


def _named(cameras: Sequence[str]) -> dict[str, str]:
    result = {}
    for text in cameras:
        name, mark, theirs = text.partition("=")
        if not (name and mark and theirs):
            raise ConfigurationError(f"--camera is '{text}', but must be like primary=image_0.")
        result[name] = theirs
    return result


@contextmanager
def _running(contract: Contract) -> Iterator[Policy]:
    """The policy as the graph would run it: models in a process of their own."""
    if not family(contract.policy).isolated:
        yield contract_policy(contract)
        return
    policy = isolated(contract, answer_limit=LIMIT, load_limit=LIMIT)
    try:
        yield policy
    finally:
        policy.close()


def _line(row: Mapping[str, Any]) -> str:
    groups = ", ".join(
        f"{name} {'-' if v['rms'] is None else format(1000 * v['rms'], '.3g')} m{v['unit']} rms"
        for name, v in row["groups"].items()
    )
    share = row["gripper"]["agreement"]
    grip = "-" if share is None else f"{100 * share:.1f} %"
    return (
        f"episode {row['episode']}: {row['answers']} of {row['steps']} steps, {groups}, gripper agrees {grip}"
    )


def _gripper(total: Mapping[str, Any]) -> str:
    grip = total["gripper"]
    share = "-" if grip["agreement"] is None else f"{100 * grip['agreement']:.1f} %"
    late = "" if grip["late_steps"] is None else f", {grip['late_steps']:+.1f} steps late on average"
    changes = f"{grip['found']} of {grip['changes']} changes were made too{late}"
    return f"gripper agrees in {share} of steps; {changes}"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
