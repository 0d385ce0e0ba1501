"""Episodes of demonstration bags."""

from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstration_bags import CONTRACT, PERIOD, PERSON, POLICY, START, jpeg, write_demonstration

from vla_ros.contract import load_contract
from vla_ros.data.bag import METADATA_TOPIC, BagWriter, bag_files, bag_metadata, read_bag
from vla_ros.data.contract_meaning import contract_difference
from vla_ros.data.episode import Episode, SizedInt
from vla_ros.data.episode_bag import episode_to_bag
from vla_ros.data.frames import EncodedFrames, LazyFrames
from vla_ros.data.open import open_dataset
from vla_ros.errors import DataError


@pytest.mark.parametrize("images", ["raw", "jpeg", "h264"])
def test_episode_is_what_was_recorded(tmp_path: Path, images: str) -> None:
    actions = write_demonstration(tmp_path / "bag", images=images)
    dataset = open_dataset(tmp_path / "bag")
    assert (dataset.info.kind, len(dataset), dataset.steps(0), dataset.info.rate) == ("bags", 1, 5, 5.0)
    assert dataset.info.robot == "widowx"
    episode = pickle.loads(pickle.dumps(dataset)).episode(0)  # noqa: S301
    assert episode.actions.tobytes() == actions.tobytes()
    # The newest observation before the step is the one 30 ms earlier, not the next one.
    expected = np.array([[*(np.arange(6) + 0.1 * k), 0.05] for k in range(5)], np.float32).astype(float)
    assert np.array_equal(episode.states, expected)
    assert episode.state_names == (*CONTRACT.robot.joint_names, "gripper_width")
    assert np.allclose(episode.extra["observation/tcp_pose"][:, 0], 0.1 * np.arange(5))
    assert episode.extra["observation/tcp_pose"].dtype == np.float32
    assert not episode.extra["is_intervention"].any()
    assert episode.is_first.tolist() == [True] + [False] * 4
    assert episode.is_last.tolist() == episode.is_terminal.tolist() == [False] * 4 + [True]
    assert episode.instructions == ("pick it up",) * 5
    assert episode.metadata == {
        "episode_id": "one", "task": "pick", "outcome": "success", "robot": "widowx", "start": START,
        "gap": 0,
    }  # fmt: skip
    for camera, frames in episode.images.items():
        assert frames.native == (images == "jpeg")
        assert isinstance(frames, LazyFrames) != (images == "jpeg")
        assert frames.size == (CONTRACT.cameras[camera].height, CONTRACT.cameras[camera].width)
        for step in (4, 0, 2, 3):  # in any order
            assert abs(int(frames.image(step)[5, 5, 1]) - (20 + 10 * step)) <= 3


def test_observation_from_the_future_is_not_taken(tmp_path: Path) -> None:
    """Steps begin with the first observation of the episode; what was seen before it is not of its scene."""
    actions = write_demonstration(tmp_path / "bag", observation_offset=1)
    episode = open_dataset(tmp_path / "bag").episode(0)
    assert np.array_equal(episode.actions, actions[1:])
    assert episode.is_first.tolist() == [True] + [False] * 3
    assert [int(episode.image("primary", k)[5, 5, 1]) // 10 for k in range(4)] == [2, 3, 4, 5]


def test_an_episode_that_was_not_seen_for_a_second_is_refused(tmp_path: Path) -> None:
    write_demonstration(tmp_path / "bag", steps=9, observation_offset=6 * PERIOD)
    with pytest.raises(DataError, match=r"step 0: no observation on /vla/observation is as old as the step"):
        open_dataset(tmp_path / "bag")


def test_taken_over_steps_are_marked(tmp_path: Path) -> None:
    chunk = np.linspace(-0.01, 0.01, 28).reshape(4, 7)
    outputs: list[dict[str, Any]] = [
        {"stamp": START, "horizon": 4, "values": chunk, "source": POLICY},
        {"stamp": START + 2 * PERIOD, "values": np.full(7, 0.004), "source": PERSON},
    ]
    write_demonstration(tmp_path / "bag", steps=3, outputs=outputs)
    episode = open_dataset(tmp_path / "bag").episode(0)
    assert episode.extra["is_intervention"].tolist() == [False, False, True]
    assert np.array_equal(episode.actions[:2], np.float32(chunk[:2]).astype(float))
    assert np.array_equal(episode.actions[2], np.float32(np.full(7, 0.004)).astype(float))
    assert episode.metadata["gap"] == START + 3 * PERIOD


def test_normalised_actions_come_from_the_chunk(tmp_path: Path) -> None:
    pose = {
        "position": {"x": 0.01, "y": -0.02, "z": 0.005},
        "orientation": {"x": 0.0, "y": 0.0, "z": float(np.sin(0.05)), "w": float(np.cos(0.05))},
    }
    chunk = {"poses": [pose], "gripper_width": np.array([0.074]), "period": 0.2}
    outputs: list[dict[str, Any]] = [
        {"stamp": START, "values": np.ones(7), "key": "somewhere", "source": POLICY, "chunk": chunk}
    ]
    write_demonstration(tmp_path / "bag", steps=1, outputs=outputs)
    (action,) = open_dataset(tmp_path / "bag").episode(0).actions
    assert np.allclose(action, [0.01, -0.02, 0.005, 0.0, 0.0, 0.1, 1.0], atol=1e-7)
    del outputs[0]["chunk"]
    write_demonstration(tmp_path / "other", steps=1, outputs=outputs)
    with pytest.raises(DataError, match="normalised or in tokens, and /vla/action_chunk does not say"):
        open_dataset(tmp_path / "other")


@pytest.mark.parametrize(
    ("outcome", "discard", "word"),
    [(3, False, "failure"), (4, False, "aborted"), (0, False, "aborted"), (2, True, "discarded")],
)
def test_outcomes(tmp_path: Path, outcome: int, discard: bool, word: str) -> None:
    write_demonstration(tmp_path / "bag", outcome=outcome, discard=discard)
    episode = open_dataset(tmp_path / "bag").episode(0)
    assert episode.metadata["outcome"] == word
    assert len(episode) == 5
    assert not episode.is_terminal.any()


def test_folder_of_bags_and_an_mcap_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_demonstration(tmp_path / "all" / name, steps=3 if name == "a" else 4, episode_id=name)
    dataset = open_dataset(tmp_path / "all")
    assert [dataset.steps(k) for k in range(2)] == [3, 4]
    assert [e.metadata["episode_id"] for e in dataset] == ["a", "b"]
    (file,) = bag_files(tmp_path / "all" / "b")
    assert len(open_dataset(file).episode(0)) == 4
    with pytest.raises(DataError, match="have 2 episodes; 2 is not among them"):
        dataset.episode(2)


def test_mixed_contracts_name_both_and_the_key(tmp_path: Path) -> None:
    write_demonstration(tmp_path / "all" / "a")
    write_demonstration(tmp_path / "all" / "b", contract=load_contract("widowx", action_rate=10.0))
    with pytest.raises(DataError, match=r"all/a and .*all/b .* 'action_rate' is 5.0 and 10.0"):
        open_dataset(tmp_path / "all")


def test_who_answered_and_how_the_robot_was_controlled_may_differ(tmp_path: Path) -> None:
    """A person's demonstrations and an expert's, or those of two policies, are one data set."""
    write_demonstration(tmp_path / "all" / "a")
    other = load_contract("widowx", policy="none", blending="temporal_ensemble", control_rate=100.0)
    write_demonstration(tmp_path / "all" / "b", contract=other)
    assert CONTRACT.to_yaml() != other.to_yaml()
    assert len(open_dataset(tmp_path / "all")) == 2
    cameras = {"primary": {"topic": "/elsewhere"}, "wrist": {"compressed": True}}
    other = load_contract("widowx", cameras=cameras)
    assert not contract_difference(CONTRACT.to_yaml(), other.to_yaml())
    assert "cameras" in contract_difference(
        CONTRACT.to_yaml(),
        load_contract("widowx", cameras={"primary": {"width": 64, "height": 48}}).to_yaml(),
    )
    assert contract_difference("", CONTRACT.to_yaml()) == "one of them has none"
    assert contract_difference("[1", "[2") == "one of them is no mapping"
    assert not contract_difference("[1", "[1")


@pytest.mark.parametrize("topic", ["/vla/episode_status", "/vla/observation", "/vla/policy_output"])
def test_missing_topic_is_named(tmp_path: Path, topic: str) -> None:
    write_demonstration(tmp_path / "bag", lacks=(topic,))
    with pytest.raises(DataError, match=f"has no topic {topic}"):
        open_dataset(tmp_path / "bag")


def test_missing_camera_is_named(tmp_path: Path) -> None:
    name, camera = next(iter(CONTRACT.cameras.items()))
    write_demonstration(tmp_path / "bag", lacks=(camera.topic,))
    with pytest.raises(DataError, match=f"{camera.topic} or .* of camera '{name}' is in the bag"):
        open_dataset(tmp_path / "bag")


def test_broken_numbers_clocks_and_contracts(tmp_path: Path) -> None:
    outputs = [{"stamp": START + k * PERIOD, "values": np.full(7, v)} for k, v in enumerate((0.0, np.nan))]
    write_demonstration(tmp_path / "nan", outputs=outputs)
    with pytest.raises(DataError, match="step 1: number 0 of the action is not finite"):
        open_dataset(tmp_path / "nan")
    outputs = [{"stamp": START + k * PERIOD, "values": np.zeros(7)} for k in (1, 0)]
    write_demonstration(tmp_path / "back", outputs=outputs)
    with pytest.raises(DataError, match="stamps on /vla/policy_output go back"):
        open_dataset(tmp_path / "back")
    write_demonstration(tmp_path / "none", outputs=[], change=None)
    with pytest.raises(DataError, match="has no topic /vla/policy_output"):
        open_dataset(tmp_path / "none")
    write_demonstration(tmp_path / "late", outputs=[{"stamp": START + 99 * PERIOD, "values": np.zeros(7)}])
    with pytest.raises(DataError, match="episode 'one' has no steps"):
        open_dataset(tmp_path / "late")
    write_demonstration(tmp_path / "robot", text=CONTRACT.to_yaml().replace("widowx", "hal9000"))
    with pytest.raises(DataError, match="cannot be read as demonstrations: .*hal9000"):
        open_dataset(tmp_path / "robot")


def test_what_is_no_bag(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no demonstrations: no .mcap file"):
        open_dataset(tmp_path / "empty")
    (tmp_path / "x.mcap").write_bytes(b"no bag at all")
    with pytest.raises(DataError, match="is not an MCAP file"):
        open_dataset(tmp_path / "x.mcap")
    write_demonstration(tmp_path / "cut")
    (file,) = bag_files(tmp_path / "cut")
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataError, match="was not closed.*`vla-ros bag repair`"):
        open_dataset(tmp_path / "cut")
    with BagWriter(tmp_path / "other") as writer:
        message = writer.types.create("std_msgs/String", data="hello")
        writer.write("/chatter", "std_msgs/String", 1, message)
    with pytest.raises(DataError, match="carries no contract and has no topic /episode/action"):
        open_dataset(tmp_path / "other")


def test_lost_frame_is_named(tmp_path: Path) -> None:
    def change(topic: str, stamp: int, fields: dict[str, Any]) -> dict[str, Any]:
        if topic == "/vla/observation" and fields["sequence"] == 2:
            for image in fields["images"]:
                image["header"] = {"stamp": {"sec": 7, "nanosec": 0}}
        return fields

    write_demonstration(tmp_path / "bag", change=change)
    with pytest.raises(DataError, match="step 2: topic .* has no image with the stamp 7000000000 ns"):
        open_dataset(tmp_path / "bag")


def test_other_action_space_is_refused(tmp_path: Path) -> None:
    other = replace(CONTRACT, action_space=load_contract("widowx", action_space="bridge").action_space)
    write_demonstration(tmp_path / "bag", contract=other, text=CONTRACT.to_yaml())
    with pytest.raises(DataError, match="speaks 'bridge', the contract 'delta_tcp'"):
        open_dataset(tmp_path / "bag")


def test_raw_images_of_an_unknown_encoding_name_the_step(tmp_path: Path) -> None:
    write_demonstration(tmp_path / "bag", images="raw")
    _rewrite(tmp_path / "bag", tmp_path / "odd", "/image_raw", lambda m: setattr(m, "encoding", "16UC1"))
    episode = open_dataset(tmp_path / "odd").episode(0)
    with pytest.raises(DataError, match="step 3: images encoded as '16UC1' are not read"):
        episode.images["primary"].image(3)


def test_images_are_not_held(tmp_path: Path) -> None:
    write_demonstration(tmp_path / "bag", images="raw", steps=40)
    size = CONTRACT.cameras["primary"].height * CONTRACT.cameras["primary"].width * 3
    tracemalloc.start()
    episode = open_dataset(tmp_path / "bag").episode(0)
    for frames in episode.images.values():
        for step in range(len(frames)):
            frames.image(step)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * len(episode.images) * size / 2


def imported(steps: int = 4) -> Episode:
    at = np.arange(steps)
    return Episode(
        source="made up",
        actions=np.linspace(0, 1, 7 * steps).reshape(steps, 7),
        states=np.linspace(0, 2, 3 * steps).reshape(steps, 3),
        is_first=at == 0,
        is_last=at == steps - 1,
        is_terminal=at == 1,
        instructions=("one",) + ("two",) * (steps - 1),
        images={"left": EncodedFrames([jpeg(9 * k) for k in range(steps)])},
        extra={
            "reward": np.full(steps, 0.1, np.float32),
            "count": at.astype(np.uint8)[:, None] + np.zeros(2, np.uint8),
        },
        metadata={"path": "ä", "ok": False, "id": SizedInt(4, "int16"), "pair": np.arange(2), "raw": b"\xff"},
        rate=5.0,
        action_space="bridge",
        action_names=tuple("abcdefg"),
        state_names=("x", "y", "z"),
        contract="robot: widowx\n",
    )


def test_imported_episodes_lose_nothing(tmp_path: Path) -> None:
    one = imported()
    episode_to_bag(one, tmp_path / "bag", metadata={"contract": one.contract})
    other = open_dataset(tmp_path / "bag").episode(0)
    for name in ("actions", "states", "is_first", "is_last", "is_terminal"):
        assert getattr(other, name).tobytes() == getattr(one, name).tobytes(), name
    for name in ("source", "instructions", "rate", "action_space", "action_names", "state_names", "contract"):
        assert getattr(other, name) == getattr(one, name), name
    assert other.images["left"][:] == one.images["left"][:]
    assert set(other.extra) == set(one.extra)
    for name, array in one.extra.items():
        assert (other.extra[name].dtype, other.extra[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(other.extra[name], array)
    assert {k: v for k, v in other.metadata.items() if k != "pair"} == {
        k: v for k, v in one.metadata.items() if k != "pair"
    }
    assert other.metadata["id"].dtype == "int16"
    assert np.array_equal(other.metadata["pair"], one.metadata["pair"])


@pytest.mark.parametrize(
    ("topic", "edit", "sentence"),
    [
        ("/episode/extra", lambda m: setattr(m, "data", "{"), "further features is malformed"),
        (
            "/episode/extra",
            lambda m: setattr(m, "data", m.data.replace("|u1", "|O8")),
            "features is malformed",
        ),
        (
            "/episode/extra",
            lambda m: setattr(m, "data", m.data.replace('"one", ', "")),
            "has 3 instructions for 4",
        ),
        ("/episode/state", lambda m: setattr(m.header.stamp, "sec", 9), "do not have the same stamps"),
        (
            "/episode/action",
            lambda m: setattr(m, "values", m.values * np.inf),
            "step 0: number 0 of the action is not finite",
        ),
        ("/vla/metadata", lambda m: setattr(m, "data", "["), "is not JSON"),
    ],
)
def test_damaged_imported_bags(tmp_path: Path, topic: str, edit: Any, sentence: str) -> None:
    episode_to_bag(imported(), tmp_path / "bag")
    _rewrite(tmp_path / "bag", tmp_path / "odd", topic, edit)
    with pytest.raises(DataError, match=sentence):
        open_dataset(tmp_path / "odd")


def _rewrite(source: Path, target: Path, ending: str, edit: Any) -> None:
    """Copy a bag, messages of the topics with this ending changed."""
    contract = bag_metadata(source).get("contract")
    with BagWriter(target, {"contract": contract} if contract else {}) as writer:
        if ending == METADATA_TOPIC:
            writer._metadata = None
        for entry in read_bag(source, [*{e.topic for e in read_bag(source)}, METADATA_TOPIC]):
            if entry.topic == METADATA_TOPIC and ending != METADATA_TOPIC:
                continue
            message = entry.message
            if entry.topic.endswith(ending):
                edit(message)
            writer.write(entry.topic, entry.type_name, entry.stamp, message)
