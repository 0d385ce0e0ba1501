"""`vla-ros data ...` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conversion_source import MadeUp, same_numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.commands.data_split import parse_parts
from vla_ros.data.conversion import Options, convert
from vla_ros.data.lerobot import open_lerobot
from vla_ros.errors import ConfigurationError

LENGTHS = (7, 12, 9, 5)


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    convert(MadeUp(folder / "source"), folder / "set", "lerobot", Options(workers=1))
    return folder / "set"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_info(lerobot: Path) -> None:
    status, text = run("info", lerobot, "--json")
    assert status == 0
    found = json.loads(text)
    assert (found["kind"], found["episodes"], found["steps"], found["seconds"]) == ("lerobot", 4, 33, 3.3)
    assert found["cameras"] == {"primary": "64x48", "wrist": "32x32"}
    assert found["tasks"] == {"put it down": 4} and found["outcomes"] == {"success": 4}
    assert found["robot"] == "panda" and found["action_space"] == "delta_tcp" and found["contract"]
    status, table = run("info", lerobot)
    assert status == 0 and found["hash"][:16] in table.replace("\n", "")


def test_stats(lerobot: Path, tmp_path: Path) -> None:
    status, text = run("stats", lerobot, "--out", tmp_path / "statistics.json")
    assert status == 0 and "gripper_width" in text and "Written to" in text
    found = json.loads((tmp_path / "statistics.json").read_text())
    assert found == json.loads((lerobot / "dataset_statistics.json").read_text())
    assert run("stats", lerobot)[0] == 0  # the same again
    (tmp_path / "statistics.json").write_text("{}")
    status, text = run("stats", lerobot, "--out", tmp_path / "statistics.json")
    assert status == 2 and "exists already and says something else" in text
    assert (tmp_path / "statistics.json").read_text() == "{}"
    status, text = run("stats", tmp_path / "nothing")
    assert status == 2 and "does not exist" in text and text.count("\n") == 1


def test_convert_says_what_was_done(lerobot: Path, tmp_path: Path) -> None:
    status, text = run("convert", lerobot, tmp_path / "new", "--to", "lerobot", "--workers", 1)
    assert status == 0
    assert "4 episodes, 33 steps" in text and "Camera primary: 33 frames copied" in text
    assert run("convert", lerobot, tmp_path / "new", "--to", "lerobot") == (
        2, f"{tmp_path / 'new'} exists already; nothing was written, name another folder.\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("convert", "{set}", "--to", "lerobot"), "at least one source and then the target"),
        (("convert", "{set}", "{new}", "--to", "zarr"), "the format 'zarr' (--to) is not known; lerobot"),
        (("convert", "{set}", "{new}", "--to", "lerobot", "--group-size", "0"), "group size 0 must be 1"),
        (("convert", "{set}", "{new}", "--to", "lerobot", "--outcomes", "good"), "outcome 'good' cannot be"),
        (("convert", "{set}", "{new}", "--to", "lerobot", "--codec", "vp9"), "codec 'vp9' is not known"),
        (("convert", "{set}", "{new}", "--to", "lerobot", "--rate", "7"), "states 10 steps a second; 7 were"),
        (("split", "{set}", "{new}"), "give the parts"),
        (
            ("split", "{set}", "{new}", "--part", "a=0.9", "--part", "b=0.2"),
            "add up to 1.1; they must add up to 1",
        ),
        (("split", "{set}", "{new}", "--part", "a=0-2", "--part", "b=2-3"), "episode 2 is in the parts"),
        (("split", "{set}", "{new}", "--part", "a=0-2"), "1 episode would be in no part"),
        (("split", "{set}", "{new}", "--part", "a=0-9"), "there are the episodes 0 to 3"),
        (("split", "{set}", "{new}", "--part", "../a=1.0"), "is not a part"),
        (("merge", "{set}", "{new}"), "at least 2 sources and then the target"),
    ],
)
def test_bad_input_is_one_sentence(
    lerobot: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    status, text = run(*(word.format(set=lerobot, new=tmp_path / "new") for word in words))
    assert status == 2 and sentence in text and text.count("\n") == 1, text
    assert list(tmp_path.iterdir()) == []


def test_split_and_merge_give_back_every_episode(lerobot: Path, tmp_path: Path) -> None:
    status, text = run(
        "split", lerobot, tmp_path / "parts", "--part", "train=0.75", "--part", "test=0.25", "--seed", 3,
        "--workers", 1,
    )  # fmt: skip
    assert status == 0 and "train 3 episodes, test 1 episode" in text
    parts = [open_lerobot(tmp_path / "parts" / name) for name in ("train", "test")]
    status, text = run("merge", *(part.info.path for part in parts), tmp_path / "all", "--workers", 1)
    assert status == 0
    assert "33 frames copied" in text and "encoded" not in text.replace("not encoded", "")
    whole, merged = list(open_lerobot(lerobot)), list(open_lerobot(tmp_path / "all"))
    order = [next(k for k, e in enumerate(whole) if e.metadata == other.metadata) for other in merged]
    assert sorted(order) == [0, 1, 2, 3]
    for k, other in zip(order, merged, strict=True):
        same_numbers(whole[k], other)
        for camera in other.images:
            assert all(
                np.array_equal(whole[k].image(camera, n), other.image(camera, n)) for n in range(len(other))
            )


def test_split_by_task(tmp_path: Path) -> None:
    convert(MadeUp(tmp_path / "source"), tmp_path / "set", "lerobot", Options(workers=1))
    status, text = run("split", tmp_path / "set", tmp_path / "parts", "--by-task", "--workers", 1)
    assert status == 0 and "put_it_down 4 episodes" in text
    assert len(open_lerobot(tmp_path / "parts" / "put_it_down")) == 4


def test_sets_that_differ_are_not_merged(lerobot: Path, tmp_path: Path) -> None:
    convert(MadeUp(tmp_path / "source", rate=5.0), tmp_path / "slow", "lerobot", Options(workers=1))
    status, text = run("merge", lerobot, tmp_path / "slow", tmp_path / "all")
    assert status == 2 and not (tmp_path / "all").exists()
    assert text == (
        f"{lerobot} and {tmp_path / 'slow'} cannot be one data set: they differ in steps a second: 10.0 and "
        "5.0.\n"
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 300), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_shares_are_disjoint_complete_and_seeded(episodes: int, weights: list[int], seed: int) -> None:
    exact = [round(weight / sum(weights), 6) for weight in weights]
    exact[-1] = round(1 - sum(exact[:-1]), 6)
    texts = [f"p{k}={share if share < 1 else 1.0:f}" for k, share in enumerate(exact)]
    try:
        parts = parse_parts(texts, episodes, seed)
    except ConfigurationError as error:
        assert "would have none" in str(error)
        return
    assert sorted(index for part in parts.values() for index in part) == list(range(episodes))
    assert parse_parts(texts, episodes, seed) == parts
    for share, part in zip(exact, parts.values(), strict=True):
        assert abs(len(part) - share * episodes) <= 1
