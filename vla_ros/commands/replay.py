"""`vla-ros replay`: real recorded trajectories through chunker and safety controller to a simulated robot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.bringup.graph import GraphOptions, replay_graph, run_folder
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import Troubles, shown, stamp, write_json
from vla_ros.contract import load_contract
from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import BRIDGE_RATE, episode_to_bag
from vla_ros.data.rlds import read_rlds
from vla_ros.data.rlds_dataset import CONTRACT
from vla_ros.errors import DataError, VlaRosError
from vla_ros.evaluation.judge import judge_run
from vla_ros.evaluation.replay_compare import (
    PosePath,
    actions_path,
    compare_trajectory,
    driven_path,
    recorded_path,
    summary,
)
from vla_ros.evaluation.replay_report import ReplayedTrajectory, replay_report
from vla_ros.evaluation.run_data import RunData, load_run
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, Pose

if TYPE_CHECKING:
    from vla_ros.bringup.session import Session

ROBOT, ACTION_SPACE = "widowx", "bridge"
"""BridgeData V2 was recorded on this robot, in this action space."""


def replay(rlds: Path, json_path: Path | None, runs: Path, most: int) -> int:
    """Play up to `most` (0: all) trajectories of an RLDS folder; the exit status.  Raises `VlaRosError`."""
    from vla_ros.bringup.session import session, write_contract

    console = Console()
    contract = load_contract(ROBOT, simulated=True, action_space=ACTION_SPACE, action_rate=BRIDGE_RATE)
    robot = contract.robot
    _check_robot(rlds, robot)
    episodes = _episodes(rlds, most)
    folder = run_folder(runs, stamp())
    bags = []
    for number, episode in enumerate(episodes):
        bags.append(folder / "recorded" / f"{number:04d}")
        bags[-1].parent.mkdir(exist_ok=True)
        episode_to_bag(episode, bags[-1], BRIDGE_RATE, action_space=ACTION_SPACE)
    console.print(
        f"{len(bags)} trajectories of {rlds} are bags in {shown(folder / 'recorded')}", soft_wrap=True
    )
    kinematics = Kinematics(robot)
    driven: list[tuple[int, Episode, int]] = []
    refused: list[dict[str, str]] = []
    options = GraphOptions(robot=str(write_contract(contract, folder)), record=str(folder / "bag"))
    processes = replay_graph(options, contract, bags, BRIDGE_RATE)
    with session(processes, folder, Troubles(console)) as running:
        running.wait_up()
        for number, episode in enumerate(episodes):
            try:
                first = recorded_path(episode.states, robot.state_rotation, 1.0 / BRIDGE_RATE)
                joints = kinematics.inverse(Pose(first.positions[0], first.quaternions[0]), robot.home)
                _to_start(running, joints, robot.gripper.max_width)
                result = running.replay(number)
            except VlaRosError as error:
                running.check()
                refused.append({"source": episode.source, "reason": str(error)})
                console.print(f"{number}: not played: {error}", style="yellow", soft_wrap=True)
                continue
            driven.append((number, episode, result.start))
            console.print(
                f'{number}: "{episode.instruction}" played in {result.seconds:.1f} s', soft_wrap=True
            )
    run = load_run(folder / "bag", robot)
    path = driven_path(run, robot, run.start)
    played = [_compare(run, robot, path, *one) for one in driven]
    verdict = judge_run(run, robot)
    document: dict[str, Any] = {
        **summary([one.comparison for one in played]),
        "robot": robot.name,
        "refused": refused,
        "violations": len(verdict.violations),
        "violations_by_kind": dict(verdict.by_kind),
    }
    target = json_path or folder / "replay.json"
    write_json(target, document)
    title = f"Replay of {rlds.name} on the simulated {robot.title}"
    replay_report(played, document, verdict, refused, title, folder / "report.html")
    _print(console, played)
    console.print(verdict.sentence(), soft_wrap=True)
    console.print(f"{shown(target)}; report and bag are in {shown(folder)}", soft_wrap=True)
    return 0 if driven and not refused else 1


def _episodes(rlds: Path, most: int) -> list[Episode]:
    episodes = []
    for episode in read_rlds(rlds):
        episodes.append(episode)
        if len(episodes) == most:
            break
    if not episodes:
        raise DataError(f"{rlds} holds no trajectories.")
    return episodes


def _check_robot(rlds: Path, robot: RobotSpec) -> None:
    """Refuse what this package wrote of another robot: BridgeData V2 has no contract beside it."""
    for file in (rlds / CONTRACT, *rlds.glob(f"*/{CONTRACT}"), *rlds.glob(f"*/*/{CONTRACT}")):
        if file.is_file() and (other := load_contract(file).robot.name) != robot.name:
            raise DataError(
                f"{rlds} holds episodes of robot '{other}', but --rlds plays BridgeData V2 on the "
                f"{robot.title}; play their bags with --into graph or sim."
            )


def _to_start(running: Session, joints: Array, width: float) -> None:
    if running.operator.latched:
        running.operator.reset_safety()
    running.move_to(joints.tolist(), width)


def _compare(
    run: RunData, robot: RobotSpec, driven: PosePath, number: int, episode: Episode, start: int
) -> ReplayedTrajectory:
    """`driven`: the whole run's path, times from the start of the bag."""
    period = 1.0 / BRIDGE_RATE
    recorded = recorded_path(episode.states, robot.state_rotation, period)
    led = actions_path(recorded, episode.actions, period)
    begun = (start - run.start) / NANOSECONDS
    own = PosePath(driven.times - begun, driven.positions, driven.quaternions)
    end = recorded.times[-1]
    if own.times[0] > 0.0 or own.times[-1] < end:
        raise DataError(f"{run.path} does not cover the {end:.1f} s of {episode.source}.")
    within = [i for i in run.interventions if 0.0 <= (i.stamp - start) / NANOSECONDS <= end + period]
    comparison = compare_trajectory(episode.source, recorded, led, own, within)
    return ReplayedTrajectory(number, episode.instruction, recorded, led, own, comparison)


def _print(console: Console, played: Sequence[ReplayedTrajectory]) -> None:
    for one in played:
        c = one.comparison
        console.print(
            f"{one.number}: end point {100 * c.position_error_m:.1f} cm and {c.rotation_error_rad:.2f} rad "
            f"from the recorded one.  {c.cause}",
            highlight=False,
            soft_wrap=True,
        )
