"""Recorded actions through chunker, safety controller and driver of a running graph, in its own time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_ros.bringup.graph import GraphOptions, replay_graph, run_folder
from vla_ros.bringup.session import Session, session, write_contract
from vla_ros.commands.playback_keys import Keys
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import Troubles, shown, stamp
from vla_ros.contract import Contract, load_contract
from vla_ros.data.bag import bag_metadata
from vla_ros.data.bag_dataset import contract_from_text
from vla_ros.data.episode import Episode
from vla_ros.data.open import bags_in, open_dataset
from vla_ros.data.playback import next_speed
from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.lockstep.played import scene_of, scene_texts
from vla_ros.nodes.playback_operator import PlaybackOperator


class _EnoughError(Exception):
    """A person has had enough."""


class _Hand:
    """The keys while an episode is played."""

    def __init__(self, keys: Keys, operator: PlaybackOperator, speed: float, paused: bool) -> None:
        self._keys, self._operator = keys, operator
        self.speed, self._paused = speed, paused

    def look(self) -> None:
        """Do what the key says that was pressed, if one was.  Raises `_EnoughError`."""
        key = self._keys.read()
        if key == " ":
            self._paused = not self._paused
            self._operator.steer("pause" if self._paused else "resume")
        elif key == ".":
            self._paused = True
            self._operator.steer("step")
        elif key in ("+", "-"):
            self.speed = next_speed(self.speed, key == "+")
            self._operator.set_speed(self.speed)
        elif key == "q":
            raise _EnoughError


def into_graph(
    path: Path, speed: float, paused: bool, episodes: int, runs: Path, keys: Keys, console: Console
) -> list[dict[str, object]]:
    """Play the bags at `path`, in the scenes they were recorded in where they say so; a row for each.

    Raises `VlaRosError`.
    """
    bags = bags_in(path) if path.exists() else []
    if not bags:
        raise ConfigurationError(f"{path} holds no bags to be played into the graph.")
    # which refuses bags of different contracts: one graph has one
    open_dataset(path)
    recorded = contract_from_text(bag_metadata(bags[0]).get("contract", ""), bags[0])
    folder = run_folder(runs, stamp())
    contract = load_contract(write_contract(recorded, folder), simulated=True)
    options = GraphOptions(robot=str(write_contract(contract, folder)), record=str(folder / "bag"))
    processes = [
        replace(p, parameters={**p.parameters, "paused": paused}) if p.name == "replayer" else p
        for p in replay_graph(options, contract, bags, contract.action_space.rate, own_time=True)
    ]
    rows: list[dict[str, object]] = []
    with session(processes, folder, Troubles(console)) as running:
        running.wait_up()
        operator = PlaybackOperator(running.operator, running.check)
        hand = _Hand(keys, operator, speed, paused)
        for number, (bag, episode) in enumerate(_episodes(bags)):
            if episodes and number == episodes:
                break
            was = str(episode.metadata.get("outcome", ""))
            name = str(episode.metadata.get("episode_id", ""))
            row: dict[str, object] = {
                "bag": bag.name, "episode_id": name, "recorded": was, "replayed": "",
            }  # fmt: skip
            rows.append(row)
            try:
                row |= _play(running, operator, hand, contract, bag, number, episode)
            except _EnoughError:
                row["replayed"] = "ended by hand"
                break
            except VlaRosError as error:
                running.check()
                row["refused"] = str(error)
                console.print(f"{bag.name}: not played: {error}", style="yellow")
                continue
            console.print(
                f"{bag.name}: {was} -> {row['replayed'] or 'not judged'}"
                f"{row['reason'] and ' (' + str(row['reason']) + ')'}, {len(episode)} actions in "
                f"{row['seconds']:.1f} s, {row['speed']:.2f} times real time"
            )
    console.print(f"the bag of the run is {shown(folder / 'bag')}")
    return rows


def _episodes(bags: Sequence[Path]) -> Iterator[tuple[Path, Episode]]:
    """In the order in which the replayer counts them."""
    for bag in bags:
        dataset = open_dataset(bag)
        for number in range(len(dataset)):
            yield bag, dataset.episode(number)


def _play(
    running: Session, operator: PlaybackOperator, hand: _Hand, contract: Contract, bag: Path, number: int,
    episode: Episode,
) -> dict[str, Any]:  # fmt: skip
    operator.set_speed(1.0)
    scene = ""
    told = scene_of(episode, scene_texts(bag))
    if told is not None:
        scene = operator.lay_scene(told.task, told.instruction, told.seed)
    running.move_to(episode.states[0][: contract.robot.dof].tolist(), contract.robot.gripper.max_width)
    operator.set_speed(hand.speed)
    begun = time.monotonic()
    result = running.replay(number, hand.look)
    took = max(time.monotonic() - begun, 1e-9)
    verdict, reason = operator.verdict(scene)
    return {
        "replayed": verdict, "reason": reason, "seconds": result.seconds, "steps": len(episode),
        "wall_seconds": took, "speed": result.seconds / took,
    }  # fmt: skip
