"""Writer of RLDS folders: what it writes is read back, and nothing that the format cannot hold is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstration_bags import jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_ros.data.data_hash import data_hash
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode, SizedInt
from vla_ros.data.frames import EncodedFrames
from vla_ros.data.open import open_dataset
from vla_ros.data.rlds_writer import RldsWriter, dataset_name
from vla_ros.data.tf_example import parse_example
from vla_ros.data.tf_example_writer import encode_example
from vla_ros.data.writing import Group, Plan
from vla_ros.errors import DataError


def episode(steps: int = 3, instruction: str = "pick it up", size: int = 16, **fields: Any) -> Episode:
    rng = np.random.default_rng(steps)
    at = np.arange(steps)
    given_fields: dict[str, Any] = {
        "source": f"episode of {steps}",
        "actions": rng.normal(size=(steps, 7)).astype(np.float32).astype(float),
        "states": rng.normal(size=(steps, 4)).astype(np.float32).astype(float),
        "is_first": at == 0,
        "is_last": at == steps - 1,
        "is_terminal": at == steps - 1,
        "instructions": (instruction,) * steps,
        "images": {"primary": EncodedFrames([jpeg(10 * k, size) for k in range(steps)])},
        "extra": {"observation/tcp_pose": rng.normal(size=(steps, 7)).astype(np.float32)},
        "metadata": {"episode_id": "a", "number": SizedInt(-3, "int32"), "good": True, "start": 1 << 60},
        "rate": 5.0,
    }
    return Episode(**{**given_fields, **fields})


def write(target: Path, groups: Sequence[Sequence[Episode]], contract: str = "robot: widowx\n") -> Path:
    target.mkdir()
    info = DatasetInfo(
        target, "bags", "source", sum(map(len, groups)), 5.0, "widowx", "delta_tcp",
        ("x", "y", "z", "roll", "pitch", "yaw", "gripper"), contract=contract,
    )  # fmt: skip
    parts, first, step = [], 0, 0
    for index, group in enumerate(groups):
        lengths = tuple(len(one) for one in group)
        parts.append(Group(index, len(groups), first, step, lengths))
        first, step = first + len(group), step + sum(lengths)
    plan = Plan(target, info, "My Set-1", (), tuple(parts))
    writer = RldsWriter()
    reports = [writer.write_group(plan, part, group) for part, group in zip(parts, groups, strict=True)]
    writer.finish(plan, json.loads(json.dumps(reports)))
    return target


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    first = [episode(3), episode(1, ""), episode(4, "lege den Löffel 勺子 hin")]
    second = [episode(2)]
    target = write(tmp_path / "set", [first, second])
    dataset = open_dataset(target)
    assert (dataset.info.kind, dataset.info.name, dataset.info.rate) == ("rlds", "my_set_1", 5.0)
    assert (dataset.info.action_space, dataset.info.contract) == ("delta_tcp", "robot: widowx\n")
    assert [dataset.steps(k) for k in (3, 0, 2, 1)] == [2, 3, 4, 1]
    for one, other in zip([*first, *second], dataset, strict=True):
        assert other.actions.tobytes() == one.actions.tobytes()
        assert other.states.tobytes() == one.states.tobytes()
        assert other.instructions == one.instructions
        assert other.images["primary"][:] == one.images["primary"][:]
        assert other.metadata == one.metadata
        assert other.metadata["number"].dtype == "int32"
        assert np.array_equal(other.is_terminal, one.is_terminal)
        pose = other.extra["observation/tcp_pose"]
        assert pose.dtype == np.float32
        assert pose.tobytes() == one.extra["observation/tcp_pose"].tobytes()
    ours = json.loads((target / "vla_ros.json").read_text())
    assert ours["data_hash"] == data_hash(dataset)
    assert ours["action_units"] == ["m", "m", "m", "rad", "rad", "rad", "1"]
    statistics = json.loads((target / "dataset_statistics.json").read_text())["my_set_1"]
    assert (statistics["num_transitions"], statistics["num_trajectories"]) == (10, 4)
    (split,) = json.loads((target / "dataset_info.json").read_text())["splits"]
    assert split["shardLengths"] == ["3", "1"]
    shards = sorted(path for path in target.iterdir() if "tfrecord" in path.name)
    assert int(split["numBytes"]) == sum(p.stat().st_size for p in shards) - 4 * 16
    assert shards[0].name == "my_set_1-train.tfrecord-00000-of-00002"
    assert not list(target.glob(".*"))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    mixed = EncodedFrames([jpeg(0), jpeg(0, 18), jpeg(0)])
    with pytest.raises(DataError, match="step 1: the image has 24 x 18 pixels, the first one 24 x 16"):
        write(tmp_path / "a", [[episode(images={"primary": mixed})]])
    with pytest.raises(DataError, match="'steps/observation/primary' is uint8 .*18, 24, 3.* and uint8 .*16"):
        write(tmp_path / "b", [[episode()], [episode(size=18)]])
    with pytest.raises(DataError, match="'steps/observation/tcp_pose' is not in every episode"):
        write(tmp_path / "c", [[episode(), episode(extra={})]])
    with pytest.raises(DataError, match="'words' is of <U1; numbers are written"):
        write(tmp_path / "d", [[episode(extra={"words": np.array(["a", "b", "c"])})]])
    with pytest.raises(DataError, match="a camera is named 'state', which is taken"):
        write(tmp_path / "e", [[episode(images={"state": EncodedFrames([jpeg(0)] * 3)})]])
    with pytest.raises(DataError, match="step 0: the image is neither JPEG nor PNG"):
        write(tmp_path / "f", [[episode(images={"primary": EncodedFrames([b"x"] * 3)})]])
    with pytest.raises(DataError, match="without an episode"):
        write(tmp_path / "g", [])
    for name in "abcdef":
        assert not (tmp_path / name / "features.json").exists()


def test_damage_is_found_when_opened_or_read(tmp_path: Path) -> None:
    target = write(tmp_path / "set", [[episode(3), episode(2)]])
    (shard,) = target.glob("*tfrecord*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    with pytest.raises(DataError, match="record 1, byte .* more than the file holds"):
        open_dataset(target)
    shard.write_bytes(whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:])
    dataset = open_dataset(target)
    assert len(dataset.episode(0)) == 3
    with pytest.raises(DataError, match="record 1, byte .* fails its checksum"):
        dataset.episode(1)
    with pytest.raises(DataError, match="has 2 episodes; 2 is not among them"):
        dataset.episode(2)
    shard.unlink()
    with pytest.raises(DataError, match="is not in"):
        open_dataset(target)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            st.lists(st.binary(max_size=300), min_size=1, max_size=5),
            hnp.arrays(np.float32, st.integers(1, 50)),
            hnp.arrays(np.int64, st.integers(1, 50)),
        ),
        max_size=5,
    )
)
@settings(max_examples=60)
def test_encoding_is_the_inverse_of_parsing(features: dict[str, Any]) -> None:
    back = parse_example(encode_example(features))
    assert set(back) == set(features)
    for name, value in features.items():
        if isinstance(value, list):
            assert back[name] == value
        else:
            read = np.asarray(back[name])
            assert read.dtype == value.dtype
            assert read.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Müll 2", "m_ll_2"), ("7dof", "dataset_7dof"), ("", "dataset"), ("ok_name", "ok_name")],
)
def test_names_that_tfds_takes(name: str, plain: str) -> None:
    assert dataset_name(name) == plain
