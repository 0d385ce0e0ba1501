"""Recorded episodes played again in the simulator, in the scene they were recorded in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla_ros.contract import Contract
from vla_ros.data.bag import bag_metadata, read_bag
from vla_ros.data.bag_dataset import contract_from_text
from vla_ros.data.episode import Episode
from vla_ros.data.open import bags_in, open_dataset
from vla_ros.documents import parse_json
from vla_ros.errors import DataError
from vla_ros.lockstep.simulated import Rollout, Scene, make_world, rollout
from vla_ros.lockstep.sources import Moment, RecordedSource
from vla_ros.types import Array, PolicyOutput

SCENE_TOPIC = "/simulator/scene"


@dataclass(frozen=True)
class Recorded:
    """An episode with the scene it was recorded in."""

    bag: Path
    episode: Episode
    scene: Scene
    contract: Contract


@dataclass(frozen=True)
class Played:
    """How an episode went the second time."""

    rollout: Rollout
    path_max: float
    """Largest distance between the tool's recorded and new positions at the same step [m]; nan: not known."""
    path_rms: float


def recorded_episodes(path: Path) -> Iterator[Recorded]:
    """The episodes of a bag, or of a folder of bags, that can be played again.

    Raises `DataError` where a bag does not say in which scene its episodes were recorded.
    """
    bags = bags_in(path) if path.exists() else []
    if not bags:
        raise DataError(
            f"{path} holds no bags; only bags of simulated episodes say how their scene was laid."
        )
    for bag in bags:
        dataset = open_dataset(bag)
        texts = scene_texts(bag)
        contract = contract_from_text(bag_metadata(bag).get("contract", ""), bag)
        for number in range(len(dataset)):
            episode = dataset.episode(number)
            scene = scene_of(episode, texts)
            if scene is None:
                raise DataError(
                    f"{bag} does not say in which scene it was recorded (neither metadata key 'scene' nor "
                    f"topic {SCENE_TOPIC}): it is not of the simulator."
                )
            if not scene.joints:
                joints = tuple(float(v) for v in episode.states[0][: contract.robot.dof])
                scene = replace(scene, joints=joints)
            yield Recorded(bag, episode, scene, contract)


def scene_of(episode: Episode, texts: Sequence[tuple[int, str]]) -> Scene | None:
    """The scene that was out when an episode began, of those that its bag speaks of; None: of none."""
    start = int(episode.metadata.get("start", 0))
    told = [text for stamp, text in texts if stamp <= start] or [text for _, text in texts[:1]]
    return Scene.from_json(told[-1]) if told else None


def scene_texts(bag: Path) -> list[tuple[int, str]]:
    """(stamp [ns], JSON) of every scene that a bag speaks of."""
    metadata = bag_metadata(bag)
    if metadata.get("scene"):
        return [(0, metadata["scene"])]
    found = []
    for entry in read_bag(bag, (SCENE_TOPIC,)):
        text = str(entry.message.data)
        try:
            parse_json(text)
        except ValueError as error:
            raise DataError(f"{bag}: the text on {SCENE_TOPIC} is not JSON: {error}.") from error
        found.append((entry.stamp, text))
    return found


class _Watched(RecordedSource):
    """Remembers where the tool was at every step."""

    def begin(self, instruction: str) -> None:
        super().begin(instruction)
        self.positions: list[Array] = []

    def act(self, moment: Moment) -> PolicyOutput | None:
        answer = super().act(moment)
        if answer is not None:
            self.positions.append(np.array(moment.measured.position))
        return answer


def play(one: Recorded, on_tick: Callable[[float], bool] | None = None) -> Played:
    """Play an episode in its scene; `on_tick` as `rollout` has it.  Raises `VlaRosError`."""
    world = make_world(one.contract, one.scene)
    try:
        source = _Watched(one.contract, np.asarray(one.episode.actions), one.episode.rate)
        result = rollout(one.contract, world, source, render=False, on_tick=on_tick)
    finally:
        world.close()
    poses = one.episode.extra.get("observation/tcp_pose")
    if poses is None or not source.positions:
        return Played(result, float("nan"), float("nan"))
    count = min(len(poses), len(source.positions))
    apart = np.linalg.norm(np.array(source.positions[:count]) - np.asarray(poses)[:count, :3], axis=1)
    return Played(result, float(apart.max()), float(np.sqrt(np.mean(apart**2))))
