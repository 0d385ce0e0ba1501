"""A person in the whole graph: real processes, a simulated robot, keys through a pseudo-terminal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="MuJoCo is not installed")

from keyboard_driver import Drive, driven
from late_machine import Lateness

from vla_ros import msg
from vla_ros.bringup.graph import GraphOptions, TeleopOptions
from vla_ros.data.audit import Level
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.episode import Outcome

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)


def held(drive: Drive, key: str, seconds: float) -> np.ndarray:
    """How far the commanded tool went while a key was held [m].

    A key counts as held until its repetition fails to come, the step that ends with it may begin a period
    later and lasts a period, and the smooth stop takes some 0.2 s; after 0.8 s nothing moves any more.  Tried
    again only where this machine was seen to be late meanwhile.
    """
    for _ in range(4):
        before = np.array(drive.heard.tool)
        with Lateness() as late:
            drive.keys.hold(key, seconds)
            time.sleep(0.8)
            there = np.array(drive.heard.tool)
            time.sleep(0.3)
        moved = float(np.abs(np.array(drive.heard.tool) - there).max())
        if moved < 1e-3:
            return there - before
        assert late.worst > 0.05, f"{moved:.4f} m after the key was let go, and the machine kept its time"
        assert drive.at_rest()
    pytest.fail("The machine was late every time.")


def test_driving_by_keys(tmp_path: Path) -> None:
    with driven(tmp_path, GraphOptions(robot="panda", seed=4), TeleopOptions(task="pick")) as drive:
        heard, keys = drive.heard, drive.keys
        assert "inference" not in drive.running.runner.pids()
        assert heard.authority[-1].source == msg.Authority.PERSON
        drive.start_episode()
        for key, axis, sign in (("w", 0, 1.0), ("d", 1, -1.0), ("r", 2, 1.0)):
            moved = held(drive, key, 0.8)
            assert 0.02 < sign * moved[axis] < 0.09, key
            assert np.abs(np.delete(moved, axis)).max() < 0.005
        # the slow level is for the last centimetre
        keys.tap("1")
        assert 0.002 < held(drive, "w", 0.8)[0] < 0.015
        assert heard.status[-1].gripper_width > 0.07
        keys.tap(" ")
        assert drive.until(lambda: heard.status[-1].gripper_width < 0.005)
        keys.tap("y")
        assert drive.until(lambda: heard.episodes[-1].outcome == Outcome.SUCCESS)
        assert "person says" in heard.episodes[-1].reason
        # one regular grid from the first action to the last, all of them carried out
        steps = np.diff(heard.stamps()) / 0.2e9
        assert np.abs(steps - np.round(steps)).max() < 1e-6 and (steps > 0.5).all()
        carried = [to_stamp(chunk.header.stamp) for chunk in heard.chunks]
        # the listener may have found the chunker late, but nothing is missing from then on
        assert carried == [stamp for stamp in heard.stamps() if stamp >= carried[0]]
        drive.start_episode()
        assert drive.until(lambda: heard.episodes[-1].episode_id.endswith("2"))
        keys.tap("x")
        assert drive.until(lambda: heard.episodes[-1].outcome == Outcome.DISCARDED)
        # whoever drives dies while the robot moves: it comes to rest
        drive.start_episode()
        keys.hold("5", 0.1)
        keys.hold("w", 0.6)
        os.kill(drive.running.runner.pids()["teleop"], signal.SIGKILL)
        assert drive.until(lambda: not heard.status[-1].moving, 1.5)
        there = np.array(heard.tool)
        time.sleep(0.5)
        assert np.abs(np.array(heard.tool) - there).max() < 1e-6
        assert drive.running.runner.ended()["teleop"] == -signal.SIGKILL


def test_the_scripted_expert_takes_over_and_finishes(tmp_path: Path) -> None:
    options = GraphOptions(robot="widowx", policy="visual_servo", timeout=60.0, seed=3)
    teleop = TeleopOptions(device="scripted", task="pick", with_policy=True)
    with driven(tmp_path, options, teleop) as drive:
        heard, keys = drive.heard, drive.keys
        drive.start_episode()
        assert drive.until(lambda: len(heard.chunks) > 3 and heard.status[-1].moving)
        keys.tap("t")
        assert drive.until(lambda: heard.authority[-1].source == msg.Authority.PERSON)
        assert heard.authority[-1].device == "scripted"
        since = len(heard.chunks) + 1
        assert drive.until(lambda: heard.episodes[-1].outcome != Outcome.RUNNING, 45.0)
        assert heard.episodes[-1].outcome == Outcome.SUCCESS, heard.episodes[-1].reason
        assert {chunk.source for chunk in heard.chunks[since:]} == {msg.Authority.PERSON}


def test_taking_over_from_a_policy_and_handing_back(tmp_path: Path) -> None:
    options = GraphOptions(robot="widowx", policy="visual_servo", timeout=40.0, seed=3)
    teleop = TeleopOptions(task="pick", with_policy=True)
    with driven(tmp_path, options, teleop) as drive:
        heard, keys = drive.heard, drive.keys
        assert heard.authority[-1].source == msg.Authority.POLICY
        drive.start_episode()
        assert drive.until(lambda: len(heard.chunks) > 3 and heard.status[-1].moving)
        keys.tap("t")
        assert drive.until(lambda: heard.authority[-1].source == msg.Authority.PERSON)
        since = len(heard.chunks)
        begun = np.array(heard.tool)
        time.sleep(1.5)
        there = np.array(heard.tool)
        # it goes to where it was asked to be at that moment, no further
        assert np.linalg.norm(there - begun) < 0.05
        assert {chunk.source for chunk in heard.chunks[since + 1 :]} == {msg.Authority.PERSON}
        # the person does nothing, and so does the robot, whatever the policy answers
        answered = [m for m in heard.outputs[-8:] if m.source == msg.Authority.POLICY]
        time.sleep(1.0)
        assert np.abs(np.array(heard.tool) - there).max() < 1e-3
        assert answered
        assert held(drive, "r", 0.6)[2] > 0.01
        keys.tap("h")
        assert drive.until(lambda: heard.authority[-1].source == msg.Authority.POLICY)
        assert drive.until(lambda: heard.chunks[-1].source == msg.Authority.POLICY)
        changed = heard.authority[-1].header.stamp
        first = next(c for c in reversed(heard.chunks) if c.source == msg.Authority.POLICY)
        assert (first.header.stamp.sec, first.header.stamp.nanosec) >= (changed.sec, changed.nanosec)
        assert drive.until(lambda: heard.status[-1].moving)


def test_a_correction_becomes_data(tmp_path: Path) -> None:
    """A slow policy, taken over from and handed back to, that succeeds: usable, and marked step by step."""
    from vla_ros.data.audit import audit_bag
    from vla_ros.data.audit.look import TOO_SLOW, Look
    from vla_ros.data.conversion import Options, convert
    from vla_ros.data.open import bags_in, open_dataset

    options = GraphOptions(
        robot="widowx", policy="visual_servo", policy_delay=0.3, timeout=90.0, seed=3,
        record=str(tmp_path / "bags"),
    )  # fmt: skip
    with driven(tmp_path, options, TeleopOptions(task="pick", with_policy=True)) as drive:
        heard, keys = drive.heard, drive.keys
        drive.start_episode()
        assert drive.until(lambda: len(heard.chunks) > 3 and heard.status[-1].moving)
        for _ in range(2):
            keys.tap("t")
            assert drive.until(lambda: heard.authority[-1].source == msg.Authority.PERSON)
            keys.hold("r", 1.0)
            time.sleep(0.6)
            keys.tap("h")
            assert drive.until(lambda: heard.authority[-1].source == msg.Authority.POLICY)
            assert drive.until(lambda: heard.chunks[-1].source == msg.Authority.POLICY)
        assert drive.until(lambda: heard.episodes[-1].outcome != Outcome.RUNNING, 60.0)
        assert heard.episodes[-1].outcome == Outcome.SUCCESS, heard.episodes[-1].reason
        time.sleep(1.0)
        changes = [(to_stamp(m.header.stamp), m.source) for m in heard.authority]
    (bag,) = bags_in(tmp_path / "bags")
    looks: list[Look] = []
    audit = audit_bag(bag, visit=lambda look, episode: looks.append(look))
    (episode,) = audit.episodes.values()
    # What this machine was too slow for is not the subject: how often cameras and joints came.
    wrong = [
        f.sentence
        for f in (*audit.findings, *episode.findings)
        if f.level is Level.FAIL and f.advice != TOO_SLOW
    ]
    assert not wrong, wrong
    assert not episode.values("order") and episode.outcome == "success"
    # Refused answers lie between the person's steps, with older stamps: else this shows nothing.
    sent = [(o.published, o.stamp, o.source) for o in looks[0].record.outputs]
    older = [b for a, b in zip(sent, sent[1:], strict=False) if b[1] < a[1] and b[2] != a[2]]
    assert older
    person = [
        next(who for since, who in reversed(changes) if since <= stamp) == msg.Authority.PERSON
        for stamp in looks[0].steps.stamps
    ]
    assert looks[0].steps.person.tolist() == person and 6 < sum(person) < len(person)
    source = open_dataset(bag)
    assert source.steps(0) == len(person)
    for kind in ("lerobot", "rlds"):
        convert(source, tmp_path / kind, kind, Options(workers=1, accept_failed=audit.failed))
        made = open_dataset(tmp_path / kind).episode(0)
        assert made.extra["is_intervention"].reshape(-1).tolist() == person, kind
        assert made.metadata["outcome"] == "success" and made.is_terminal[-1]
