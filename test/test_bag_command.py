"""`vla-ros bag info` and `repair`: what is there is told, what is not is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.data.bag import BagWriter, read_bag

runner = CliRunner()


def make_bag(path: Path, outcome: int = 2) -> Path:
    with BagWriter(path, {"contract": "robot: panda\n", "task": "pick"}) as writer:
        for k in range(20):
            status = {
                "episode_id": "e1", "task": "pick", "instruction": "pick it up",
                "outcome": 1 if k < 15 else outcome,
            }  # fmt: skip
            message = writer.types.create("vla_ros/EpisodeStatus", **status)
            writer.write("/vla/episode_status", "vla_ros/EpisodeStatus", 10**18 + k * 10**8, message)
            image = writer.types.create("sensor_msgs/CompressedImage", format="jpeg", data=bytes(100))
            writer.write("/cam/compressed", "sensor_msgs/CompressedImage", 10**18 + k * 10**8, image)
            writer.flush()
        writer.conclude({"outcome": "success"})
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(app, ["bag", *map(str, arguments)], env={"COLUMNS": "160"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_info_tells_what_is_there(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    status, text = run("info", bag)
    assert status == 0
    for word in ("1.90 s", "10.0", "robot: panda", "/vla/episode_status", "jpeg", "success", "pick it up"):
        assert word in text
    status, text = run("info", bag, "--json")
    found = json.loads(text)
    assert found["closed"] and found["seconds"] == pytest.approx(1.9)
    assert found["topics"]["/cam/compressed"]["rate"] == pytest.approx(10.0)
    (episode,) = found["episodes"]
    assert (episode["outcome"], episode["stop"] - episode["start"]) == ("success", 1_500_000_000)
    assert found["end"] == {"outcome": "success"} and found["metadata"]["task"] == "pick"


def test_a_cut_bag_is_told_and_repaired(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    file = bag / "bag.mcap"
    whole = list(read_bag(bag))
    size = file.read_bytes().find(b"\x0f\x04\x00\x00\x00\x00\x00\x00\x00") * 3 // 4
    file.write_bytes(file.read_bytes()[:size] + bytes(4096))
    (bag / "metadata.yaml").unlink()
    before = file.read_bytes()
    status, text = run("info", bag)
    assert status == 0 and "not closed" in text and "vla-ros bag repair" in text
    status, text = run("repair", bag)
    repaired = tmp_path / "bag_repaired"
    assert status == 0 and "messages saved" in text and "no whole record" in text
    saved = [(e.topic, e.stamp, e.raw) for e in read_bag(repaired)]
    assert 10 < len(saved) < 40 and saved == [(e.topic, e.stamp, e.raw) for e in whole[: len(saved)]]
    assert file.read_bytes() == before and [f.name for f in bag.iterdir()] == ["bag.mcap"]
    with AnyReader([repaired]) as reader:
        assert reader.message_count == len(saved) + 1
    said = f"a bag cannot be written to {repaired}: it exists already; name another folder with --output.\n"
    assert run("repair", bag) == (2, said)


def test_a_damaged_chunk_costs_itself_only(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    content = bytearray((bag / "bag.mcap").read_bytes())
    content[content.find(bytes(100)) + 50] ^= 1
    (bag / "bag.mcap").write_bytes(content)
    status, text = run("repair", bag, "--output", tmp_path / "new")
    assert status == 0 and "messages saved" in text
    # the first chunk also said which topics there are; the end of the file repeats it
    assert len(list(read_bag(tmp_path / "new"))) == 38


def test_metadata_yaml_is_made_anew(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag")
    assert "nothing to repair" in run("repair", bag)[1] and not (tmp_path / "bag_repaired").exists()
    (bag / "metadata.yaml").unlink()
    assert "metadata.yaml is missing" in run("info", bag)[1]
    assert run("repair", bag)[0] == 0
    assert (tmp_path / "bag_repaired" / "metadata.yaml").is_file()
    assert len(list(read_bag(tmp_path / "bag_repaired"))) == 40


@pytest.mark.parametrize("command", ["info", "repair"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing", None, "does not exist"),
        ("text.mcap", b"hello", "is not an MCAP file"),
        ("empty.mcap", b"\x89MCAP0\r\n", "holds no messages"),
        ("bag.db3", b"SQLite format 3", "is a bag in SQLite; only MCAP is read"),
        ("other.txt", b"x", "is not a bag"),
    ],
)
def test_what_is_no_bag_is_one_sentence(
    tmp_path: Path, command: str, name: str, content: bytes | None, words: str
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    if content is not None:
        (folder / name).write_bytes(content)
    status, text = run(command, folder if content is not None else folder / name)
    assert status == 2 and words in text and text.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["given"]
