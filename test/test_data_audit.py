"""The audit: every fault put into a bag is reported with its size, and nothing else fails."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from demonstration_bag import Demonstration, at, small_contract, write_bag

from vla_ros.data.audit import AuditRules, BagAudit, Bounds, Level, audit_bag, load_rules
from vla_ros.data.audit import audit as audit_module
from vla_ros.data.audit.check_pairing import check_unpaired
from vla_ros.data.audit.checks import CHECKS
from vla_ros.data.audit.finding import Finding
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.rules import table_row
from vla_ros.data.bag import BagWriter
from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import episode_to_bag
from vla_ros.data.frames import EncodedFrames
from vla_ros.data.message_types import time_fields
from vla_ros.data.open import open_dataset
from vla_ros.errors import ConfigurationError, DataError

PERIOD = 0.2


def audited(tmp_path: Path, rules: AuditRules | None = None, **faults: Any) -> BagAudit:
    return audit_bag(write_bag(tmp_path / "bag", Demonstration(**faults)), rules)


def blamed(audit: BagAudit, level: Level = Level.WARN) -> set[str]:
    """Names of the checks that found something of at least that level."""
    found = {f.check for f in audit.findings if f.level >= level}
    for episode in audit.episodes.values():
        found |= {f.check for f in episode.findings if f.level >= level}
    return found


def test_a_good_episode_has_no_finding(tmp_path: Path) -> None:
    audit = audited(tmp_path)
    assert blamed(audit) == set() and not audit.failed
    assert audit.sentence() == f"{tmp_path / 'bag'}: usable, 1 episode."
    episode = audit.episodes["e0"]
    assert (episode.steps, episode.outcome) == (30, "success")
    assert episode.seconds == pytest.approx(6.0) and episode.sentence() == "Episode e0: usable"
    rates = episode.values("rate")
    assert rates["camera primary"] == pytest.approx(15, rel=0.02)
    assert rates["joint states"] == pytest.approx(125, rel=0.02)
    # Every check says something of a whole recording, but for those that are silent when all is well.
    quiet = {
        "present",
        "action space",
        "finite",
        "joint names",
        "order",
        "duplicates",
        "decodable",
        "image size",
    }
    assert len(CHECKS) == len(quiet | {f.check for f in episode.findings})


def test_nan_fails_and_names_the_dimension(tmp_path: Path) -> None:
    def action(k: int) -> np.ndarray:
        return np.array([0.01, 0.0, np.nan if k == 7 else 0.0, 0.0, 0.0, 0.1, float(k < 15)])

    audit = audited(tmp_path, action=action)
    assert audit.failed and blamed(audit, Level.FAIL) == {"finite"}
    assert "1 of 30 actions" in audit.sentence() and "'z' at 1.40 s" in audit.sentence()


@pytest.mark.parametrize(("dimension", "fails"), [(7, False), (6, True)])
def test_the_dimension_is_the_contracts(tmp_path: Path, dimension: int, fails: bool) -> None:
    audit = audited(tmp_path, action=lambda k: np.full(dimension, 0.01 + 0.01 * (k % 2)))
    assert ("action space" in blamed(audit, Level.FAIL)) is fails


@pytest.mark.parametrize(
    ("stream", "check"),
    [
        ("camera wrist", "present"),
        ("observations", "present"),
        ("joint states", "present"),
        ("actions", "present"),
    ],
)
def test_a_missing_stream_fails(tmp_path: Path, stream: str, check: str) -> None:
    audit = audited(tmp_path, keep=lambda name, t: name != stream)
    assert check in blamed(audit, Level.FAIL) and f"{stream}: no message on /" in audit.sentence()


def test_black_and_frozen_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    still = rng.integers(40, 200, (24, 32, 3)).astype(np.uint8)

    def picture(camera: str, t: float) -> np.ndarray:
        if camera == "wrist" and 1.0 <= t < 3.0:
            return still
        if camera == "primary" and t < 1.5:
            return np.full((24, 32, 3), 5, np.uint8) + (round(t * 15) % 2)
        return np.random.default_rng(round(t * 1000)).integers(40, 200, (24, 32, 3)).astype(np.uint8)

    audit = audited(tmp_path, picture=picture)
    (episode,) = audit.episodes.values()
    assert blamed(audit) == {"black", "frozen"} == blamed(audit, Level.FAIL)
    assert episode.values("frozen")["camera wrist"] == pytest.approx(2.0 / 6.0, abs=1.5 / 15 / 6)
    assert episode.values("frozen")["camera primary"] == 0.0
    assert episode.values("black")["camera primary"] == pytest.approx(0.25, abs=0.02)


def test_a_still_scene_is_not_frozen(tmp_path: Path) -> None:
    picture = np.full((24, 32, 3), 90, np.uint8)
    audit = audited(tmp_path, picture=lambda camera, t: picture, joints=lambda t: np.zeros(6))
    assert "frozen" not in blamed(audit) and "repeated" not in blamed(audit)


def test_a_camera_slower_than_its_topic(tmp_path: Path) -> None:
    def picture(camera: str, t: float) -> np.ndarray:
        frame = round(t * 15) // (2 if camera == "wrist" else 1)
        return np.random.default_rng(frame).integers(40, 200, (24, 32, 3)).astype(np.uint8)

    audit = audited(tmp_path, picture=picture)
    (episode,) = audit.episodes.values()
    assert blamed(audit) == {"repeated"}
    assert episode.values("repeated")["camera wrist"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_compressed_pictures_are_sampled(tmp_path: Path, form: str) -> None:
    def picture(camera: str, t: float) -> np.ndarray:
        level = 0 if t >= 3.0 and camera == "primary" else 120
        return np.full((24, 32, 3), level, np.uint8) + np.uint8(round(t * 15) % 5)

    def encode(pixels: np.ndarray) -> tuple[str, bytes]:
        return form, bytes(cv2.imencode(f".{form}", pixels[..., ::-1])[1].data)

    audit = audited(tmp_path, picture=picture, encode=encode)
    (episode,) = audit.episodes.values()
    assert blamed(audit, Level.FAIL) == {"black"}
    assert episode.values("black")["camera primary"] == pytest.approx(0.5, abs=0.25 / 6 + 0.01)


def test_broken_and_wrongly_sized_pictures(tmp_path: Path) -> None:
    audit = audited(tmp_path, encode=lambda pixels: ("jpeg", b"\xff\xd8 nothing"))
    assert "decodable" in blamed(audit, Level.FAIL)
    big = small_contract(cameras={"primary": {"width": 64, "height": 48}})
    episode = Demonstration(contract=small_contract(cameras={"primary": {"width": 32, "height": 24}}))
    audit = audit_bag(write_bag(tmp_path / "other", episode, contract=big.to_yaml()))
    assert "image size" in blamed(audit, Level.FAIL)
    assert "32 x 24 pixels, the contract says 64 x 48" in audit.sentence()


def test_the_controllers_states_and_reasons(tmp_path: Path) -> None:
    audit = audited(
        tmp_path,
        state=lambda t: 2 if t < 3.0 else 5 if t < 4.5 else 1,
        interventions=[(1.0, "floor"), (1.1, "floor"), (2.0, "leash")],
    )
    (episode,) = audit.episodes.values()
    found = episode.values("controller")
    assert found["limited"] == pytest.approx(0.5, abs=0.01) and found["stopped"] == pytest.approx(
        0.25, abs=0.01
    )
    assert blamed(audit, Level.FAIL) == {"controller"} and "limit: floor (2)" in audit.sentence()


def test_labels(tmp_path: Path) -> None:
    assert blamed(audited(tmp_path / "a", instruction=""), Level.FAIL) == {"instruction"}
    assert blamed(audited(tmp_path / "b", outcome=None)) == {"outcome"}
    assert blamed(audited(tmp_path / "c", outcome=3)) == {"outcome"}
    assert blamed(audited(tmp_path / "d", seconds=1.0)) >= {"length"}
    assert blamed(audited(tmp_path / "e", width=lambda t: 0.05)) == {"gripper"}


def test_stamps_of_another_clock(tmp_path: Path) -> None:
    """A recorder on the wall clock, stamps of simulated time."""
    audit = audited(
        tmp_path, shift=lambda name, t: t - 1e8, joints=lambda t: np.full(6, 0.2 * min(max(t, 1), 4))
    )
    assert blamed(audit) == set()
    busy = audited(
        tmp_path / "b",
        shift=lambda name, t: t - 1e8,
        action=lambda k: np.zeros(7),
        joints=lambda t: np.full(6, 0.2 * min(max(t, 2.4), 3)),
    )
    assert busy.episodes["e0"].values("idle")["start"] == pytest.approx(2.4, abs=0.2)
    assert busy.episodes["e0"].values("idle")["end"] == pytest.approx(3.0, abs=0.21)


def test_what_conversion_leaves_out_does_not_fail_the_bag(tmp_path: Path) -> None:
    def keep(name: str, t: float) -> bool:
        return name != "camera wrist"

    bad = Demonstration(keep=keep, outcome=5, episode_id="bad")
    audit = audit_bag(write_bag(tmp_path / "bag", bad, Demonstration(episode_id="good")))
    assert audit.episodes["bad"].failed and not audit.episodes["good"].failed and not audit.failed
    audit = audit_bag(write_bag(tmp_path / "same", Demonstration(), Demonstration()))
    assert blamed(audit, Level.FAIL) == {"episodes"} and len(audit.episodes) == 2


def test_bags_without_contract_without_episode_or_end(tmp_path: Path) -> None:
    audit = audit_bag(write_bag(tmp_path / "bare", Demonstration(), contract=""))
    assert blamed(audit, Level.FAIL) == {"contract"}
    with BagWriter(tmp_path / "empty", {"contract": small_contract().to_yaml()}) as writer:
        writer.write(
            "/vla/instruction", "std_msgs/String", 1, writer.types.create("std_msgs/String", data="x")
        )
    audit = audit_bag(tmp_path / "empty")
    assert blamed(audit, Level.FAIL) == {"episodes"}
    bag = write_bag(tmp_path / "cut", Demonstration())
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-2000])
    audit = audit_bag(bag)
    assert "closed" in blamed(audit, Level.FAIL) and "vla-ros bag repair" in audit.sentence()
    audit = audit_bag(write_bag(tmp_path / "odd", Demonstration(), contract="robot: nobody\n"))
    assert blamed(audit, Level.FAIL) == {"contract"} and "unknown robot 'nobody'" in audit.sentence()
    with pytest.raises(DataError, match="does not exist"):
        audit_bag(tmp_path / "nothing")


@pytest.mark.parametrize("after", [0.05, 5.0])
def test_an_episode_that_is_discarded_after_its_end(tmp_path: Path, after: float) -> None:
    with BagWriter(tmp_path / "bag", {"contract": small_contract().to_yaml()}) as writer:
        Demonstration(keep=lambda name, t: name != "camera wrist").write(writer)
        for seconds, outcome in ((6.0 + after, 5), (6.1 + after, 0)):
            stamp = at(seconds)
            kind, header = "vla_ros/EpisodeStatus", {"stamp": time_fields(stamp)}
            status = writer.types.create(kind, header=header, episode_id="e0", outcome=outcome)
            writer.write("/vla/episode_status", kind, stamp, status)
    audit = audit_bag(tmp_path / "bag")
    episode = audit.episodes["e0"]
    assert episode.outcome == "discarded" and episode.seconds == pytest.approx(6.0) and not audit.failed


def test_the_steps_are_those_of_the_reader(tmp_path: Path) -> None:
    """An action on the last moment is recorded behind the end, and is a step."""
    late = Demonstration(
        recorded=lambda name, t: t + 0.01 * (name == "actions"), seconds=5.99, episode_id="a"
    )
    bag = write_bag(tmp_path / "bag", late, Demonstration(episode_id="b"))
    last = Demonstration(episode_id="c", recorded=lambda name, t: 6.0 if name == "actions" and t > 5.7 else t)
    audit, dataset = audit_bag(bag), open_dataset(bag)
    assert [one.steps for one in audit.episodes.values()] == [dataset.steps(k) for k in range(2)]
    bag = write_bag(tmp_path / "last", last)
    assert audit_bag(bag).episodes["c"].steps == open_dataset(bag).steps(0) == 30


def test_what_the_recorder_dropped_is_told(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", {"contract": small_contract().to_yaml()}) as writer:
        Demonstration().write(writer)
        writer.conclude({"dropped": json.dumps({"/a": 2, "/b": 40})})
    audit = audit_bag(tmp_path / "bag")
    assert blamed(audit) == {"dropped"} and "42 messages, most of /b (40)" in audit.sentence()


def test_a_damaged_bag_says_how_far_it_was_read(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", *(Demonstration(episode_id=f"e{k}") for k in range(3)))
    (file,) = bag.glob("*.mcap")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))
    audit = audit_bag(bag)
    assert "readable" in blamed(audit, Level.FAIL) and "corrupt" in audit.sentence()


def imported_episode(actions: np.ndarray) -> Episode:
    count = len(actions)
    rng = np.random.default_rng(1)
    frames = [
        bytes(cv2.imencode(".jpg", rng.integers(0, 255, (24, 32, 3)).astype(np.uint8))[1].data)
        for _ in range(count)
    ]
    return Episode(
        source="set, record 3",
        actions=actions,
        states=np.cumsum(actions, axis=0),
        is_first=np.arange(count) == 0,
        is_last=np.arange(count) == count - 1,
        is_terminal=np.arange(count) == count - 1,
        instructions=("put the pan on the stove",) * count,
        images={"image_0": EncodedFrames(frames)},
    )


def test_imported_bags(tmp_path: Path) -> None:
    actions = np.random.default_rng(0).uniform(-0.03, 0.03, (20, 7))
    actions[:, 6] = np.arange(20) < 10
    episode_to_bag(imported_episode(actions), tmp_path / "good")
    audit = audit_bag(tmp_path / "good")
    assert blamed(audit) == set() and audit.episodes["set, record 3"].steps == 20
    actions[4, 2] = np.inf
    actions[5:10, 0] = 0.2
    episode_to_bag(imported_episode(actions), tmp_path / "bad")
    audit = audit_bag(tmp_path / "bad")
    assert blamed(audit, Level.FAIL) == {"finite", "clipped"}
    assert audit.episodes["set, record 3"].values("clipped")["beyond"] == pytest.approx(6 / 20)


def test_a_camera_that_an_imported_episode_does_not_have(tmp_path: Path) -> None:
    actions = np.random.default_rng(0).uniform(-0.03, 0.03, (20, 7))
    actions[:, 6] = np.arange(20) < 10
    one = imported_episode(actions)
    black = bytes(cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].data)
    images = {**one.images, "image_1": EncodedFrames([black] * 20)}
    episode_to_bag(replace(one, images=images), tmp_path / "bag")
    audit = audit_bag(tmp_path / "bag")
    assert not audit.failed and blamed(audit) == {"black"} and "did not have" in audit.sentence()


def test_a_policy_with_chunks_and_a_person_who_takes_over(tmp_path: Path) -> None:
    looks: list[Look] = []
    source = lambda k: int(10 <= k < 20)  # noqa: E731
    bag = write_bag(tmp_path / "mixed", Demonstration(source=source))
    audit_bag(bag, visit=lambda look, episode: looks.append(look))
    assert looks[0].steps.interventions.tolist() == [10 <= k < 20 for k in range(30)]

    def chunk(k: int) -> np.ndarray:
        return np.full((4, 7), 0.001 * k) + 0.0001 * np.arange(4)[:, None]

    # Chunks of 4 steps, one every two steps, except that one is missing: nothing is lost by that ...
    chunks = Demonstration(chunk=chunk, keep=lambda n, t: n != "actions" or round(t / PERIOD) % 2 == 0)
    audit_bag(write_bag(tmp_path / "a", chunks), visit=lambda look, episode: looks.append(look))
    steps = looks[1].steps
    assert len(steps) == 30 and steps.missing == 0
    np.testing.assert_allclose(
        steps.values[:, 0], [0.001 * (k - k % 2) + 0.0001 * (k % 2) for k in range(30)], atol=1e-8
    )
    # ... but one in 6 leaves two steps of six without a row.
    rare = Demonstration(chunk=chunk, keep=lambda n, t: n != "actions" or round(t / PERIOD) % 6 == 0)
    audit = audit_bag(write_bag(tmp_path / "b", rare))
    assert "action grid" in blamed(audit, Level.FAIL)
    assert audit.episodes["e0"].values("action grid")["missing"] == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85, 0.999])
def test_a_bag_cut_off_anywhere_is_a_verdict_or_a_sentence(tmp_path: Path, share: float) -> None:
    bag = write_bag(tmp_path / "bag", Demonstration(seconds=2.0), Demonstration(seconds=2.0, episode_id="e1"))
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    try:
        audit = audit_bag(bag)
    except DataError:
        return
    assert audit.failed and "closed" in blamed(audit, Level.FAIL)


def test_rules_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("steps: {fail: 40}\nidle_end: {warn: null}\nfrozen_after: 2\n")
    rules = load_rules(path)
    assert (
        rules.steps == Bounds(None, 40.0)
        and rules.idle_end == Bounds(None, None)
        and rules.frozen_after == 2.0
    )
    assert rules.rate == AuditRules().rate
    assert blamed(audited(tmp_path, rules), Level.FAIL) == {"length"}
    for text, words in (
        ("step: {fail: 1}", "'step' is unknown"),
        ("steps: 3", "takes 'warn' and 'fail'"),
        ("steps: {fail: many}", "must be a number"),
        ("frozen_after: -1", "must be a number"),
        ("- a", "must map"),
        ("a: [", "not valid YAML at line 1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            load_rules(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")


def test_every_check_is_documented() -> None:
    package = Path(audit_module.__file__).parent
    names = set()
    for path in package.glob("*.py"):
        names |= set(
            re.findall(r'(?:Finding|_fail|_judged)\(\s*"([a-z ]+)"', path.read_text(encoding="utf-8"))
        )
    assert len(names) >= 24
    text = (Path(__file__).parents[1] / "docs" / "audit.md").read_text(encoding="utf-8")
    table = text[text.index("## What is looked at") : text.index("## Limits")]
    first = ", ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| "))
    assert names <= {name.strip() for name in first.split(",")}


def test_every_rule_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "audit.md").read_text(encoding="utf-8")
    for name, limit, said in AuditRules().limits():
        assert table_row(name, limit, said) in text, f"docs/audit.md lacks: {table_row(name, limit, said)}"


def test_a_frame_recorded_behind_its_observation_is_not_missing() -> None:
    """At the end of an episode a large frame may come after the observation that was made of it."""

    def found(on_topic: list[int]) -> list[Finding]:
        seen = [SimpleNamespace(frames=[("primary", stamp)]) for stamp in (10, 20, 30, 40)]
        cameras = {"primary": SimpleNamespace(stream=SimpleNamespace(stamps=np.array(on_topic)))}
        record = SimpleNamespace(observations=seen, cameras=cameras)
        return list(check_unpaired(SimpleNamespace(rules=AuditRules(), record=record)))  # type: ignore[arg-type]

    assert [finding.value for finding in found([20, 30])] == [0.0]
    assert [finding.value for finding in found([10, 30, 40])] == [0.25]
