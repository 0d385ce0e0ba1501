"""What is left out, by a person, by outcome or by the audit: counted alike everywhere, and told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstration_bag import Demonstration, small_contract, write_bag
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.data.audit import Level, audit_bag
from vla_ros.data.audit.look import TOO_SLOW
from vla_ros.data.bag import BagWriter
from vla_ros.data.conversion import Options, Progress, convert
from vla_ros.data.data_hash import data_hash
from vla_ros.data.open import open_dataset
from vla_ros.errors import DataError

SUCCESS, FAILURE, ABORTED, DISCARDED = 2, 3, 4, 5


def slow(name: str, t: float) -> bool:
    """Two of three frames of the wrist camera are missing."""
    return name != "camera wrist" or round(t * 15) % 3 == 0


def demos(folder: Path) -> Path:
    """Two that are good, a success and a failure whose camera was slow, and one that was discarded."""
    write_bag(folder / "a_good", Demonstration(episode_id="a"))
    write_bag(folder / "b_slow", Demonstration(episode_id="b", keep=slow))
    write_bag(folder / "c_slow_failure", Demonstration(episode_id="c", keep=slow, outcome=FAILURE))
    write_bag(folder / "d_good", Demonstration(episode_id="d"))
    write_bag(folder / "discarded" / "e", Demonstration(episode_id="e", keep=slow, outcome=DISCARDED))
    return folder


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_command_page_and_json_count_alike(tmp_path: Path) -> None:
    folder, page, document = demos(tmp_path / "demos"), tmp_path / "a.html", tmp_path / "a.json"
    status, text = run("bag", "audit", folder, "--html", page, "--json", document)
    assert status == 1
    assert "4 bags: 2 usable, 0 with remarks, 2 not usable; 1 discarded left out." in text
    shown = re.findall(r"<span>([a-z, ]+)</span><b>(\d+)</b>", page.read_text())
    counts = {name: int(number) for name, number in shown}
    assert counts == {
        "bags": 4, "usable": 2, "with remarks": 0, "not usable": 2, "episodes": 4, "discarded, left out": 1
    }  # fmt: skip
    found = json.loads(document.read_text())
    assert found["verdicts"] == {"pass": 2, "warn": 0, "fail": 2} and found["discarded"] == 1
    assert "discarded/e" not in text and "Episode e" not in page.read_text()


def test_the_discarded_are_audited_when_asked_for(tmp_path: Path) -> None:
    folder = demos(tmp_path / "demos")
    assert "5 bags: 3 usable" in run("bag", "audit", folder, "--discarded")[1]
    status, text = run("bag", "audit", folder / "discarded")
    assert status == 0 and "usable" in text and "left out" not in text
    lone = tmp_path / "lone"
    write_bag(lone / "discarded" / "x", Demonstration(outcome=DISCARDED))
    assert run("bag", "audit", lone) == (
        2, f"{lone} holds no bag but 1 discarded; --discarded audits them.\n",
    )  # fmt: skip
    assert "but 1 discarded" in run("data", "info", lone)[1]


def test_what_fails_is_skipped_and_told(tmp_path: Path) -> None:
    folder = demos(tmp_path / "demos")
    status, text = run("data", "convert", folder, tmp_path / "set", "--to", "lerobot", "--skip-failed")
    assert status == 0, text
    assert "2 episodes" in text and "1 discarded bag left out." in text
    assert "Left out, for they fail the audit (`vla-ros bag audit` says more): 2." in text
    (line,) = [line for line in text.splitlines() if "alike" in line]
    assert "b_slow" in line and "c_slow_failure (2 alike, of the first): camera wrist: 5 messages" in line
    made = open_dataset(tmp_path / "set")
    assert [episode.metadata["episode_id"] for episode in made] == ["a", "d"]
    # The same data as if the others had never been there.
    alone = [write_bag(tmp_path / "alone" / name, Demonstration(episode_id=name)) for name in ("a", "d")]
    assert len(alone) == 2 and data_hash(open_dataset(tmp_path / "alone")) == data_hash(made)


def test_outcomes_are_filtered_before_the_audit(tmp_path: Path) -> None:
    folder = tmp_path / "demos"
    write_bag(folder / "good", Demonstration(episode_id="a"))
    write_bag(folder / "slow", Demonstration(episode_id="b", keep=slow, outcome=FAILURE))
    target = tmp_path / "set"
    words = ("data", "convert", folder, target, "--to", "rlds")
    status, text = run(*words)
    assert status == 2 and "1 of 2 bags fail the audit" in text and "--skip-failed leaves them out" in text
    status, text = run(*words, "--outcomes", "success")
    assert status == 0 and "Left out by outcome: 1 failure." in text and "fail the audit" not in text
    assert [episode.metadata["episode_id"] for episode in open_dataset(target)] == ["a"]


def test_what_is_asked_for_is_audited(tmp_path: Path) -> None:
    """An aborted episode is no exception once it is taken."""
    write_bag(tmp_path / "bag", Demonstration(keep=slow, outcome=ABORTED))
    with pytest.raises(DataError, match="1 of 1 bags fail the audit"):
        convert(open_dataset(tmp_path / "bag"), tmp_path / "set", "rlds", Options(1, outcomes=("aborted",)))


def test_one_episode_of_a_bag_is_skipped(tmp_path: Path) -> None:
    write_bag(
        tmp_path / "bag", Demonstration(episode_id="a"), Demonstration(episode_id="b", keep=slow),
        Demonstration(episode_id="c"),
    )  # fmt: skip
    done = convert(
        open_dataset(tmp_path / "bag"), tmp_path / "set", "rlds", Options(workers=1, skip_failed=True)
    )
    assert done.episodes == 2 and [one.name for one in done.skipped] == [f"{tmp_path / 'bag'}, episode b"]


def cut(bag: Path) -> None:
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-2000])


def test_a_bag_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    folder = demos(tmp_path / "demos")
    cut(folder / "a_good")
    words = ("data", "convert", folder, tmp_path / "set", "--to", "rlds")
    for more in ((), ("--accept-failed",), ("--outcomes", "success")):
        status, text = run(*words, *more)
        assert status == 2 and "was not closed" in text and not (tmp_path / "set").exists()
    status, text = run(*words, "--skip-failed")
    assert status == 0 and "1 episode," in text and "a_good: " in text and "was not closed" in text
    for bag in ("b_slow", "c_slow_failure", "d_good"):
        cut(folder / bag)
    status, text = run("data", "convert", folder, tmp_path / "other", "--to", "rlds", "--skip-failed")
    assert status == 2 and "was not closed" in text


def test_an_aborted_episode_without_a_step_blocks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demos"
    write_bag(folder / "a", Demonstration(episode_id="a"))
    write_bag(
        folder / "b",
        Demonstration(episode_id="b", outcome=ABORTED, seconds=0.9, keep=lambda n, t: n != "actions"),
    )
    status, text = run("data", "convert", folder, tmp_path / "set", "--to", "rlds")
    assert status == 0 and "Left out by outcome: 1 aborted." in text


def test_all_that_is_left_fails(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", Demonstration(keep=slow))
    words = ("data", "convert", tmp_path / "bag", tmp_path / "set", "--to", "rlds")
    status, text = run(*words, "--skip-failed")
    assert status == 2 and "Every episode of" in text and "camera wrist" in text
    status, text = run(*words, "--skip-failed", "--accept-failed")
    assert status == 2 and "give one of them" in text


def test_a_conversion_that_skips_goes_on(tmp_path: Path) -> None:
    folder = demos(tmp_path / "demos")
    options = Options(workers=1, group_size=1, skip_failed=True)

    def stop(progress: Progress) -> None:
        if progress.phase == "write" and progress.done > 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(open_dataset(folder), tmp_path / "set", "rlds", options, stop)
    done = convert(open_dataset(folder), tmp_path / "set", "rlds", options)
    assert (done.episodes, done.groups_kept, len(done.skipped)) == (2, 1, 2)


def simulated(path: Path, **faults: Any) -> Path:
    """As `write_bag`, with what only a simulator publishes."""
    contract = small_contract()
    with BagWriter(path, {"contract": contract.to_yaml()}) as writer:
        text = writer.types.create("std_msgs/String", data="{}")
        writer.write("/simulator/scene", "std_msgs/String", 1, text)
        Demonstration(**faults).write(writer)
    return path


def test_in_simulation_the_machine_is_too_slow(tmp_path: Path) -> None:
    """Neither cable nor exposure is to blame, and the advice is given once."""

    def late(name: str, t: float) -> bool:
        return name not in ("joint states", "camera primary", "observations") or round(t * 1000) % 3 != 0

    jitter = lambda name, t: t + 0.05 * (name == "camera primary" and round(t * 15) % 2)  # noqa: E731
    audit = audit_bag(simulated(tmp_path / "sim", keep=late, shift=jitter))
    (episode,) = audit.episodes.values()
    wrong = [f for f in episode.findings if f.level is Level.FAIL and f.check in ("rate", "gaps")]
    assert wrong and all(f.advice == TOO_SLOW and f.sentence.endswith(f"{TOO_SLOW}.") for f in wrong)
    remarks = " ".join(f.sentence for f in episode.findings if f.level is not Level.PASS)
    assert not re.search("cable|exposure|device|network|trigger", remarks)
    assert audit.failed and audit.sentence().count("too slow") == 1
    real = audit_bag(write_bag(tmp_path / "real", Demonstration(keep=late, shift=jitter)))
    assert real.failed and "too slow" not in real.sentence() and "look at the device" in real.sentence()
    assert [e.level for e in real.episodes.values()] == [episode.level]


@pytest.mark.parametrize("command", [("bag", "info"), ("bag", "repair"), ("bag", "audit"), ("data", "info")])
def test_the_folder_of_a_run_is_its_bag(tmp_path: Path, command: tuple[str, str]) -> None:
    write_bag(tmp_path / "run" / "bag", Demonstration())
    status, text = run(*command, tmp_path / "run")
    assert status == 0 and "is not a bag" not in text


def test_a_folder_of_bags_is_not_one(tmp_path: Path) -> None:
    folder = demos(tmp_path / "demos")
    status, text = run("bag", "info", folder)
    assert status == 2
    assert (
        text
        == f"{folder} is not a bag but a folder that holds 5 bags, name one of them: {folder / 'a_good'}.\n"
    )


def test_numbers_that_do_not_vary_are_named(tmp_path: Path) -> None:
    action = lambda k: np.array([0.01 * np.sin(k), 0.01, 0.01 * np.cos(k), 0, 0, 0, k % 2])  # noqa: E731
    bag = write_bag(tmp_path / "bag", Demonstration(action=action))
    status, text = run("data", "stats", bag)
    assert status == 0 and "action: y, roll, pitch, yaw do not vary (q01 = q99)" in text
    assert "proprio:" not in [line[:8] for line in text.splitlines() if "vary" in line]
