"""The view of data sets: the page holds everything and loads nothing, the Rerun file reads back equal."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from vla_ros.commands.data_view import view_dataset
from vla_ros.data.dataset import Dataset, DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.frames import EncodedFrames, LazyFrames
from vla_ros.errors import ConfigurationError, DataError, MachineError
from vla_ros.evaluation import rerun_file
from vla_ros.evaluation.view_page import view_page

STEPS = 40


def jpegs(seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (STEPS, 24, 32, 3)).astype(np.uint8)
    return [bytes(cv2.imencode(".jpg", picture)[1].data) for picture in pictures]


def episode(**fields: Any) -> Episode:
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "source": "bag one, e0",
        "actions": rng.uniform(-0.05, 0.05, (STEPS, 7)),
        "states": rng.uniform(-1, 1, (STEPS, 3)),
        "is_first": np.arange(STEPS) == 0,
        "is_last": np.arange(STEPS) == STEPS - 1,
        "is_terminal": np.arange(STEPS) == STEPS - 1,
        "instructions": ("put <b>it</b> & go",) * 20 + ("stop",) * 20,
        "images": {
            "primary": EncodedFrames(jpegs(1), "primary"),
            "wrist": LazyFrames(STEPS, (24, 32), lambda k: np.full((24, 32, 3), k, np.uint8)),
        },
        "extra": {
            "observation/tcp_pose": rng.uniform(0, 1, (STEPS, 7)).astype(np.float32),
            "is_intervention": np.arange(STEPS) % 20 > 15,
        },
        "metadata": {"outcome": "success", "task": "pick"},
        "rate": 5.0,
        "action_space": "delta_tcp",
        "state_names": ("shoulder", "elbow", "gripper_width"),
        "contract": "robot: ur5\n",
    }
    return Episode(**{**values, **fields})


class Few(Dataset):
    def __init__(self, count: int = 3, one: Episode | None = None) -> None:
        self.one = one or episode()
        self.info = DatasetInfo(Path("/data/some set"), "rlds", "some set", count, 5.0)

    def steps(self, index: int) -> int:
        return len(self.one)

    def episode(self, index: int) -> Episode:
        return self.one


def chunks(path: Path) -> dict[str, Any]:
    """Everything in a Rerun file by entity: its columns, the rows of all chunks joined; times in ns."""
    pa = pytest.importorskip("pyarrow")
    reader = pytest.importorskip("rerun.chunk", reason="reading back needs a rerun-sdk with rerun.chunk")
    found: dict[str, Any] = {}
    for chunk in reader.RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        columns = found.setdefault(str(chunk.entity_path), {})
        for name in batch.schema.names:
            column = batch.column(name)
            if pa.types.is_temporal(column.type):
                column = column.cast(pa.int64())
            columns.setdefault(name, []).extend(column.to_pylist())
    return found


def test_the_page_says_everything_and_loads_nothing() -> None:
    text = view_page(episode(), Few().info, 2)
    assert "Episode 2 of some set" in text and "put &lt;b&gt;it&lt;/b&gt; &amp; go" in text
    for label in (
        "yaw [rad]",
        "x [m]",
        "gripper_width",
        "shoulder",
        "person took over",
        "success",
        "robot: ur5",
    ):
        assert label in text, label
    assert text.count("data:image/jpeg;base64,") == 24 and text.count("<svg") == 3
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == [] and "<script" not in text


def test_the_page_of_an_episode_that_lacks_things() -> None:
    def broken(step: int) -> Any:
        raise DataError("step 0: the image cannot be decoded.")

    bare = episode(
        images={"primary": LazyFrames(STEPS, (24, 32), broken)}, extra={}, metadata={}, rate=0.0,
        action_space="of nobody", state_names=(), contract="", instructions=("",) * STEPS,
    )  # fmt: skip
    text = view_page(bare, replace(Few().info, rate=0.0), 0)
    for said in ("cannot be decoded", "no instruction", "carries no contract", "action 6", "not known"):
        assert said in text, said
    assert "has no images" in view_page(replace(bare, images={}), Few().info, 0)


def test_the_rerun_file_reads_back_equal(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    one = episode()
    rerun_file.write_rerun(one, tmp_path / "a.rrd", 5.0, "set-0")
    assert [p.name for p in tmp_path.iterdir()] == ["a.rrd"]
    found = chunks(tmp_path / "a.rrd")
    for k, name in enumerate(("x", "y", "z", "roll", "pitch", "yaw", "gripper")):
        column = found[f"/action/{name}"]
        assert [v for (v,) in column["Scalars:scalars"]] == one.actions[:, k].tolist()
        assert column["step"] == list(range(STEPS))
        assert column["time"] == [k * 200_000_000 for k in range(STEPS)]
    assert [v for (v,) in found["/state/elbow"]["Scalars:scalars"]] == one.states[:, 1].tolist()
    assert [v for (v,) in found["/intervention"]["Scalars:scalars"]] == [
        float(k % 20 > 15) for k in range(STEPS)
    ]
    primary = found["/camera/primary"]
    assert [bytes(blob) for (blob,) in primary["EncodedImage:blob"]] == list(one.images["primary"])
    assert primary["step"] == list(range(STEPS)) and len(found["/camera/wrist"]["step"]) == STEPS
    assert found["/instruction"]["TextDocument:text"] == [["put <b>it</b> & go"], ["stop"]]
    assert found["/instruction"]["step"] == [0, 20]
    points = np.array(found["/tcp/point"]["Points3D:positions"])[:, 0]
    np.testing.assert_array_equal(points, one.extra["observation/tcp_pose"][:, :3])
    assert "outcome: success" in found["/about"]["TextDocument:text"][0][0]


def test_names_and_numbers_of_a_data_set_stay_what_they_are() -> None:
    names = ('"><b onload="x', *(f"n{k}" for k in range(6)))
    one = episode(
        action_space="", action_names=names, actions=np.linspace(0.0, 0.004321, 7 * STEPS).reshape(STEPS, 7)
    )
    text = view_page(one, Few().info, 0)
    assert "<b onload" not in text and "&lt;b onload" in text
    # Ticks keep their digits though coordinates are rounded.
    assert re.search(r">0\.00[1-4]\d*</text>", text)


def test_an_episode_that_cannot_be_read_leaves_no_half_file(tmp_path: Path) -> None:
    pytest.importorskip("rerun")

    def broken(step: int) -> Any:
        if step > 35:
            raise DataError(f"step {step}: the image cannot be decoded.")
        return np.zeros((24, 32, 3), np.uint8)

    bad = episode(images={"primary": LazyFrames(STEPS, (24, 32), broken)})
    with pytest.raises(DataError, match="step 36: the image cannot be decoded"):
        rerun_file.write_rerun(bad, tmp_path / "a.rrd", 5.0, "x")
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_episodes_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = view_dataset(Few(), [0, 2], tmp_path / "out", Console())
    names = sorted(path.name for path in written)
    assert names == ["episode_000.html", "episode_000.rrd", "episode_002.html", "episode_002.rrd"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert "2 episodes of 3" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in written}
    with pytest.raises(DataError, match="exists already"):
        view_dataset(Few(), [1, 2], tmp_path / "out", Console())
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(ConfigurationError, match="episode 3 is not in"):
        view_dataset(Few(), [3], tmp_path / "other", Console())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        view_dataset(Few(), [0], tmp_path / "file", Console())


def test_without_rerun_there_is_the_page_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "rerun":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    written = view_dataset(Few(), [1], tmp_path, Console())
    said = " ".join(capsys.readouterr().out.split())
    assert [path.name for path in written] == ["episode_001.html"] and "vla-ros[view]" in said
    with pytest.raises(MachineError, match="not installed"):
        rerun_file.write_rerun(episode(), tmp_path / "a.rrd", 5.0, "x")
