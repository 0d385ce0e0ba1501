"""`vla-ros bag audit`: statuses, tables, the page, the JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from demonstration_bag import Demonstration, write_bag
from typer.testing import CliRunner

from vla_ros.cli import app

RUNNER = CliRunner()


def bags(folder: Path) -> Path:
    """A good bag, one that is slow, one that was never closed, one that is not finished."""
    write_bag(folder / "day1" / "good", Demonstration(episode_id="g<1>"))
    slow = Demonstration(
        keep=lambda name, t: name != "camera wrist" or round(t * 15) % 3 == 0, instruction="<i>x"
    )
    write_bag(folder / "day1" / "slow", slow)
    write_bag(folder / "day1" / ".partial" / "now", Demonstration())
    return folder


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> None:
    for path in ("day1/.partial",):
        (tmp_path / path).mkdir(parents=True)


def run(*words: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["bag", "audit", *map(str, words)])
    return result.exit_code, " ".join((result.output + getattr(result, "stderr", "")).split())


def test_one_bag(tmp_path: Path) -> None:
    folder = bags(tmp_path)
    status, said = run(folder / "day1" / "good")
    assert status == 0 and "usable, 1 episode" in said and "action grid pass" in said
    status, said = run(folder / "day1" / "slow")
    assert status == 1 and "not usable" in said and "camera wrist: 5 messages a second of 15 (33 %)" in said


def test_a_folder_of_bags(tmp_path: Path) -> None:
    folder = bags(tmp_path)
    (folder / "broken").mkdir()
    (folder / "broken" / "x.mcap").write_bytes(b"nothing at all")
    page, document = tmp_path / "out" / "a.html", tmp_path / "out" / "a.json"
    status, said = run(folder, "--html", page, "--json", document)
    assert status == 1 and "not an MCAP file" in said and ".partial" not in said
    found = json.loads(document.read_text())
    levels = {Path(bag["path"]).name: bag["level"] for bag in found["bags"]}
    assert levels == {"good": "pass", "slow": "fail"} and len(found["unreadable"]) == 1
    (episode,) = found["bags"][0]["episodes"]
    assert episode["verdict"] == "usable" and {"check", "level", "sentence", "subject", "value"} == set(
        episode["findings"][0]
    )
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") >= 4 * 8 and text.count("<svg") == 6
    assert "<script" not in text and re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "Episode g&lt;1&gt;" in text and "&lt;i&gt;x" in text and "not an MCAP file" in text
    assert "day1/slow" in text and "allowed" in text


def test_rules_change_the_verdict(tmp_path: Path) -> None:
    folder = bags(tmp_path)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rate: {warn: 0.2, fail: 0.1}\nlost: {warn: null}\njitter: {warn: null}\n")
    assert run(folder / "day1" / "slow", "--rules", rules)[0] == 1
    rules.write_text(rules.read_text() + "unpaired: {warn: null, fail: null}\n")
    assert run(folder / "day1" / "slow", "--rules", rules)[0] == 0


def test_mistakes_are_a_sentence_and_status_2(tmp_path: Path) -> None:
    folder = bags(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").write_text("")
    for words, said in (
        ((tmp_path / "none",), "does not exist"),
        ((tmp_path / "bare",), "is not a bag and holds none"),
        ((folder / "day1" / "good", "--rules", tmp_path / "none.yaml"), "cannot be read"),
        ((folder / "day1" / "good", "--html", tmp_path / "file" / "a.html"), "cannot be written"),
        ((folder / "day1" / "good", "--json", tmp_path / "file" / "a.json"), "cannot be written"),
    ):
        status, text = run(*words)
        assert status == 2 and said in text and "Traceback" not in text, text
