"""LeRobot v3: what is written is read back, and what the layout promises is there."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from conversion_source import MadeUp, psnr, same_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.data.conversion import Options, convert
from vla_ros.data.data_hash import data_hash
from vla_ros.data.lerobot import LeRobotDataset, LeRobotWriter, open_lerobot
from vla_ros.data.lerobot.stats import ImageStats, aggregate, number_stats, sampled_steps
from vla_ros.data.rlds import read_rlds
from vla_ros.data.writing import Group, Plan
from vla_ros.errors import ConfigurationError, DataError

ONE = Options(workers=1, group_size=2)
SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUp, LeRobotDataset]:
    folder = tmp_path_factory.mktemp("lerobot")
    source = MadeUp(folder / "source")
    convert(source, folder / "set", "lerobot", ONE)
    return source, open_lerobot(folder / "set")


def test_everything_comes_back(written: tuple[MadeUp, LeRobotDataset]) -> None:
    source, dataset = written
    assert len(dataset) == len(source)
    for one, other in zip(source, dataset, strict=True):
        same_numbers(one, other)
        assert sorted(one.images) == sorted(other.images)
        for camera in one.images:
            for k in range(len(one)):
                assert psnr(one.image(camera, k), other.image(camera, k)) > 33
    for name in ("rate", "robot", "action_space", "action_names", "state_names", "cameras", "contract"):
        assert getattr(dataset.info, name) == getattr(source.info, name), name
    assert [dataset.steps(k) for k in range(4)] == list(source.lengths)


def test_frames_in_any_order_are_the_same(written: tuple[MadeUp, LeRobotDataset]) -> None:
    _, dataset = written
    in_order = [dataset.episode(1).image("primary", k) for k in range(12)]
    frames = dataset.episode(1).images["primary"]
    for k in (11, 0, 5, 5, 4, 7, 10, 1, 0):
        assert np.array_equal(frames.image(k), in_order[k]), k


def test_the_layout(written: tuple[MadeUp, LeRobotDataset]) -> None:
    source, dataset = written
    root = dataset.info.path
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and isinstance(info["fps"], int)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 33, 2)
    assert info["features"]["action"]["names"] == list(source.info.action_names)
    assert info["features"]["observation.images.primary"]["shape"] == [48, 64, 3]
    rows = [
        row
        for file in sorted(root.glob("meta/episodes/*/*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    assert [row["dataset_from_index"] for row in rows] == [0, 7, 19, 28]
    assert [row["dataset_to_index"] for row in rows] == [7, 19, 28, 33]
    key = "observation.images.wrist"
    assert [row["data/file_index"] for row in rows] == [0, 0, 1, 1]
    assert [row[f"videos/{key}/file_index"] for row in rows] == [0, 0, 1, 1]
    assert [row[f"videos/{key}/from_timestamp"] for row in rows] == pytest.approx([0, 0.7, 0, 0.9])
    assert [row[f"videos/{key}/to_timestamp"] for row in rows] == pytest.approx([0.7, 1.9, 0.9, 1.4])
    assert rows[1]["tasks"] == ["put it down", "open it"]
    table = pq.read_table(root / "data/chunk-000/file-001.parquet")
    assert table["index"].to_pylist() == list(range(19, 33))
    assert table["timestamp"].to_numpy()[:3] == pytest.approx(np.float32([0, 0.1, 0.2]))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["action"] == {
        "feature": {"dtype": "float32", "_type": "Value"}, "length": 7, "_type": "Sequence",
    }  # fmt: skip
    pandas = json.loads(pq.read_schema(root / "meta/tasks.parquet").metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"]
    stats = json.loads((root / "meta/stats.json").read_text())
    assert np.shape(stats["observation.images.primary"]["mean"]) == (3, 1, 1)
    actions = np.concatenate([episode.actions for episode in source])
    assert stats["action"]["mean"] == pytest.approx(actions.mean(axis=0).tolist())
    assert stats["action"]["std"] == pytest.approx(actions.std(axis=0).tolist())
    assert stats["action"]["count"] == [33]
    ours = json.loads((root / "meta/vla_ros.json").read_text())
    assert ours["action_units"] == ["m", "m", "m", "rad", "rad", "rad", "1"]
    bound = json.loads((root / "dataset_statistics.json").read_text())["set"]
    assert bound["data_hash"] == ours["data_hash"] == data_hash(source)
    assert bound["action"]["q99"] == pytest.approx(np.quantile(actions, 0.99, axis=0).tolist(), rel=1e-6)


def test_episodes_begin_with_a_key_frame_and_every_frame_lies_on_the_grid(
    written: tuple[MadeUp, LeRobotDataset],
) -> None:
    _, dataset = written
    file = dataset.info.path / "videos/observation.images.primary/chunk-000/file-000.mp4"
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        times = [packet.pts * stream.time_base for packet in packets]
    assert times == [Fraction(k, 10) for k in range(19)]
    keys = [k for k, packet in enumerate(packets) if packet.is_keyframe]
    assert 0 in keys and 7 in keys
    assert max(np.diff([*keys, 19])) <= 2


@pytest.mark.parametrize("size", [(31, 33), (48, 33), (16, 18)])
def test_odd_sizes_keep_their_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    source = MadeUp(tmp_path / "source", lengths=(4,), cameras={"primary": size})
    convert(source, tmp_path / "set", "lerobot", ONE)
    image = open_lerobot(tmp_path / "set").episode(0).image("primary", 3)
    assert image.shape == (*size, 3)
    assert psnr(image, source.episode(0).image("primary", 3)) > 33


def test_packets_are_copied_without_loss(written: tuple[MadeUp, LeRobotDataset], tmp_path: Path) -> None:
    _, dataset = written
    done = convert(dataset, tmp_path / "copy", "lerobot", Options(workers=1, group_size=3))
    assert {loss["frames_encoded"] for loss in done.video_loss.values()} == {0}
    for one, other in zip(dataset, open_lerobot(tmp_path / "copy"), strict=True):
        same_numbers(one, other)
        for camera in one.images:
            for k in range(len(one)):
                assert np.array_equal(one.image(camera, k), other.image(camera, k))


def test_av1(tmp_path: Path) -> None:
    source = MadeUp(tmp_path / "source", lengths=(5, 4), cameras={"primary": (64, 96)})
    convert(source, tmp_path / "set", "lerobot", replace(ONE, codec="av1"))
    dataset = open_lerobot(tmp_path / "set")
    for one, other in zip(source, dataset, strict=True):
        for k in range(len(one)):
            assert psnr(one.image("primary", k), other.image("primary", k)) > 30
    done = convert(dataset, tmp_path / "copy", "lerobot", ONE)
    assert done.video_loss["primary"]["frames_copied"] == 9
    copy = open_lerobot(tmp_path / "copy")
    assert np.array_equal(copy.episode(1).image("primary", 2), dataset.episode(1).image("primary", 2))
    with pytest.raises(ConfigurationError, match="codec 'vp9' is not known; h264, av1 are"):
        LeRobotWriter(codec="vp9")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of BridgeData V2 is not here")
def test_bridge_numbers_survive_to_the_last_bit(tmp_path: Path) -> None:
    episodes = list(read_rlds(SAMPLE))[:3]
    source = MadeUp(tmp_path / "source")
    lengths = tuple(len(episode) for episode in episodes)
    tasks = tuple(dict.fromkeys(text for episode in episodes for text in episode.instructions))
    info = replace(
        source.info, rate=5.0, cameras={}, episodes=3, action_names=(), state_names=(), contract=""
    )
    group = Group(0, 1, 0, 0, lengths)
    plan = Plan(tmp_path / "set", info, "bridge", tasks, (group,))
    writer = LeRobotWriter()
    writer.finish(plan, [writer.write_group(plan, group, episodes)])
    for one, other in zip(episodes, open_lerobot(tmp_path / "set"), strict=True):
        assert np.array_equal(one.actions, other.actions) and np.array_equal(one.states, other.states)
        assert one.instructions == other.instructions and one.metadata == other.metadata
        assert np.array_equal(one.is_last, other.is_last)
        assert all(np.array_equal(one.extra[name], other.extra[name]) for name in one.extra)


def test_extra_features_and_names_of_foreign_sets(
    written: tuple[MadeUp, LeRobotDataset], tmp_path: Path
) -> None:
    import shutil

    _, dataset = written
    root = tmp_path / "foreign"
    shutil.copytree(dataset.info.path, root)
    (root / "meta/vla_ros.json").unlink()
    (root / "meta/contract.yaml").unlink()
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["names"] = {"motors": info["features"]["action"]["names"]}
    info["something_new"] = 1
    (root / "meta/info.json").write_text(json.dumps(info))
    foreign = open_lerobot(root)
    assert foreign.info.action_names == dataset.info.action_names
    assert foreign.info.action_space == "" and foreign.info.contract == ""
    assert np.array_equal(
        foreign.episode(2).extra["observation/tcp_pose"], dataset.episode(2).extra["observation/tcp_pose"]
    )


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "meta/info.json").unlink(), "meta/info.json cannot be read"),
        (lambda root: (root / "meta/info.json").write_text("["), "is not JSON"),
        (lambda root: (root / "meta/tasks.parquet").write_bytes(b"x"), "is not a table of tasks"),
        (lambda root: next(root.glob("data/*/*")).unlink(), "file-000.parquet cannot be read"),
        (lambda root: next(root.glob("videos/*/*/*")).write_bytes(b"x" * 99), "cannot be decoded"),
        (lambda root: next(root.glob("meta/episodes/*/*")).unlink(), "has rows of 0 episodes, .* says 1"),
        (
            lambda root: (root / "meta/info.json").write_text(
                (root / "meta/info.json").read_text().replace("v3.0", "v2.1")
            ),
            "of version v2.1; v3.0 is read",
        ),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    convert(MadeUp(tmp_path / "source", lengths=(3,)), tmp_path / "set", "lerobot", ONE)
    damage(tmp_path / "set")  # type: ignore[operator]
    with pytest.raises(DataError, match=sentence):
        episode = open_lerobot(tmp_path / "set").episode(0)
        for camera in episode.images:
            episode.image(camera, 0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**31))
def test_the_whole_from_its_parts(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, 3)) * 10 for n in lengths]
    whole, found = np.concatenate(parts), aggregate([number_stats(part) for part in parts])
    assert np.allclose(found["mean"], whole.mean(axis=0)) and np.allclose(found["std"], whole.std(axis=0))
    assert np.array_equal(found["min"], whole.min(axis=0)) and np.array_equal(found["max"], whole.max(axis=0))
    assert found["count"] == [len(whole)]


def test_statistics_of_images_are_exact() -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 20, 30, 3)).astype(np.uint8)
    stats = ImageStats()
    for image in images:
        stats.add(image)
    found, pixels = stats.stats(), images.reshape(-1, 3) / 255.0
    for name, value in (
        ("mean", pixels.mean(axis=0)), ("std", pixels.std(axis=0)), ("min", pixels.min(axis=0)),
        ("max", pixels.max(axis=0)),
    ):  # fmt: skip
        assert np.array(found[name]).reshape(3) == pytest.approx(value), name
    assert np.array(found["q90"]).reshape(3) == pytest.approx(np.quantile(pixels, 0.9, axis=0), abs=1 / 255)
    assert found["count"] == [6]


def test_how_many_images_count() -> None:
    assert len(sampled_steps(7)) == 7
    assert len(sampled_steps(500)) == 105
    assert sampled_steps(5000)[0] == 0 and sampled_steps(5000)[-1] == 4999 and len(sampled_steps(5000)) == 594
